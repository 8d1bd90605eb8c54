package fanout

import (
	"sync"
	"time"
)

// A window starts at its limit divided by windowSteps, and doubles from there.
const windowSteps = 16

// several is how many appends in the time of a full window make windows worth their wait.
const several = 2

// pace decides when what is appended to a feed goes out: at once in a quiet feed; in a busy one after a window, in which other entries
// may join. Windows begin when something went out, so the first append after a pause never waits.
//
// The window in force adapts: it is 0 as long as fewer than several appends come in the time of a full window, and doubles each time
// something goes out while there are more, up to the limit; it halves when there are fewer again.
//
// It is pure: times are nanoseconds of any clock that does not go back.
type pace struct {
	limit   int64 // the widest window; more than 0
	window  int64 // in force
	sent    int64 // when something went out last
	waiting bool  // for the end of the window

	begun  int64 // the present stretch of time of length limit
	now    int64 // appends in it,
	before int64 // and in the one before
}

// append says that something was appended: flush is true when it goes out now; otherwise it goes out with what waits already, or, when
// until is not 0, at that time, at which end must be called.
func (p *pace) append(now int64) (flush bool, until int64) {
	p.count(now)
	switch {
	case p.waiting:
		return false, 0
	case now-p.sent >= p.window:
		p.flush(now)
		return true, 0
	}
	p.waiting = true
	return false, p.sent + p.window
}

// end says that the window is over and that what waited goes out.
func (p *pace) end(now int64) {
	p.waiting = false
	p.flush(now)
}

func (p *pace) flush(now int64) {
	least := p.limit / windowSteps
	switch {
	case p.busy(now):
		p.window = min(max(2*p.window, least), p.limit)
	case now-p.sent >= 2*p.limit:
		p.window = 0
	default:
		if p.window /= 2; p.window < least {
			p.window = 0
		}
	}
	p.sent = now
}

// count takes note of an append.
func (p *pace) count(now int64) {
	p.stretch(now)
	p.now++
}

// stretch moves the present stretch up to now.
func (p *pace) stretch(now int64) {
	over := (now - p.begun) / p.limit
	if over <= 0 {
		return
	}
	p.before = 0
	if over == 1 {
		p.before = p.now
	}
	p.now = 0
	p.begun += over * p.limit
}

// busy says whether there were several appends in the last stretch of time: those of the present one, and of the one before as
// many as its share in it.
func (p *pace) busy(now int64) bool {
	p.stretch(now)
	left := float64(p.limit-(now-p.begun)) / float64(p.limit)
	return float64(p.now)+float64(p.before)*left >= several
}

// merging is the merge window of one feed.
type merging struct {
	feed *Feed

	mu    sync.Mutex
	pace  pace        // owner: mu
	bytes int         // owner: mu; of what waits
	timer *time.Timer // owner: mu; runs only while something waits; nil before that was ever so
	ended bool        // owner: mu
}

// Merge makes appends wait for others up to limit while the feed is busy; 0 means that none waits, as before it is called. Call it
// before the first Append. A feed with a limit must be closed.
func (f *Feed) Merge(limit time.Duration) {
	if limit > 0 {
		f.merge = &merging{feed: f, pace: pace{limit: int64(limit)}}
	}
}

// Close ends what waits for a merge window: it goes out now, as does whatever is appended later. Members stay.
func (f *Feed) Close() {
	if m := f.merge; m != nil && m.close() {
		f.wake()
	}
}

// appended says whether the writers are to be woken now that so many bytes were appended. A window ends early when room bytes wait:
// nobody must fall behind the log because of it.
func (m *merging) appended(bytes, room int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return true
	}
	now := m.now()
	flush, until := m.pace.append(now)
	if flush {
		return true
	}
	if m.bytes += bytes; m.bytes >= room {
		m.pace.end(now)
		m.bytes = 0
		if m.timer != nil {
			m.timer.Stop()
		}
		return true
	}
	stats := &m.feed.writers.Stats
	stats.Merged.Add(1)
	if until == 0 {
		return false
	}
	stats.Windows.Add(1)
	if wait := time.Duration(until - now); m.timer == nil {
		m.timer = time.AfterFunc(wait, m.end)
	} else {
		m.timer.Reset(wait)
	}
	return false
}

// end is the end of a window.
func (m *merging) end() {
	m.mu.Lock()
	waiting := m.pace.waiting // not if it was ended early at this moment
	if waiting {
		m.pace.end(m.now())
		m.bytes = 0
	}
	m.mu.Unlock()
	if waiting {
		m.feed.wake()
	}
}

// close reports whether something waited.
func (m *merging) close() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	return m.timer != nil && m.timer.Stop()
}

func (m *merging) now() int64 { return int64(time.Since(m.feed.writers.start)) }
