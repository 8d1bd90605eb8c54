package fanout

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func every(ms, n int) (times []int) {
	for i := range n {
		times = append(times, i*ms)
	}
	return times
}

// Windows widen while there are several appends in the time of a full one, and narrow when there are not.
func TestWindowsAdapt(t *testing.T) {
	const limit = 160 * time.Millisecond
	for _, row := range []struct {
		what  string
		times []int
		// windows after each append that went out at once, or after each window, in milliseconds
		want string
	}{
		{"a quiet feed never waits", every(200, 5), "0 0 0 0 0"},
		{"two appends in a pause do not make a window that anyone waits for", []int{0, 150, 400, 550}, "0 10 0 0"},
		{"a busy feed widens to the limit", every(5, 100), "0 10 20 40 80 160 160 160 160"},
		{"one append in half a window's time is several", every(60, 12), "0 10 20 40 80 160 160 160 80"},
		{"after a pause the first goes out at once, and windows begin anew", append(every(5, 100), 2000, 2300), "0 10 20 40 80 160 160 160 160 0 0"},
		{"windows halve when there is less", append(every(5, 40), 500, 700), "0 10 20 40 80 160 160 80 40"},
	} {
		if got := windows(limit, row.times); got != row.want {
			t.Errorf("%s: appends at %v must give the windows %s, not %s", row.what, row.times, row.want, got)
		}
	}
}

// windows plays appends and lists the window in force after everything that went out.
func windows(limit time.Duration, times []int) string {
	p := pace{limit: int64(limit)}
	var out []string
	note := func() { out = append(out, fmt.Sprint(p.window/1e6)) }
	until := int64(0)
	for _, ms := range times {
		now := int64(time.Hour) + int64(ms)*1e6
		if until != 0 && until <= now {
			p.end(until)
			until = 0
			note()
		}
		flush, at := p.append(now)
		if flush {
			note()
		}
		if at != 0 {
			until = at
		}
	}
	if until != 0 {
		p.end(until)
		note()
	}
	return strings.Join(out, " ")
}

// Nothing waits longer than the window in force, which is never above the limit; only one window is open at a time; a feed whose
// appends are a limit apart never waits; and a busy one wakes the writers hardly more often than once in a limit.
func TestPaceKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(int64(time.Millisecond), int64(10*time.Second)).Draw(t, "limit")
		gap := rapid.Int64Range(0, 3*limit).Draw(t, "gap")
		p := pace{limit: limit}
		now, until, flushes, least := int64(0), int64(0), 0, limit*10
		start := now
		for range rapid.IntRange(1, 300).Draw(t, "appends") {
			step := rapid.Int64Range(gap/2, gap).Draw(t, "step")
			now, least = now+step, min(least, step)
			if until != 0 && until <= now {
				p.end(until)
				until = 0
				flushes++
			}
			flush, at := p.append(now)
			switch {
			case flush && until != 0:
				t.Fatal("something goes out while a window is open")
			case flush:
				flushes++
			case at != 0 && until != 0:
				t.Fatal("a second window is opened")
			case at == 0 && until == 0:
				t.Fatal("an append neither goes out nor waits for anything")
			case at != 0 && (at <= now || at > now+limit || p.window > limit):
				t.Fatalf("an append at %d waits until %d; the limit is %d", now, at, limit)
			case at != 0:
				until = at
			}
		}
		if least >= limit && until != 0 {
			t.Fatalf("appends at least %d apart wait, although the limit is %d", least, limit)
		}
		if most := int((now-start)/limit)*3 + 8; gap*4 < limit && flushes > most {
			t.Fatalf("appends at most %d apart for %d wake the writers %d times with a limit of %d, want at most %d", gap, now-start, flushes, limit, most)
		}
	})
}

