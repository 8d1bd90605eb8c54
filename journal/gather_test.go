package journal

import (
	"runtime"
	"testing"
)

func (l *lane) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// Publishers who can go on are let, so that they share the next batch. The scheduler may now and then have it otherwise: one of a few
// attempts must do.
func TestGatherLetsPublishersGoOn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const publishers, attempts = 8, 20
	for range attempts {
		l := &lane{wake: make(chan struct{}, 1)}
		pushed := make(chan bool, publishers)
		for range publishers {
			go func() { pushed <- l.push(item{}) }()
		}
		l.gather()
		gathered := l.length()
		for range publishers {
			<-pushed
		}
		if gathered == publishers {
			return
		}
	}
	t.Errorf("%d publishers that are ready must be gathered in one of %d attempts", publishers, attempts)
}

// Nobody is waited for: a lane into which nobody publishes, or that has a whole batch, is left as it is.
func TestGatherWaitsForNobody(t *testing.T) {
	for _, queued := range []int{0, 1, MaxBatch} {
		l := &lane{wake: make(chan struct{}, 1), queue: make([]item, queued)}
		l.gather()
		if n := l.length(); n != queued {
			t.Errorf("gathering must leave a queue of %d as it is, not make it %d", queued, n)
		}
	}
}
