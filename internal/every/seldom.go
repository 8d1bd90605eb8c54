package every

import (
	"sync/atomic"
	"time"
)

// Seldom lets some of what happens very often be said. The zero value is ready; May may be called from any goroutine.
type Seldom struct {
	last   atomic.Int64 // when something was said, in Unix nanoseconds
	unsaid atomic.Int64 // since then
}

// May says whether something may be said, which is when nothing was for d, and how often it might not be since the last time.
func (s *Seldom) May(d time.Duration) (unsaid int64, ok bool) {
	now := time.Now().UnixNano()
	if last := s.last.Load(); now-last < int64(d) || !s.last.CompareAndSwap(last, now) {
		s.unsaid.Add(1)
		return 0, false
	}
	return s.unsaid.Swap(0), true
}
