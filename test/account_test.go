package test

import (
	"strings"
	"testing"
	"time"
)

// story fills an account with two messages, acknowledged at 1 and 2, and a third that was sent only.
func story(events func(a *Account, s *Seen)) error {
	a := NewAccount()
	for _, key := range []string{"x", "y", "z"} {
		a.Sent(key)
	}
	a.Acked("x", 1)
	a.Acked("y", 2)
	s := a.Subscriber("sub", 0)
	events(a, s)
	return a.Check()
}

func TestAccountSaysPreciselyWhatIsWrong(t *testing.T) {
	got := func(s *Seen, offset uint64, key string) { s.Got(offset, key, time.Time{}) }
	tests := []struct {
		name   string
		events func(a *Account, s *Seen)
		want   string // part of the report; empty means none
	}{
		{"all is well", func(_ *Account, s *Seen) { got(s, 1, "x"); got(s, 2, "y") }, ""},
		{"not acknowledged, yet stored once", func(_ *Account, s *Seen) { got(s, 1, "x"); got(s, 2, "y"); got(s, 3, "z") }, ""},
		{"end missing", func(_ *Account, s *Seen) { got(s, 1, "x") }, "sub saw nothing after offset 1, and 2 was acknowledged"},
		{"gap", func(_ *Account, s *Seen) { got(s, 2, "y") }, "sub missed offsets 1 to 1"},
		{"repeat", func(_ *Account, s *Seen) { got(s, 1, "x"); got(s, 1, "x"); got(s, 2, "y") }, "sub saw offset 1 (x) again"},
		{"stored twice", func(_ *Account, s *Seen) { got(s, 1, "x"); got(s, 2, "y"); got(s, 3, "x") }, "sub saw x twice, at offsets 1 and 3"},
		{"swapped", func(_ *Account, s *Seen) { got(s, 1, "y"); got(s, 2, "x") }, "it was acknowledged at"},
		{"invented", func(_ *Account, s *Seen) { got(s, 1, "x"); got(s, 2, "y"); got(s, 3, "q") }, "which nobody sent"},
		{"two offsets", func(a *Account, s *Seen) { got(s, 1, "x"); got(s, 2, "y"); a.Acked("x", 2) }, "acknowledged at offset 1, and later at 2"},
		{"one offset for two", func(a *Account, s *Seen) { got(s, 1, "x"); got(s, 2, "y"); a.Acked("z", 2) }, "offset 2 was acknowledged to both"},
		{"two subscribers disagree", func(a *Account, s *Seen) {
			got(s, 1, "x")
			got(s, 2, "y")
			got(s, 3, "z")
			a.Sent("w")
			other := a.Subscriber("other", 0)
			got(other, 1, "x")
			got(other, 2, "y")
			got(other, 3, "w")
		}, "other saw w at offset 3, others or the acknowledgement say z"},
		{"complaint", func(a *Account, s *Seen) { got(s, 1, "x"); got(s, 2, "y"); a.Wrong("a reset at %d", 7) }, "a reset at 7"},
	}
	for _, tt := range tests {
		err := story(tt.events)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: no report expected, got %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: the report says %q, got %v", tt.name, tt.want, err)
		}
	}
}
