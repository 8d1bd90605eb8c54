package fanout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame is a test entry: its length, its number, its sender and padding.
func frame(seq Seq, sender Sender, padding int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(16+padding))
	b = binary.BigEndian.AppendUint64(b, uint64(seq))
	b = binary.BigEndian.AppendUint32(b, uint32(sender))
	return append(b, bytes.Repeat([]byte{'.'}, padding)...)
}

const noticeSeq = 1 << 40 // a frame that stands for a notice

// socket is a Socket that takes as much as it likes and parses what it took.
type socket struct {
	mu       sync.Mutex
	out      *Outlet
	rnd      *rand.Rand
	stalled  bool
	armed    bool
	waits    bool // armed while stalled: release will tell
	got      []byte
	finished bool
	aborted  error
	fail     error
}

func (s *socket) TryWrite(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	if s.finished || s.aborted != nil {
		panic("a socket that was given up must not be written to")
	}
	n := len(b)
	if s.stalled {
		n = 0
	} else if s.rnd != nil && s.rnd.IntN(3) == 0 {
		n = s.rnd.IntN(n + 1)
	}
	s.got = append(s.got, b[:n]...)
	return n, nil
}

func (s *socket) ArmWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.armed {
		panic("a socket must be armed once at a time")
	}
	s.armed = true
	if s.waits = s.stalled; !s.waits {
		go s.writable(time.Duration(1+s.rnd.IntN(50)) * time.Millisecond)
	}
}

func (s *socket) writable(after time.Duration) {
	time.Sleep(after)
	s.mu.Lock()
	s.armed = false
	s.mu.Unlock()
	s.out.Writable()
}

func (s *socket) stall() {
	s.mu.Lock()
	s.stalled = true
	s.mu.Unlock()
}

func (s *socket) release() {
	s.mu.Lock()
	s.stalled = false
	waits := s.waits
	s.waits = false
	s.mu.Unlock()
	if waits {
		s.writable(0)
	}
}

func (s *socket) Finish()         { s.mu.Lock(); s.finished = true; s.mu.Unlock() }
func (s *socket) Abort(err error) { s.mu.Lock(); s.aborted = err; s.mu.Unlock() }

// entries are the numbers of the whole frames that the socket took.
func (s *socket) entries(t interface{ Fatalf(string, ...any) }) (seqs []Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := s.got; len(b) > 0; {
		if len(b) < 16 {
			t.Fatalf("the stream ends inside a frame")
		}
		n := int(binary.BigEndian.Uint32(b))
		if n < 16 || n > len(b) {
			t.Fatalf("the stream is not made of whole frames")
		}
		seqs = append(seqs, Seq(binary.BigEndian.Uint64(b[4:])))
		b = b[n:]
	}
	return seqs
}

// history is a Pager that knows every entry from oldest on.
type history struct {
	mu     sync.Mutex
	oldest Seq
	frames []Entry // entry i+1
	wants  int
}

func (h *history) add(e Entry) { h.mu.Lock(); h.frames = append(h.frames, e); h.mu.Unlock() }

func (h *history) Want(w Want) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wants++
	if w.Seq < h.oldest {
		next := h.oldest
		go w.Gone(next, Notice{Frames: frame(noticeSeq, 0, 3)})
		return
	}
	p := NewPage(w.Seq, 0, 0)
	for i := int(w.Seq) - 1; i < len(h.frames) && i < int(w.Seq)+6; i++ {
		p.Add(h.frames[i].Frame, h.frames[i].Sender)
	}
	go w.Supply(p)
}

// Whatever sockets take, whoever joins where and however slow, each member gets every entry from its
// cursor on, once and in order, without its own.
func TestEveryMemberGetsEveryEntryOnceInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) { checkDelivery(t, seed) })
	})
}

func checkDelivery(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := NewWriters(1 + rnd.IntN(3))
	defer w.Close()
	h := &history{oldest: 1}
	feed := NewFeed(w, h, 1)
	type reader struct {
		sock *socket
		m    *Member
		from Seq
		skip Sender
	}
	var readers []reader
	var senders []Sender
	publish := func(n int) {
		var batch []Entry
		for range n {
			sender := Sender(rnd.IntN(4))
			senders = append(senders, sender)
			size := rnd.IntN(100)
			if rnd.IntN(20) == 0 {
				size = rnd.IntN(40000)
			}
			e := Entry{frame(Seq(len(senders)), sender, size), sender}
			h.add(e)
			batch = append(batch, e)
		}
		feed.Append(batch...)
	}
	for range 40 {
		switch rnd.IntN(6) {
		case 0, 1, 2:
			publish(1 + rnd.IntN(30))
		case 3:
			s := &socket{rnd: rand.New(rand.NewPCG(rnd.Uint64(), 2))}
			s.out = NewOutlet(w, s, 0)
			r := reader{sock: s, from: Seq(1 + rnd.IntN(len(senders)+3)), skip: Sender(rnd.IntN(3))}
			r.m = feed.Join(s.out, r.from, r.skip)
			readers = append(readers, r)
		case 4:
			time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
		case 5:
			if len(readers) > 0 {
				s := readers[rnd.IntN(len(readers))].sock
				s.stall()
				time.AfterFunc(time.Duration(rnd.IntN(300))*time.Millisecond, s.release)
			}
		}
	}
	publish(5)
	time.Sleep(time.Hour)
	synctest.Wait()
	for i, r := range readers {
		var want []Seq
		for seq := r.from; int(seq) <= len(senders); seq++ {
			if r.skip == 0 || senders[seq-1] != r.skip {
				want = append(want, seq)
			}
		}
		if got := r.sock.entries(t); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("seed %d: reader %d from %d without %d got %v, want %v", seed, i, r.from, r.skip, got, want)
		}
		r.m.Leave()
	}
	if n := feed.Members(); n != 0 {
		t.Fatalf("after everyone left the feed has %d members", n)
	}
}

func TestRestartMovesEveryMemberWithANotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(2)
		defer w.Close()
		h := &history{oldest: 1}
		feed := NewFeed(w, h, 1)
		var socks []*socket
		for range 3 {
			s := &socket{}
			s.out = NewOutlet(w, s, 0)
			feed.Join(s.out, 1, 0)
			socks = append(socks, s)
		}
		feed.Append(Entry{frame(1, 0, 1), 0}, Entry{frame(2, 0, 1), 0})
		synctest.Wait()
		socks[0].stall()
		feed.Append(Entry{frame(3, 0, 1), 0})
		synctest.Wait()
		feed.Restart(2, Notice{Frames: frame(noticeSeq, 0, 0)})
		feed.Append(Entry{frame(2, 0, 1), 0})
		synctest.Wait()
		socks[0].release()
		synctest.Wait()
		if got, want := fmt.Sprint(socks[0].entries(t)), fmt.Sprint([]Seq{1, 2, noticeSeq, 2}); got != want {
			t.Errorf("a stalled member got %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(socks[1].entries(t)), fmt.Sprint([]Seq{1, 2, 3, noticeSeq, 2}); got != want {
			t.Errorf("a quick member got %s, want %s", got, want)
		}
	})
}

func TestEntriesThatAreGoneAreAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		h := &history{oldest: 1}
		feed := NewFeed(w, h, 1)
		s := &socket{}
		s.out = NewOutlet(w, s, 0)
		for i := Seq(1); i <= 5; i++ {
			h.add(Entry{frame(i, 0, 1), 0})
		}
		feed.Skip(6)
		h.oldest = 4
		feed.Join(s.out, 2, 0)
		feed.Append(Entry{frame(6, 0, 1), 0})
		synctest.Wait()
		if got, want := fmt.Sprint(s.entries(t)), fmt.Sprint([]Seq{noticeSeq, 4, 5, 6}); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestPendingGoesFirstAndEndClosesAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		feed := NewFeed(w, &history{}, 1)
		s := &socket{}
		s.out = NewOutlet(w, s, 100)
		s.stall()
		if !s.out.Send(frame(100, 0, 0)) {
			t.Fatal("an empty outlet must take a frame")
		}
		feed.Join(s.out, 1, 0)
		feed.Append(Entry{frame(1, 0, 0), 0})
		synctest.Wait()
		if s.out.Stalled().IsZero() {
			t.Error("a full socket must show as stalled")
		}
		if s.out.Send(frame(101, 0, 90)) {
			t.Error("pending bytes beyond the limit must be refused")
		}
		s.release()
		synctest.Wait()
		s.out.End(frame(102, 0, 0))
		feed.Append(Entry{frame(2, 0, 0), 0})
		synctest.Wait()
		if s.out.Send(frame(103, 0, 0)) {
			t.Error("an ending outlet must refuse frames")
		}
		if got, want := fmt.Sprint(s.entries(t)), fmt.Sprint([]Seq{100, 1, 102}); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if !s.finished {
			t.Error("the sending direction must be ended after the close frame")
		}
		s.out.Close()
		if feed.Members() != 0 {
			t.Error("a closed outlet must leave its feeds")
		}
	})
}

func TestAFailedSocketIsAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		broken := errors.New("broken pipe")
		s := &socket{fail: broken}
		s.out = NewOutlet(w, s, 0)
		s.out.Send(frame(1, 0, 0))
		synctest.Wait()
		if !errors.Is(s.aborted, broken) {
			t.Errorf("the socket was aborted with %v, want %v", s.aborted, broken)
		}
	})
}

func TestLogIsBounded(t *testing.T) {
	l := newLog(1)
	for i := range 100_000 {
		l.append(frame(Seq(i+1), 0, i%200), 0, MinLogBytes)
		size, used := 0, 0
		for _, s := range l.segs {
			size += s.size()
			used += s.used()
		}
		if used != l.held {
			t.Fatalf("the log counts %d bytes and holds %d", l.held, used)
		}
		if size > 2*MinLogBytes+entryOverhead*10_000 {
			t.Fatalf("the log takes %d bytes, its limit is %d", size, MinLogBytes)
		}
		if l.first() > 1 && used < MinLogBytes {
			t.Fatalf("the log dropped entries and holds only %d bytes, its limit is %d", used, MinLogBytes)
		}
	}
	if l.next() != 100_001 {
		t.Errorf("next is %d, want 100001", l.next())
	}
}
