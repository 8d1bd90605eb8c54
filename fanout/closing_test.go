package fanout

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Appending, joining, leaving and closing at the same time, on real processors: nobody is left behind in a feed, nothing hangs,
// and a closed socket is not touched. Run it with -race.
func TestClosingRacesWithEverything(t *testing.T) {
	w := NewWriters(4)
	defer w.Close()
	feed := NewFeed(w, &history{oldest: 1 << 30}, 1)
	var owner sync.Mutex // Append, Skip and Join have one caller at a time
	var all sync.WaitGroup
	var stop atomic.Bool
	all.Go(func() {
		for seq := Seq(1); !stop.Load(); seq++ {
			owner.Lock()
			feed.Append(Entry{frame(seq, 0, int(seq)%500), Sender(seq % 3)})
			owner.Unlock()
		}
	})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for range 200 {
				closeOne(t, w, feed, &owner, rnd)
			}
		})
	}
	clients.Wait()
	stop.Store(true)
	all.Wait()
	if n := feed.Members(); n != 0 {
		t.Errorf("after every outlet was closed the feed has %d members", n)
	}
	for _, s := range feed.snapshot() {
		if len(s.members) != 0 {
			t.Errorf("after every outlet was closed a shard holds %d members", len(s.members))
		}
	}
}

// closeOne joins a connection and ends it in one of several ways, while others write to it.
func closeOne(t *testing.T, w *Writers, feed *Feed, owner *sync.Mutex, rnd *rand.Rand) {
	s := &closing{}
	out := NewOutlet(w, s, 0)
	join := func() *Member {
		owner.Lock()
		defer owner.Unlock()
		_, next := feed.Bounds()
		return feed.Join(out, next-min(next-1, Seq(rnd.IntN(3))), Sender(rnd.IntN(3)))
	}
	m := join()
	var both sync.WaitGroup
	both.Go(func() { out.Send(frame(1, 0, 10)) })
	switch rnd.IntN(4) {
	case 0:
		both.Go(m.Leave)
	case 1:
		both.Go(func() { out.End(frame(2, 0, 0)) })
	case 2:
		both.Go(func() { join() })
	}
	both.Go(out.Close)
	both.Wait()
	out.Close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if out.Send(nil) {
		t.Error("a closed outlet must refuse frames")
	}
}

// closing is a Socket that must not be touched after Close returned.
type closing struct {
	mu     sync.Mutex
	closed bool
}

func (s *closing) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		panic("a socket must not be touched after its outlet was closed")
	}
}
func (s *closing) TryWrite(b []byte) (int, error) { s.touch(); return len(b), nil }
func (s *closing) ArmWrite()                      { s.touch() }
func (s *closing) Finish()                        { s.touch() }
func (s *closing) Abort(error)                    { s.touch() }

// order is a Socket that notes when it was written to.
type order struct {
	log  *[]taking
	mu   *sync.Mutex
	took int
}

// taking is one write.
type taking struct {
	by    *order
	bytes int
}

func (o *order) TryWrite(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.took += len(b)
	*o.log = append(*o.log, taking{o, len(b)})
	return len(b), nil
}
func (*order) ArmWrite()   {}
func (*order) Finish()     {}
func (*order) Abort(error) {}

// One that is far behind gives way to others after its turn.
func TestOneWhoIsFarBehindGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		feed := NewFeed(w, &history{oldest: 1}, 1)
		var mu sync.Mutex
		var log []taking
		for range 8000 {
			feed.count.Add(1) // as if the room were large, so that the log holds 4 MiB
		}
		for i := range Seq(3000) {
			feed.Append(Entry{frame(i+1, 0, 1000), 0})
		}
		greedy, modest := &order{log: &log, mu: &mu}, &order{log: &log, mu: &mu}
		mu.Lock() // both are queued before anyone writes
		feed.Join(NewOutlet(w, greedy, 0), 1, 0)
		feed.Join(NewOutlet(w, modest, 0), 3000, 0)
		mu.Unlock()
		synctest.Wait()
		if greedy.took != 3000*1016 || modest.took != 1016 {
			t.Fatalf("one took %d bytes and the other %d, want all", greedy.took, modest.took)
		}
		before := 0
		for _, took := range log {
			if took.by == modest {
				break
			}
			before += took.bytes
		}
		if before > turnBytes+lastSegment {
			t.Errorf("the other one had to wait for %d bytes of 3 MB, want at most a turn, %d", before, turnBytes+lastSegment)
		}
	})
}

