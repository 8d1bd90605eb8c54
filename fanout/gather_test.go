package fanout

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// A node may have hundreds of thousands of idle connections, nearly all with one membership.
func TestAnIdleConnectionIsSmall(t *testing.T) {
	outlet, member := unsafe.Sizeof(Outlet{}), unsafe.Sizeof(Member{})
	if outlet > 128 {
		t.Errorf("an outlet with its first member takes %d bytes, want at most 128", outlet)
	}
	if member > 64 {
		t.Errorf("a further member takes %d bytes, want at most 64", member)
	}
	w := NewWriters(1)
	defer w.Close()
	feed := NewFeed(w, &history{}, 1)
	s := &socket{}
	outlets := make([]Outlet, 100)
	feed.Join(NewOutlet(w, s, 0), 1, 0) // makes the shard
	feed.snapshot()[0].members = make([]*Member, 0, shardSize)
	i := 0
	if n := testing.AllocsPerRun(len(outlets)-1, func() {
		outlets[i].Init(w, s, 0)
		feed.Join(&outlets[i], 1, 0)
		i++
	}); n > 0 {
		t.Errorf("joining takes %v further objects, want none", n)
	}
}

// A member that left is not mistaken for one that joined after it, although the outlet is the same.
func TestAMemberThatLeftStaysApart(t *testing.T) {
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
		var asked Want
		feed.pager = noting{&asked}
		first := feed.Join(s.out, 1, 0)
		synctest.Wait()
		first.Leave()
		second := feed.Join(s.out, 6, 0)
		if first == second {
			t.Fatal("who holds the first member must not hold the second")
		}
		page := NewPage(1, 0, 0)
		page.Add(frame(1, 0, 1), 0)
		asked.Supply(page)
		first.Leave()
		feed.Append(Entry{frame(6, 0, 1), 0})
		synctest.Wait()
		if got, want := fmt.Sprint(s.entries(t)), fmt.Sprint([]Seq{6}); got != want || feed.Members() != 1 {
			t.Errorf("the second member was given %s and %d members are counted, want %s and 1", got, feed.Members(), want)
		}
	})
}

// noting is a Pager that does not answer.
type noting struct{ last *Want }

func (n noting) Want(w Want) { *n.last = w }

// counting is a Socket that counts its writes.
type counting struct {
	socket
	writes int
}

func (c *counting) TryWrite(b []byte) (int, error) {
	n, err := c.socket.TryWrite(b)
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return n, err
}

// What several feeds and the outlet itself have for one connection goes out in one write.
func TestOneWriteForSeveralFeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(2)
		defer w.Close()
		s := &counting{}
		s.out = NewOutlet(w, s, 0)
		var feeds []*Feed
		for range 5 {
			f := NewFeed(w, &history{oldest: 1}, 1)
			f.Join(s.out, 1, 0)
			feeds = append(feeds, f)
		}
		s.stall()
		s.out.Send(frame(100, 0, 0))
		synctest.Wait()
		s.writes = 0
		for i, f := range feeds {
			f.Append(Entry{frame(Seq(i+1), 0, 100), 0}, Entry{frame(Seq(i+11), 0, 100), 0})
		}
		synctest.Wait()
		s.release()
		synctest.Wait()
		if got := len(s.entries(t)); got != 11 || s.writes != 1 {
			t.Errorf("11 frames of 5 feeds and the outlet must go in 1 write, but %d went in %d", got, s.writes)
		}
	})
}

