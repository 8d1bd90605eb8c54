package redis

import (
	"errors"
	"strings"
	"testing"
	"time"

	"barrage/broker"
	"barrage/broker/brokertest"
)

// newTestHealth makes the health of a broker with two partitions.
func newTestHealth(t *testing.T) (*health, *brokertest.Recorder) {
	t.Helper()
	tg, err := parseURL("redis://:secret@h:1")
	if err != nil {
		t.Fatal(err)
	}
	heard := brokertest.NewRecorder()
	o := &Options{Handler: heard, Partitions: 2}
	if err := o.complete(tg); err != nil {
		t.Fatal(err)
	}
	return newHealth(o, tg), heard
}

func TestUpMeansEveryPartitionWorksBothWays(t *testing.T) {
	h, heard := newTestHealth(t)
	for i, step := range []struct {
		partition int
		side      side
	}{{0, publishing}, {0, subscribed}, {1, subscribed}, {1, publishing}} {
		if h.state().Up {
			t.Errorf("up after %d of 4 reports", i)
		}
		h.report(step.partition, step.side, nil)
	}
	if s := h.state(); !s.Up || len(heard.States()) != 1 || heard.State() != s {
		t.Errorf("after 4 of 4 reports the state is %+v, announced %+v", s, heard.States())
	}
}

func TestChangesAreAnnouncedOnceAndSayWhatIsWrong(t *testing.T) {
	h, heard := newTestHealth(t)
	for range 5 {
		h.reportAll(errors.New("connection refused"))
	}
	if n := len(heard.States()); n != 1 {
		t.Errorf("failing five times at start was announced %d times, want once", n)
	}
	h.reportAll(nil)
	for range 5 {
		h.report(1, subscribed, errSilent)
	}
	states := heard.States()
	if len(states) != 3 || states[0].Up || !states[1].Up || states[2].Up {
		t.Fatalf("announced %+v, want down, up, down", states)
	}
	for _, want := range []string{"1 of 2 partitions", "Redis at h:1", "the subscription of partition 1", errSilent.Error()} {
		if !strings.Contains(states[2].Detail, want) {
			t.Errorf("the detail %q does not say %q", states[2].Detail, want)
		}
	}
	h.close()
	h.reportAll(nil)
	if h.state().Up || len(heard.States()) != 3 {
		t.Error("nothing is announced after close, and the state stays down")
	}
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	o := Options{BackoffMin: 100 * time.Millisecond, BackoffMax: 3 * time.Second}
	b := o.backoff()
	limit := o.BackoffMin
	for range 100 {
		if d := b.next(); d <= 0 || d > limit {
			t.Fatalf("waits %s, want more than 0 and at most %s", d, limit)
		}
		limit = min(2*limit, o.BackoffMax)
	}
	if b.reset(); b.next() > o.BackoffMin {
		t.Error("after success the waits are short again")
	}
}

func TestPublisherIsBounded(t *testing.T) {
	b, err := Open("redis://127.0.0.1:1", Options{QueuePayloads: 10, QueueBytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	closeWithin(t, b, time.Second) // so that only this test touches the queue
	p := newPublisher(b, 0, "probe")
	if err := p.add("c", nil); !errors.Is(err, broker.ErrDown) {
		t.Errorf("before the first success publishing gives %v, want ErrDown", err)
	}
	p.done(nil)
	for range 10 {
		if err := p.add("c", []byte("12345")); err != nil {
			t.Fatalf("there is room: %v", err)
		}
	}
	if err := p.add("c", nil); !errors.Is(err, broker.ErrFull) {
		t.Errorf("an eleventh payload gives %v, want ErrFull", err)
	}
	batch, _ := p.take()
	if err := p.add("c", nil); !errors.Is(err, broker.ErrFull) {
		t.Errorf("payloads being sent count as well; got %v, want ErrFull", err)
	}
	p.done(batch)
	if err := p.add("c", make([]byte, 101)); !errors.Is(err, broker.ErrFull) {
		t.Errorf("101 of 100 bytes give %v, want ErrFull", err)
	}
	if err := p.add("c", make([]byte, 100)); err != nil {
		t.Errorf("100 of 100 bytes give %v", err)
	}
	p.fail(errClosed)
	if n, size := p.queued(); n != 0 || size != 0 {
		t.Errorf("after a failure %d payloads of %d bytes are left, want none", n, size)
	}
	if s := b.Stats(); s.DroppedFull != 3 || s.DroppedDown != 2 {
		t.Errorf("counted %d drops for full and %d for down, want 3 and 2", s.DroppedFull, s.DroppedDown)
	}
}

func TestQueueThatNeverEmptiesDoesNotGrow(t *testing.T) {
	b, err := Open("redis://127.0.0.1:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeWithin(t, b, time.Second)
	p := newPublisher(b, 0, "probe")
	p.done(nil)
	for range 100 * batchPayloads {
		for range 2 { // one more than is taken, up to a few batches
			if n, _ := p.queued(); n < 3*batchPayloads {
				if err := p.add("c", []byte{0}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n, _ := p.queued(); n == 3*batchPayloads {
			batch, _ := p.take()
			p.done(batch)
		}
	}
	if cap(p.queue) > 20*batchPayloads {
		t.Errorf("a queue of at most %d payloads takes room for %d", 3*batchPayloads, cap(p.queue))
	}
}