// Echo skipping: own entries are left out wherever they stand, and the bytes of others stay together.
func TestOwnEntriesAreSkipped(t *testing.T) {
	for _, row := range []struct{ senders, want []Seq }{
		{[]Seq{7, 7, 7}, nil},
		{[]Seq{7, 1, 7, 2, 7}, []Seq{2, 4}},
		{[]Seq{1, 7, 7, 0}, []Seq{1, 4}},
		{[]Seq{0, 0, 7}, []Seq{1, 2}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := NewWriters(1)
			defer w.Close()
			feed := NewFeed(w, &history{oldest: 1}, 1)
			s := &socket{}
			s.out = NewOutlet(w, s, 0)
			m := feed.Join(s.out, 1, 7)
			var entries []Entry
			own := 0
			for i, sender := range row.senders {
				entries = append(entries, Entry{frame(Seq(i+1), Sender(sender), 1), Sender(sender)})
				if sender == 7 {
					own++
				}
			}
			feed.Append(entries...)
			time.Sleep(time.Second)
			synctest.Wait()
			if got := s.entries(t); len(got) != len(row.want) || len(got) > 0 && (got[0] != row.want[0] || got[len(got)-1] != row.want[len(row.want)-1]) {
				t.Errorf("of entries by %v the member 7 got %v, want %v", row.senders, got, row.want)
			}
			if m.Next() != Seq(len(row.senders)+1) || int(w.Stats.Skipped.Load()) != own {
				t.Errorf("of entries by %v %d are counted as skipped and the cursor is at %d", row.senders, w.Stats.Skipped.Load(), m.Next())
			}
		})
	}
}

// What is sent now keeps its place: after what waits, never within a frame.
func TestSendNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		s := &socket{rnd: rand.New(rand.NewPCG(1, 1))}
		s.out = NewOutlet(w, s, 300)
		want := []Seq{}
		send := func(now bool, seq Seq) {
			t.Helper()
			if fn := map[bool]func([]byte) bool{true: s.out.SendNow, false: s.out.Send}[now]; !fn(frame(seq, 0, 10)) {
				t.Errorf("frame %d is taken", seq)
			}
			want = append(want, seq)
		}
		for seq := range Seq(100) {
			send(seq%3 > 0, seq)
			if seq%4 == 0 {
				synctest.Wait()
				time.Sleep(time.Second)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := s.entries(t); !slices.Equal(got, want) {
			t.Errorf("frames go out in the order in which they were sent, not as %v", got)
		}
		s.stall()
		for seq := range Seq(4) {
			send(true, 100+seq)
		}
		if s.out.SendNow(frame(9, 0, 300)) {
			t.Error("what waits for a full socket is bounded")
		}
		s.release()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := s.entries(t); !slices.Equal(got, want) {
			t.Errorf("frames go out in the order in which they were sent, not as %v", got)
		}
		s.fail = net.ErrClosed
		if s.out.SendNow(frame(9, 0, 10)); s.aborted == nil || s.out.SendNow(frame(9, 0, 10)) {
			t.Error("a socket that fails is given up")
		}
	})
}

// dripping is a socket that always leaves some bytes of what it is given.
type dripping struct{ left int }

func (d *dripping) TryWrite(b []byte) (int, error) { return max(len(b)-d.left, 0), nil }
func (d *dripping) ArmWrite()                      {}
func (d *dripping) Finish()                        {}
func (d *dripping) Abort(error)                    {}

// What the socket took is not kept, however long something is pending.
func TestASlowReaderDoesNotMakePendingBytesGrow(t *testing.T) {
	w := NewWriters(1)
	defer w.Close()
	o := NewOutlet(w, &dripping{left: 100}, 1<<20)
	frames := make([]byte, 100<<10)
	for range 500 {
		o.mu.Lock()
		o.blocked = false
		o.push(frames)
		o.writePending(&walker{stats: &w.Stats})
		n, size := o.pending.size(), cap(o.pending.buf)
		o.mu.Unlock()
		if n != 100 || size > 4*len(frames) {
			t.Fatalf("%d bytes are pending, not 100, and take a buffer of %d", n, size)
		}
	}
}
