package node_test

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"barrage/broker/brokertest"
	"barrage/journal"
	"barrage/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seeds is how many simulations run; BARRAGE_TEST_SEEDS says otherwise, and BARRAGE_TEST_SEED runs a single one.
func seeds(t *testing.T, otherwise uint64) (from, to uint64) {
	if s := os.Getenv("BARRAGE_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("BARRAGE_TEST_SEED must be a number: %v", err)
		}
		return n, n + 1
	}
	if s := os.Getenv("BARRAGE_TEST_SEEDS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("BARRAGE_TEST_SEEDS must be a number: %v", err)
		}
		otherwise = n
	}
	return 1, otherwise + 1
}

// The promises 1 to 4 hold in a cluster whose broker loses, repeats, delays and reorders, whose journal goes away,
// whose nodes crash, and whose clients stall and move.
func TestClusterKeepsItsPromises(t *testing.T) {
	simulateAll(t, 60, func(*world) {})
}

// With retention that removes messages at any moment, whoever is reset has really missed messages that were removed, and
// nothing that was kept.
func TestResetsTellTheTruthAboutRetention(t *testing.T) {
	var resets atomic.Int64
	t.Cleanup(func() {
		if resets.Load() == 0 && os.Getenv("BARRAGE_TEST_SEED") == "" {
			t.Error("in none of these worlds anyone was reset, so nothing was checked")
		}
	})
	simulateAll(t, 30, func(w *world) {
		w.keep = 1 + int64(w.int(60))
		w.resets = &resets
	})
}

// simulateAll runs the simulations of all seeds, one on each processor at a time, until one fails.
func simulateAll(t *testing.T, otherwise uint64, prepare func(*world)) {
	from, to := seeds(t, otherwise)
	var failed atomic.Bool
	lanes := uint64(runtime.GOMAXPROCS(0))
	for lane := range lanes {
		t.Run("lane"+strconv.FormatUint(lane, 10), func(t *testing.T) {
			t.Parallel()
			for seed := from + lane; seed < to && !failed.Load(); seed += lanes {
				synctest.Test(t, func(t *testing.T) { simulate(t, seed, prepare) })
				failed.CompareAndSwap(false, t.Failed())
			}
		})
	}
}

func simulate(t *testing.T, seed uint64, prepare func(*world)) {
	w := newWorld(t, seed, 3)
	prepare(w)
	channels := []string{"lobby", "merged:弹幕", "quiet"}[:1+w.int(3)]
	var readers []*reader
	var writers []*writer
	for i := range 3 + w.int(6) {
		r := &reader{w: w, name: "reader" + strconv.Itoa(i), channel: channels[w.int(len(channels))]}
		if w.int(4) == 0 {
			r.stall = 2 * time.Second
		}
		readers = append(readers, r)
	}
	for i := range 1 + w.int(3) {
		writers = append(writers, &writer{w: w, name: "writer" + strconv.Itoa(i), channel: channels[w.int(len(channels))]})
	}
	for range 60 + w.int(60) {
		step(w, readers, writers)
	}
	calm(w)
	for _, r := range readers {
		if r.connected() == 0 {
			r.connect()
		}
	}
	time.Sleep(40 * time.Second) // a heads comparison and two announcements fit in
	synctest.Wait()
	check(t, w, readers, writers)
	shutDown(w, readers)
	for _, failure := range w.failed {
		t.Errorf("seed %d: %s", seed, failure)
	}
}

func (r *reader) connected() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moves
}

func (p *writer) resize(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.large = bytes
}