// A feed that is far ahead does not keep the others waiting.
func TestFeedsOfAnOutletTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		s := &counting{}
		s.out = NewOutlet(w, s, 0)
		for f, size := range []int{1000, 60_000, 10} {
			feed := NewFeed(w, &history{oldest: 1}, 1)
			feed.count.Add(8000) // as if the room were large, so that the log holds 4 MiB
			s.stall()
			feed.Join(s.out, 1, 0)
			for i := range 3_000_000 / 1000 / max(size/1000, 1) {
				feed.Append(Entry{frame(Seq(f<<32|i+1), 0, size), 0})
				if size == 10 {
					break
				}
			}
		}
		synctest.Wait()
		s.release()
		synctest.Wait()
		before := map[Seq]int{}
		for b := s.got; len(b) > 0; {
			n := int(binary.BigEndian.Uint32(b))
			feed := Seq(binary.BigEndian.Uint64(b[4:])) >> 32
			if feed == 2 {
				break
			}
			before[feed] += n
			b = b[n:]
		}
		if before[0] > 2*scratchBytes || before[1] > 2*scratchBytes {
			t.Errorf("the third feed had to wait for %v bytes of the others, want at most %d of each", before, 2*scratchBytes)
		}
		if got := len(s.entries(t)); got != 3000+50+1 {
			t.Errorf("%d entries arrived, want all %d", got, 3051)
		}
	})
}

// Whatever sockets take, an outlet that is in several feeds gives each of them whole, once and in order, beside what it sends itself.
func TestAnOutletOfSeveralFeedsMixesNothingUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) { checkSeveral(t, seed) })
	})
}

func checkSeveral(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := NewWriters(1 + rnd.IntN(3))
	defer w.Close()
	feeds, histories, heads := make([]*Feed, 1+rnd.IntN(6)), make([]*history, 6), make([]int, 6)
	for f := range feeds {
		histories[f] = &history{oldest: 1}
		feeds[f] = NewFeed(w, histories[f], 1)
	}
	type reader struct {
		sock *socket
		in   map[int]*Member
		from map[int]Seq
		sent int
	}
	own := len(feeds) // stands for the outlet itself
	var readers []*reader
	for range 1 + rnd.IntN(4) {
		r := &reader{sock: &socket{rnd: rand.New(rand.NewPCG(rnd.Uint64(), 2))}, in: map[int]*Member{}, from: map[int]Seq{}}
		r.sock.out = NewOutlet(w, r.sock, 0)
		readers = append(readers, r)
	}
	for range 60 {
		r, f := readers[rnd.IntN(len(readers))], rnd.IntN(len(feeds))
		switch rnd.IntN(8) {
		case 0, 1, 2:
			for range 1 + rnd.IntN(20) {
				size := rnd.IntN(200)
				if rnd.IntN(10) == 0 {
					size = rnd.IntN(90_000)
				}
				heads[f]++
				e := Entry{frame(Seq(f<<32|heads[f]), 0, size), Sender(f)}
				histories[f].add(e)
				feeds[f].Append(e)
			}
		case 3, 4:
			if r.in[f] == nil {
				r.from[f] = Seq(max(heads[f]-rnd.IntN(10), 1))
				r.in[f] = feeds[f].Join(r.sock.out, r.from[f], 0)
			}
		case 5:
			r.sent++
			r.sock.out.Send(frame(Seq(own<<32|r.sent), 0, rnd.IntN(50_000)))
		case 6:
			time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
		case 7:
			r.sock.stall()
			time.AfterFunc(time.Duration(rnd.IntN(200))*time.Millisecond, r.sock.release)
		}
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	for i, r := range readers {
		next := map[int]Seq{own: 1}
		for f := range r.in {
			next[f] = r.from[f]
		}
		for _, seq := range r.sock.entries(t) {
			f := int(seq >> 32)
			if seq&(1<<32-1) != next[f] {
				t.Fatalf("seed %d: reader %d got entry %d of feed %d where %d belongs", seed, i, seq&(1<<32-1), f, next[f])
			}
			next[f]++
		}
		for f := range r.in {
			if int(next[f]) != max(heads[f]+1, int(r.from[f])) {
				t.Fatalf("seed %d: reader %d stands at %d of feed %d, which has %d entries", seed, i, next[f], f, heads[f])
			}
		}
		if int(next[own]) != r.sent+1 {
			t.Fatalf("seed %d: reader %d got %d frames of its own of %d", seed, i, next[own]-1, r.sent)
		}
		r.sock.out.Close()
	}
	for f, feed := range feeds {
		if n := feed.Members(); n != 0 {
			t.Fatalf("seed %d: after every outlet was closed feed %d has %d members", seed, f, n)
		}
	}
}
