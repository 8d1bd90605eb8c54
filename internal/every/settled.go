package every

// Settled judges what is looked at again and again, such as what a file holds. A change counts once two looks in a row have found the
// same: the first may have found a file that is half written. It has one owner, and is not to be used by several goroutines at once.
type Settled[T comparable] struct {
	last T // as it was at the last look
	seen T // what was last judged
}

// Settle makes a Settled of what was there at the start, which was judged.
func Settle[T comparable](now T) Settled[T] { return Settled[T]{last: now, seen: now} }

// Changed takes what a look found, and says whether it is to be judged now.
func (s *Settled[T]) Changed(now T) bool {
	settled := now == s.last
	s.last = now
	if !settled || now == s.seen {
		return false
	}
	s.seen = now
	return true
}
