package load

// Account says what became of the deliveries of some connections. Every message is counted once as received, however often
// it came.
type Account struct {
	Expected   int64 `json:"expected"`
	Received   int64 `json:"received"`
	Lost       int64 `json:"lost"`
	Repeated   int64 `json:"repeated"`
	OutOfOrder int64 `json:"out_of_order"`
	// Foreign counts markers of other runs or streams.
	Foreign int64 `json:"foreign,omitempty"`
}

func (a *Account) add(b Account) {
	a.Expected += b.Expected
	a.Received += b.Received
	a.Lost += b.Lost
	a.Repeated += b.Repeated
	a.OutOfOrder += b.OutOfOrder
	a.Foreign += b.Foreign
}

// maxHoles bounds the holes that are remembered for one connection. What is missing in a hole that is forgotten stays
// lost, and counts as repeated if it comes after all.
const maxHoles = 1024

// hole is a range of numbers that a connection has missed so far: from <= n < to.
type hole struct{ from, to int32 }

// ledger keeps the account of lines: a line is one stream as one connection receives it. What is usual, the next number in
// turn, costs an addition; only lines that missed something have more than their counter.
type ledger struct {
	Account
	// next is, by line, the number that it must receive next.
	next []int32
	// holes of the lines that have some, ascending.
	holes map[int32][]hole
}

func newLedger(lines int) *ledger {
	return &ledger{next: make([]int32, lines), holes: map[int32][]hole{}}
}

// receive counts message n of line c. It is true unless c had it before.
func (l *ledger) receive(c, n int32) bool {
	switch next := l.next[c]; {
	case n == next:
		l.next[c]++
	case n > next:
		if h := l.holes[c]; len(h) < maxHoles {
			l.holes[c] = append(h, hole{next, n})
		}
		l.next[c] = n + 1
	case l.fill(c, n):
		l.OutOfOrder++
	default:
		l.Repeated++
		return false
	}
	l.Received++
	return true
}

// fill takes n out of the holes of c; false when it is in none.
func (l *ledger) fill(c, n int32) bool {
	holes := l.holes[c]
	for i, h := range holes {
		if n < h.from || n >= h.to {
			continue
		}
		left, right := hole{h.from, n}, hole{n + 1, h.to}
		switch {
		case left.from < left.to && right.from < right.to:
			holes[i] = left
			holes = append(holes, hole{})
			copy(holes[i+2:], holes[i+1:])
			holes[i+1] = right
		case left.from < left.to:
			holes[i] = left
		case right.from < right.to:
			holes[i] = right
		default:
			holes = append(holes[:i], holes[i+1:]...)
		}
		if len(holes) == 0 {
			delete(l.holes, c)
		} else {
			l.holes[c] = holes
		}
		return true
	}
	return false
}

// settle sets what was expected, and with it what is lost.
func (l *ledger) settle(expected int64) {
	l.Expected = expected
	l.Lost = expected - l.Received
}

// had is how many messages the count lines from first on have received.
func (l *ledger) had(first, count int) (n int64) {
	for c := first; c < first+count; c++ {
		n += int64(l.next[c])
		for _, h := range l.holes[int32(c)] {
			n -= int64(h.to - h.from)
		}
	}
	return n
}
