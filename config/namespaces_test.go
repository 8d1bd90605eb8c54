package config

import (
	"maps"
	"strings"
	"testing"
	"time"
)

func TestNamespacesFromEverySource(t *testing.T) {
	want := Namespaces{
		"live": {Class: ClassLive, Merge: 50 * time.Millisecond}, "big": {Class: ClassDurable, Merge: 200 * time.Millisecond},
		"room": {
			Class: ClassDurable, Subscribe: "anyone", Publish: "user", History: "subscriber", Presence: "nobody",
			JoinLeave: true, Pattern: `[a-z]{1,3}";`, Count: 5, Age: 24 * time.Hour,
		},
	}
	text := ` live: class=live, merge=50ms ; big:merge=200ms;room: subscribe=anyone,publish=user, history=subscriber ,presence=nobody,` +
		`join_leave=true, pattern = "[a-z]{1,3}\";",count=5,age=1d;`
	for source, load := range map[string]func() (Config, error){
		"the file": func() (Config, error) {
			return Load(write(t, "namespaces:\n  live: {class: live, merge: 50ms}\n  big:\n    merge: 200ms\n"+
				"  room: {subscribe: anyone, publish: user, history: subscriber, presence: nobody, join_leave: true, pattern: '[a-z]{1,3}\";', "+
				"count: 5, age: 1d}\n"), nil, nil)
		},
		"a text in the file": func() (Config, error) { return Load(write(t, "namespaces: '"+text+"'\n"), nil, nil) },
		"the environment":    func() (Config, error) { return Load("", []string{"BARRAGE_NAMESPACES=" + text}, nil) },
		"a flag": func() (Config, error) {
			return Load(write(t, "namespaces: {old: {class: live}}\n"), nil, map[string]string{"namespaces": text})
		},
	} {
		c, err := load()
		if err != nil || !maps.Equal(c.Namespaces, want) {
			t.Errorf("%s must give %v, got %v, %v", source, want, c.Namespaces, err)
		}
	}
}

func TestBadNamespacesInOneText(t *testing.T) {
	for text, want := range map[string]string{
		"live:clas=live":             `live: unknown key "clas"; did you mean class?`,
		"live:class=durabel":         `live: "durabel" is not a class; did you mean durable? There are durable and live`,
		"live:live":                  `"live" has no value; write it like live:class=live,merge=50ms;big:merge=200ms`,
		"a:merge=1s;a:merge=2s":      `the namespace "a" is given twice; keep one`,
		"a:merge=1s,merge=2s":        `merge of the namespace "a" is given twice; keep one`,
		"a:merge=soon":               `a: "soon" is not a duration`,
		"live:class=live,merg=100ms": `did you mean merge?`,
		"a:publish=users":            `a: publish: "users" says not who may; did you mean user? There are nobody, subscriber, user, anyone`,
		"a:join_leave=perhaps":       `a: "perhaps" is neither true nor false`,
		"a:count=x":                  `a: "x" is not a whole number`,
		`a:pattern="x`:               `a: "x of pattern is no text in double quotes`,
	} {
		_, err := Load("", nil, map[string]string{"namespaces": text})
		if err == nil || !strings.Contains(err.Error(), "--namespaces: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q must be refused with %q, got %v", text, want, err)
		}
	}
	for text, want := range map[string]string{
		"a b:class=live": `namespaces: "a b" cannot name a namespace; give 1 to 64 letters`,
		":class=live":    `namespaces: "" cannot name a namespace`,
		"a:merge=11s":    "namespaces.a.merge: 11s is out of bounds; give 0s to 10s",
		"a:merge=-1s":    "namespaces.a.merge: -1s is out of bounds",
		"a:pattern=x)|(": `namespaces.a.pattern: "x)|(" is not a regular expression (RE2) of at most 1000 bytes`,
		"a:count=-1":     "namespaces.a.count: -1 is negative",
		"a:age=-1s":      "namespaces.a.age: -1s is too short",
	} {
		c, err := Load("", nil, map[string]string{"namespaces": text})
		if err != nil {
			t.Fatalf("%q is understood: %v", text, err)
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q must be refused with %q, got %v", text, want, err)
		}
	}
}
