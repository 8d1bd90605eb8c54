package test

import "testing"

func TestALedgerFindsWhatIsWrong(t *testing.T) {
	tests := []struct {
		name string
		do   func(*Ledger)
		want int
	}{
		{"nothing happened", func(*Ledger) {}, 0},
		{"all is well", func(l *Ledger) {
			for _, who := range []string{"a", "b"} {
				l.Got(who, 1, "x")
				l.Got(who, 2, "y")
			}
			l.Acked("x")
		}, 0},
		{"a gap, which leaves a message that nobody saw", func(l *Ledger) { l.Got("a", 2, "y") }, 2},
		{"a message twice", func(l *Ledger) { l.Got("a", 1, "x"); l.Got("a", 1, "x") }, 1},
		{"a message stored twice", func(l *Ledger) { l.Got("a", 1, "x"); l.Got("a", 2, "x") }, 1},
		{"two who see different messages", func(l *Ledger) { l.Got("a", 1, "x"); l.Got("b", 1, "y") }, 1},
		{"one who saw less", func(l *Ledger) { l.Got("a", 1, "x"); l.Subscribed("b") }, 1},
		{"a message that was acknowledged and lost", func(l *Ledger) { l.Acked("x") }, 1},
	}
	for _, tt := range tests {
		l := NewLedger()
		tt.do(l)
		if wrong := l.Check(); len(wrong) != tt.want {
			t.Errorf("%s: the ledger complains %d times: got %q", tt.name, tt.want, wrong)
		}
	}
}
