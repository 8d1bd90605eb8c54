package every

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSeldomLetsOneThroughAndCountsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Seldom
		expect := func(when string, wantUnsaid int64, want bool) {
			t.Helper()
			if unsaid, ok := s.May(time.Second); ok != want || unsaid != wantUnsaid {
				t.Errorf("%s it is said: %v, with %d left out; it was %v, with %d", when, want, wantUnsaid, ok, unsaid)
			}
		}
		expect("at first", 0, true)
		var all sync.WaitGroup
		var said atomic.Int64
		for range 9 {
			all.Go(func() {
				if _, ok := s.May(time.Second); ok {
					said.Add(1)
				}
			})
		}
		all.Wait()
		if said.Load() != 0 {
			t.Errorf("nothing is said again at once, it was %d times", said.Load())
		}
		time.Sleep(time.Second - 1)
		expect("just before a second is over", 0, false)
		time.Sleep(time.Nanosecond)
		expect("after a second", 10, true)
		time.Sleep(time.Minute)
		expect("after a while", 0, true)
	})
}
