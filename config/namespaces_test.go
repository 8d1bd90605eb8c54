package config

import (
	"maps"
	"strings"
	"testing"
	"time"
)

func TestNamespacesFromEverySource(t *testing.T) {
	want := Namespaces{"live": {ClassLive, 50 * time.Millisecond}, "big": {ClassDurable, 200 * time.Millisecond}}
	text := " live: class=live, merge=50ms ; big:merge=200ms;"
	for source, load := range map[string]func() (Config, error){
		"the file": func() (Config, error) {
			return Load(write(t, "namespaces:\n  live: {class: live, merge: 50ms}\n  big:\n    merge: 200ms\n"), nil, nil)
		},
		"a text in the file": func() (Config, error) { return Load(write(t, "namespaces: \""+text+"\"\n"), nil, nil) },
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