// step lets something happen.
func step(w *world, readers []*reader, writers []*writer) {
	r := readers[w.int(len(readers))]
	switch w.int(16) {
	case 0, 1:
		if r.connected() == 0 {
			r.connect()
		}
	case 2:
		if r.connected() > 0 {
			r.move()
		}
	case 3:
		w.hub.SetFaults(brokertest.Faults{
			Lose: float64(w.int(4)) / 4, Repeat: float64(w.int(3)) / 4,
			Delay: w.upTo(300 * time.Millisecond), Reorder: float64(w.int(3)) / 2,
		})
	case 4:
		if n := w.pick(); n != nil {
			w.hub.SetDown(n.id, true)
			time.AfterFunc(w.upTo(5*time.Second), func() { w.hub.SetDown(n.id, false) })
		}
	case 5:
		if w.int(2) == 0 {
			w.setAway(true)
			time.AfterFunc(w.upTo(4*time.Second), func() { w.setAway(false) })
		}
	case 6:
		if w.int(2) == 0 {
			i := w.int(len(w.nodes))
			w.crash(i)
			time.Sleep(w.upTo(time.Second))
			w.boot(i)
		}
	case 12:
		w.trim()
	case 7, 8:
		time.Sleep(w.upTo(2 * time.Second))
	case 9, 10, 11:
		time.Sleep(w.upTo(30 * time.Millisecond))
	default:
		p := writers[w.int(len(writers))]
		p.resize(w.int(8) / 7 * w.int(40_000)) // large texts push readers out of memory and into the journal
		for range 1 + w.int(20) {
			p.publish()
		}
	}
}

// calm ends all faults.
func calm(w *world) {
	w.hub.SetFaults(brokertest.Faults{})
	time.Sleep(6 * time.Second) // whatever was broken for a time is mended
}

func check(t *testing.T, w *world, readers []*reader, writers []*writer) {
	for _, p := range writers {
		checkJournal(t, w, p.channel)
		p.mu.Lock()
		data := w.history(p.channel)
		times := map[string]int{}
		for _, d := range data {
			times[d]++
		}
		if len(p.queue) > 0 {
			w.broken("%s still waits for the acknowledgement of %d publishes", p.name, len(p.queue))
		}
		for i := 1; i <= p.number; i++ {
			key := p.name + "-" + strconv.Itoa(i)
			if n := times[key]; n != 1 && (n == 0 || w.keep == 0) { // a key is known as long as its message is kept
				w.broken("%s was stored %d times", key, times[key])
			}
		}
		for _, a := range p.acked {
			if int(a.offset) > len(data) || data[a.offset-1] != a.key {
				w.broken("%s was acknowledged with offset %d, where something else is stored", a.key, a.offset)
			}
		}
		p.mu.Unlock()
	}
	for _, r := range readers {
		r.mu.Lock()
		data := w.history(r.channel)
		if int(r.last) != len(data) {
			w.broken("%s stands at %d of %s, whose head is %d", r.name, r.last, r.channel, len(data))
		}
		for _, m := range r.got {
			if int(m.Offset) > len(data) || data[m.Offset-1] != keyOf(m.Data) {
				w.broken("%s got %.40s as message %d, where something else is stored", r.name, m.Data, m.Offset)
			}
		}
		r.mu.Unlock()
	}
}

// keyOf is the part of a text that names it: data is "key|padding".
func keyOf(data []byte) string {
	key, _, _ := bytes.Cut(bytes.TrimPrefix(data, []byte{'"'}), []byte{'|'})
	return string(key)
}

// checkJournal checks that the journal still says what it said when it stored a channel's messages, without gaps.
func checkJournal(t *testing.T, w *world, channel string) {
	data, next := w.history(channel), proto.Offset(0)
	for {
		p, err := w.journal.Read(context.Background(), channel, journal.Range{From: next})
		if err != nil {
			t.Fatal(err)
		}
		if int(p.Head) != len(data) {
			w.broken("the head of %s is %d, but %d messages were stored", channel, p.Head, len(data))
		}
		for _, m := range p.Messages {
			if next == 0 {
				next = m.Offset // the oldest one kept
			}
			if m.Offset != next || int(m.Offset) > len(data) || keyOf(m.Data) != data[m.Offset-1] {
				w.broken("where message %d of %s belongs the journal holds %d, %.40s", next, channel, m.Offset, m.Data)
				return
			}
			next++
		}
		if len(p.Messages) == 0 {
			return
		}
	}
}

func shutDown(w *world, readers []*reader) {
	for _, r := range readers {
		r.mu.Lock()
		r.stopped = true
		r.mu.Unlock()
	}
	for i := range w.nodes {
		w.crash(i)
	}
	w.hub.Close()
	time.Sleep(10 * time.Second) // timers of clients run out
}
