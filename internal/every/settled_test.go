package every

import "testing"

func TestAChangeCountsAtTheSecondLookThatFindsIt(t *testing.T) {
	s := Settle("a")
	for i, look := range []struct {
		found string
		judge bool
	}{
		{"a", false},
		{"half", false},
		{"b", false},
		{"b", true},
		{"b", false}, // half written, and then whole
		{"", false},
		{"b", false},
		{"b", false}, // as it was, after a moment in which it was empty
		{"c", false},
		{"c", true},
		{"b", false},
		{"b", true}, // back to what was judged before the last
	} {
		if got := s.Changed(look.found); got != look.judge {
			t.Errorf("look %d finds %q, which is to be judged: %v, not %v", i, look.found, look.judge, got)
		}
	}
}