// In a busy feed many messages go in one write, none later than the limit; when it is quiet again none waits.
func TestAMergeWindowSavesWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		feed := NewFeed(w, &history{oldest: 1}, 1)
		feed.Merge(100 * time.Millisecond)
		defer feed.Close()
		s := &counting{}
		s.out = NewOutlet(w, s, 0)
		feed.Join(s.out, 1, 0)
		const n = 1000
		worst := 0
		for i := range n {
			feed.Append(Entry{frame(Seq(i+1), 0, 10), 0})
			time.Sleep(time.Millisecond)
			synctest.Wait()
			worst = max(worst, i+1-len(s.entries(t)))
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := len(s.entries(t)); got != n {
			t.Fatalf("%d entries arrived, want all %d", got, n)
		}
		if s.writes > 20 {
			t.Errorf("%d messages in a second with a window of 100 ms took %d writes, want about 15", n, s.writes)
		}
		if worst > 100 {
			t.Errorf("at a time %d messages waited, want at most those of 100 ms", worst)
		}
		time.Sleep(time.Second)
		before := w.Stats.Windows.Load()
		for i := range 20 {
			feed.Append(Entry{frame(Seq(n+i+1), 0, 10), 0})
			synctest.Wait()
			if got := len(s.entries(t)); got != n+i+1 {
				t.Fatal("in a quiet feed a message must go out at once")
			}
			time.Sleep(time.Second)
		}
		if n := w.Stats.Windows.Load() - before; n != 0 {
			t.Errorf("a quiet feed opened %d windows, want none", n)
		}
	})
}

// A window ends early when as much waits as the log can hold for a time.
func TestAWindowDoesNotDriveAnyoneOutOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		feed := NewFeed(w, &history{oldest: 1}, 1)
		feed.Merge(10 * time.Second)
		defer feed.Close()
		s := &counting{}
		s.out = NewOutlet(w, s, 0)
		feed.Join(s.out, 1, 0)
		const n = 1000
		for i := range n {
			feed.Append(Entry{frame(Seq(i+1), 0, 1000), 0})
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if wants := w.Stats.PageWants.Load(); wants != 0 || len(s.entries(t)) != n {
			t.Errorf("of %d entries %d arrived, and the member fell behind the log %d times", n, len(s.entries(t)), wants)
		}
		if s.writes > 80 {
			t.Errorf("1 MB took %d writes, want about 65: one or two for each half of the log", s.writes)
		}
	})
}

// A feed that is closed while something waits lets it go, and leaves no timer behind.
func TestAClosedFeedHasNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		feed := NewFeed(w, &history{oldest: 1}, 1)
		feed.Merge(time.Second)
		s := &socket{}
		s.out = NewOutlet(w, s, 0)
		feed.Join(s.out, 1, 0)
		for i := range 5 {
			feed.Append(Entry{frame(Seq(i+1), 0, 10), 0})
			synctest.Wait()
		}
		if got := len(s.entries(t)); got == 5 {
			t.Fatal("the last of five messages must wait")
		}
		feed.Close()
		feed.Append(Entry{frame(6, 0, 10), 0})
		synctest.Wait()
		if got := len(s.entries(t)); got != 6 {
			t.Errorf("a feed that was closed must let go what waited, and hold back nothing: %d of 6 messages arrived", got)
		}
		if feed.merge.timer.Stop() {
			t.Error("a timer is left")
		}
		feed.Close()
	})
}

// Publishing into many small quiet rooms costs no timer, and nobody's time.
func TestQuietRoomsCostNoTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriters(1)
		defer w.Close()
		var feeds []*Feed
		for range 1000 {
			f := NewFeed(w, &history{oldest: 1}, 1)
			f.Merge(50 * time.Millisecond)
			s := &socket{}
			s.out = NewOutlet(w, s, 0)
			f.Join(s.out, 1, 0)
			feeds = append(feeds, f)
		}
		for range 10 {
			for _, f := range feeds {
				_, next := f.Bounds()
				f.Append(Entry{frame(next, 0, 10), 0})
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, f := range feeds {
			if f.merge.timer != nil {
				t.Fatal("a quiet room has a timer")
			}
		}
		if n := w.Stats.Windows.Load(); n != 0 {
			t.Errorf("%d windows were opened, want none", n)
		}
	})
}
