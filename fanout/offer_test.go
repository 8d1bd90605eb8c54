package fanout

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// heard counts how often it was told of room.
type heard struct{ atomic.Int32 }

// Room implements Waiter.
func (h *heard) Room() { h.Add(1) }

// sipping is a socket that takes nothing until it is given something to take.
type sipping struct {
	nowhere
	room atomic.Int64
}

func (s *sipping) TryWrite(b []byte) (int, error) {
	n := min(len(b), int(s.room.Load()))
	s.room.Add(-int64(n))
	return n, nil
}

func TestWhatIsOfferedWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		s, h := &sipping{}, &heard{}
		out := NewOutlet(w, s, 1000)
		defer out.Close()
		take := func(n int64) {
			s.room.Store(n)
			out.Writable()
			synctest.Wait()
			s.room.Store(0)
		}
		synctest.Wait()
		if !out.Offer(make([]byte, 5000), h) || out.Pending() != 5000 {
			t.Fatal("with little pending, what is offered is queued, however much it is")
		}
		synctest.Wait()
		if out.Offer(make([]byte, 1), h) || out.Offer(nil, h) || out.Pending() != 5000 {
			t.Error("with more than half of the limit pending, nothing is")
		}
		out.Answer(make([]byte, 100))
		if !out.Send(make([]byte, 1000)) || out.Send(make([]byte, 1)) {
			t.Error("what is sent has the limit for itself, whatever was answered")
		}
		take(5000)
		if h.Load() != 0 || out.Offer(nil, h) {
			t.Errorf("%d bytes are more than half of the limit", out.Pending())
		}
		take(600)
		if h.Load() != 1 {
			t.Errorf("that there is room is told once, not %d times", h.Load())
		}
		if !out.Offer(make([]byte, 1), h) {
			t.Error("then there is")
		}
		take(1000)
		out.Offer(make([]byte, 600), h)
		synctest.Wait()
		out.Offer(nil, h)
		take(10_000)
		if h.Load() != 2 || out.Pending() != 0 {
			t.Errorf("who waits hears of it when all was taken, too; %d times, %d pending", h.Load(), out.Pending())
		}
		out.End(make([]byte, 600))
		if !out.Offer(make([]byte, 1), h) || out.Pending() != 600 {
			t.Error("when the end is near nothing waits, and nothing is queued")
		}
	})
}
