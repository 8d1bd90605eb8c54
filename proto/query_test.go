package proto

import (
	"errors"
	"reflect"
	"testing"
)

func TestParseQuery(t *testing.T) {
	for _, c := range []struct {
		query string
		want  JoinQuery
	}{
		{"", JoinQuery{Echo: true}},
		{"since=0", JoinQuery{Since: new(Offset(0)), Echo: true}},
		{"since=42&epoch=a%2Fb&name=%E5%A4%A7+x&echo=0", JoinQuery{Since: new(Offset(42)), Epoch: "a/b", Name: "大 x"}},
		{"last=1000&echo=1", JoinQuery{Last: 1000, Echo: true}},
		{"members=1&echo=0", JoinQuery{Members: true}},
		{"members=0", JoinQuery{Echo: true}},
		{"last=0", JoinQuery{Echo: true}},
		{"utm=1&utm=2&Since=5", JoinQuery{Echo: true}},
		{"since=9007199254740991", JoinQuery{Since: new(MaxOffset), Echo: true}},
	} {
		got, err := ParseQuery(c.query)
		if err != nil {
			t.Errorf("?%s should be accepted, but: %v", c.query, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("?%s should be read as %+v, not as %+v", c.query, c.want, got)
		}
	}
	for _, c := range []struct{ query, want string }{
		{"since=-1", `since must be a whole number from 0 to 9007199254740991, not "-1"`},
		{"since=", `since must be a whole number from 0 to 9007199254740991, not ""`},
		{"since=%2B1", `since must be a whole number from 0 to 9007199254740991, not "+1"`},
		{"since=1.5", `since must be a whole number from 0 to 9007199254740991, not "1.5"`},
		{"since=9007199254740992", `since must be a whole number from 0 to 9007199254740991, not "9007199254740992"`},
		{"since=99999999999999999999", `since must be a whole number from 0 to 9007199254740991, not "99999999999999999999"`},
		{"since=1&since=2", `the parameter since is given 2 times; give it once`},
		{"since=1&last=1", `since and last cannot be combined; give one of them`},
		{"last=1001", `last must be a whole number from 0 to 1000, not "1001"`},
		{"last=all", `last must be a whole number from 0 to 1000, not "all"`},
		{"echo=no", `echo must be 0 or 1, not "no"`},
		{"members=2", `members must be 0 or 1, not "2"`},
		{"members=1&members=1", `the parameter members is given 2 times; give it once`},
		{"echo=", `echo must be 0 or 1, not ""`},
		{"name=a%0Ab", `name cannot be used: byte 1 is the control character U+000A; remove it`},
		{"name=%FF", `name cannot be used: it is not valid UTF-8`},
		{"name=%", `the query cannot be read: invalid URL escape "%"`},
	} {
		_, err := ParseQuery(c.query)
		var e *Error
		if !errors.As(err, &e) || e.Code != 107 || e.Message != c.want {
			t.Errorf("?%s should be refused with 107 and\n%s, not with\n%v", c.query, c.want, err)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("since=42&epoch=e&name=ann&echo=0")
	f.Add("last=7")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := ParseQuery(query)
		if err != nil {
			if !errors.Is(err, ErrBadRequest) {
				t.Fatalf("%q is refused with %v, which is not a bad request", query, err)
			}
			return
		}
		if q.Since != nil && (*q.Since > MaxOffset || q.Last != 0) || q.Last < 0 || q.Last > MaxHistory || CheckUser(q.Name) != nil {
			t.Fatalf("%q is accepted as %+v, which is outside the limits", query, q)
		}
	})
}
