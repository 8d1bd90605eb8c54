package stress

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"barrage/gateway"
	"barrage/internal/testnode"
	"barrage/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// guests is how many clients there are at a time.
	guests = 24
	// patience is how long a test waits for what must happen.
	patience = 30 * time.Second
	// slowness is how long a guest may take no bytes.
	slowness = 10 * time.Second
	// growth is how much larger the heap may be after a round than after the first one, in bytes: what the node keeps of the
	// channels on purpose, of which 32 MiB are pages for those who are behind.
	growth = 48 << 20
)

// duration is how long both engines are stressed together.
func duration(t *testing.T) time.Duration {
	text := os.Getenv("BARRAGE_STRESS")
	if text == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("BARRAGE_STRESS is how long to go on, such as 3m: %v", err)
	}
	return d
}

func seedOf(t *testing.T) uint64 {
	seed := rand.Uint64()
	if text := os.Getenv("BARRAGE_STRESS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("BARRAGE_STRESS_SEED is a number: %v", err)
		}
	}
	t.Logf("BARRAGE_STRESS_SEED=%d", seed)
	return seed
}

func TestNothingIsLeftBehind(t *testing.T) {
	seed, each := seedOf(t), duration(t)/2
	for _, engine := range slices.Sorted(maps.Keys(testnode.Engines)) {
		t.Run(engine, func(t *testing.T) { stress(t, testnode.Engines[engine], seed, each) })
	}
}

func stress(t *testing.T, portable bool, seed uint64, last time.Duration) {
	s, err := testnode.Start(testnode.Options{
		Portable: portable, Retention: journal.Retention{Count: 300}, Linger: time.Millisecond,
		Gateway: gateway.Options{Echo: true, Ping: 200 * time.Millisecond, Pong: slowness, Write: slowness, MaxMessage: maxMessage},
	})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			_ = s.Close() // another failure has been told
		}
	}()
	w := &world{t: t, server: s, files: openFiles(t), goroutines: runtime.NumGoroutine()}
	rounds := max(2, min(int(last/(5*time.Second)), 100))
	var first uint64
	for round := range rounds {
		w.round(rand.New(rand.NewPCG(seed, uint64(round))), last/time.Duration(rounds), last > 4*slowness && round%2 == 0)
		heap := w.settled()
		if round == 0 {
			first = heap
		}
		t.Logf("round %d: %s, %d KiB on the heap", round, &w.tally, heap>>10)
		if heap > first+growth {
			t.Errorf("the heap does not grow from round to round: %d KiB after the first, %d KiB after number %d", first>>10, heap>>10, round)
		}
		if t.Failed() {
			return
		}
	}
	eventually(t, "channels without members are retired", func() bool { return s.Node.Hub().Channels() == 0 })
	w.end(seed)
	closed = true
}

// world is a node and what it used before anyone came.
type world struct {
	t                 *testing.T
	server            *testnode.Server
	files, goroutines int
	tally             tally
}

// round lets guests visit for a while. lazy says whether some of them stall for longer than the node allows.
func (w *world) round(rnd *rand.Rand, d time.Duration, lazy bool) {
	until := time.Now().Add(d)
	var wg sync.WaitGroup
	for range guests {
		g := &guest{t: w.t, addr: w.server.Addr, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 0)), tally: &w.tally, lazy: lazy}
		wg.Go(func() {
			for time.Now().Before(until) {
				g.visit()
			}
		})
	}
	wg.Wait()
}

// settled waits until nothing is left of the guests, and returns the size of the heap.
func (w *world) settled() uint64 {
	t, s := w.t, w.server
	t.Helper()
	eventually(t, "no connection is left behind", func() bool { return s.Gateway.Count() == 0 })
	eventually(t, "no member is left behind", func() bool {
		for _, members := range s.Node.Hub().Local() {
			if members > 0 {
				return false
			}
		}
		return true
	})
	eventually(t, "no descriptor is left behind", func() bool { return openFiles(t) <= w.files })
	// Those that open channels and trim the journal come and go.
	eventually(t, "no goroutine is left behind", func() bool { return runtime.NumGoroutine() <= w.goroutines })
	stats := s.Gateway.Stats()
	eventually(t, "every connection that was accepted has ended once", func() bool { return stats.Accepted.Load() == stats.Closed.Load() })
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what was in pools is gone after the second
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// end closes the node while guests are there.
func (w *world) end(seed uint64) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		quiet := &guest{t: w.t, addr: w.server.Addr, rnd: rand.New(rand.NewPCG(seed, 1000)), tally: &w.tally, ending: true}
		var wg sync.WaitGroup
		until := time.Now().Add(100 * time.Millisecond)
		for range guests {
			g := *quiet
			g.rnd = rand.New(rand.NewPCG(quiet.rnd.Uint64(), 0))
			wg.Go(func() {
				for time.Now().Before(until) {
					g.visit()
				}
			})
		}
		wg.Wait()
	}()
	time.Sleep(50 * time.Millisecond) // in the middle, which is no moment that could be waited for
	if err := w.server.Close(); err != nil {
		w.t.Errorf("a node that is closed while clients come ends in order: %v", err)
	}
	<-done
	eventually(w.t, "a node that was closed leaves no descriptor behind", func() bool { return openFiles(w.t) < w.files })
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // a system without /proc
	}
	return len(list)
}

func eventually(t *testing.T, sentence string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%s\n%s", sentence, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// String of a tally lists what happened.
func (c *tally) String() string {
	return fmt.Sprintf("%d visits, %d messages received, %d acknowledged, %d resets, closed by code %v",
		c.visits.Load(), c.messages.Load(), c.acks.Load(), c.resets.Load(), c.codes())
}
