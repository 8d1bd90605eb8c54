package spare

import (
	"context"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhenMemoryIsGivenBack(t *testing.T) {
	const mib = 1 << 20
	for sentence, c := range map[string]struct {
		before, now state
		want        bool
	}{
		"garbage as large as what is live is worth it": {state{allocated: 50 * mib}, state{50*mib + 1, 20 * mib, 10 * mib, 0}, true},
		"so is memory that was freed and kept":         {state{}, state{1, 10 * mib, 10 * mib, 10 * mib}, true},
		"not while the process works":                  {state{allocated: 50 * mib}, state{60 * mib, 20 * mib, 10 * mib, 0}, false},
		"a little garbage is not":                      {state{}, state{1, 10*mib + mib/4, 10 * mib, mib / 4}, false},
		"nor is anything in a small process":           {state{}, state{1, mib, mib - mib/8, mib / 8}, false},
		"before the first collection all may be live":  {state{}, state{1, 3 * mib, 0, 0}, true},
	} {
		if got := c.now.wasteful(c.before); got != c.want {
			t.Errorf("%s: %v", sentence, got)
		}
	}
}

var kept [][]byte

func TestMemoryIsGivenBackAndRunEnds(t *testing.T) {
	for range 1 << 14 {
		kept = append(kept, make([]byte, 4<<10))
	}
	r := newReader()
	before := r.read()
	kept = nil
	runtime.GC() // finds it free, and keeps it for the next time
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { Run(ctx); close(done) }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if now := r.read(); now.objects+now.free < (before.objects+before.free)/2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what is not used any more goes back to the system")
		}
	}
	cancel()
	<-done
}
