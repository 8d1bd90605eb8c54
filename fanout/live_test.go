package fanout

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// telling is a Skipper that tells a number.
type telling struct{ skips int }

func (t *telling) Skipped(n uint64) Notice {
	t.skips++
	return Notice{Frames: frame(noticeSeq+Seq(n), 0, 0)}
}

// In a live feed a member gets every entry once and in order, but for those that it is told it will not be given, at the place where
// they are missing; and the newest one always.
func TestALiveFeedTellsWhatItSkips(t *testing.T) {
	skips := 0
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) { skips += checkLive(t, seed) })
	})
	if skips == 0 {
		t.Error("nobody ever skipped, so nothing was checked of that")
	}
}

func checkLive(t *testing.T, seed uint64) (skips int) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := NewWriters(1) // telling is not safe for several
	defer w.Close()
	told := &telling{}
	feed := NewLiveFeed(w, told, 1)
	feed.Merge(time.Duration(rnd.IntN(2)) * 20 * time.Millisecond)
	defer feed.Close()
	type reader struct {
		sock *socket
		from Seq
	}
	var readers []reader
	head := Seq(0)
	for range 60 {
		switch rnd.IntN(6) {
		case 0, 1, 2:
			for range 1 + rnd.IntN(40) {
				head++
				feed.Append(Entry{frame(head, 0, rnd.IntN(5000)), 0})
			}
		case 3:
			s := &socket{rnd: rand.New(rand.NewPCG(rnd.Uint64(), 2))}
			s.out = NewOutlet(w, s, 0)
			feed.Join(s.out, head+1, 0)
			readers = append(readers, reader{s, head + 1})
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
	time.Sleep(time.Hour)
	synctest.Wait()
	for i, r := range readers {
		next := r.from
		for _, seq := range r.sock.entries(t) {
			switch {
			case seq > noticeSeq:
				next += seq - noticeSeq
			case seq != next:
				t.Fatalf("seed %d: reader %d got entry %d where %d belongs", seed, i, seq, next)
			default:
				next++
			}
		}
		if next != head+1 {
			t.Fatalf("seed %d: reader %d stands at %d, want %d", seed, i, next, head+1)
		}
		r.sock.out.Close()
	}
	return told.skips
}

// A batch that is appended at once, such as a payload from another node, reaches whoever reads, however small the log of the feed.
func TestABatchDoesNotDriveItselfOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		s := &socket{}
		s.out = NewOutlet(w, s, 0)
		feed := NewLiveFeed(w, unskipped{t}, 1)
		feed.Join(s.out, 1, 0)
		for batch := range Seq(4) {
			var entries []Entry
			for i := range Seq(512) {
				entries = append(entries, Entry{Frame: frame(batch*512+i+1, 0, 500)})
			}
			feed.Append(entries...)
			synctest.Wait()
		}
		if n := len(s.entries(t)); n != 2048 {
			t.Errorf("a member that reads is given all 2048 entries, not %d", n)
		}
	})
}

// unskipped is a Skipper of a feed in which nobody is too slow.
type unskipped struct{ t *testing.T }

func (u unskipped) Skipped(n uint64) Notice {
	u.t.Errorf("a member that reads is not given %d entries", n)
	return Notice{}
}
