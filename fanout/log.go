package fanout

import (
	"sort"
	"sync"
	"sync/atomic"
)

// Seq numbers the entries of a feed. In a durable channel it is the message's offset.
type Seq uint64

// Sender identifies who published an entry, so that a member can be spared its own; 0 is nobody.
type Sender uint64

// Sizes of a log's segments. They double from the first to the last so that a quiet channel stays small.
const (
	firstSegment = 2 << 10
	lastSegment  = 128 << 10
	// entryOverhead is what an entry counts besides its frame: its end and its sender.
	entryOverhead = 12
)

// segment holds consecutive entries in one buffer. Bytes below len(buf) never change, so a slice of them may be
// read without a lock for as long as anyone likes; a segment that left its log lives until its last reader is done.
type segment struct {
	first   Seq
	buf     []byte
	ends    []uint32
	senders []Sender
}

func (s *segment) next() Seq { return s.first + Seq(len(s.ends)) }

// size is the memory that the segment takes, used the part of it that holds entries.
func (s *segment) size() int { return cap(s.buf) + entryOverhead*len(s.ends) }
func (s *segment) used() int { return len(s.buf) + entryOverhead*len(s.ends) }

func (s *segment) add(frame []byte, sender Sender) {
	s.buf = append(s.buf, frame...)
	s.ends = append(s.ends, uint32(len(s.buf)))
	s.senders = append(s.senders, sender)
}

// from returns the run of all entries from seq on; seq must be in [s.first, s.next()).
func (s *segment) from(seq Seq) run {
	i := int(seq - s.first)
	start := uint32(0)
	if i > 0 {
		start = s.ends[i-1]
	}
	return run{first: seq, start: start, buf: s.buf, ends: s.ends[i:], senders: s.senders[i:]}
}

// run is a view of consecutive entries that stays valid after the log moved on.
type run struct {
	first   Seq
	start   uint32
	buf     []byte
	ends    []uint32
	senders []Sender
}

func (r *run) empty() bool { return len(r.ends) == 0 }

func (r *run) bytes() []byte { return r.buf[r.start:r.ends[len(r.ends)-1]] }

// without returns the longest prefix of r that holds no entry of sender, and how many of sender's entries stand
// before it.
func (r run) without(sender Sender) (skipped int, rest run) {
	for !r.empty() && r.senders[0] == sender {
		r = r.drop(1)
		skipped++
	}
	for i, s := range r.senders {
		if s == sender {
			r.ends, r.senders = r.ends[:i], r.senders[:i]
			break
		}
	}
	return skipped, r
}

func (r run) drop(n int) run {
	r.start = r.ends[n-1]
	r.first += Seq(n)
	r.ends, r.senders = r.ends[n:], r.senders[n:]
	return r
}

// written splits r after n bytes: how many entries are whole, and the rest of the entry that was cut.
func (r *run) written(n int) (entries int, rest []byte) {
	at := r.start + uint32(n)
	entries = sort.Search(len(r.ends), func(i int) bool { return r.ends[i] > at })
	begun := r.start
	if entries > 0 {
		begun = r.ends[entries-1]
	}
	if at == begun {
		return entries, nil
	}
	return entries, r.buf[at:r.ends[entries]]
}

// Log is a bounded log of ready frames: the newest entries, as many as its limit allows. It is safe for use by
// several goroutines; only its feed appends.
type Log struct {
	mu   sync.Mutex
	segs []*segment // never empty; the last one is appended to
	held int        // bytes of all entries
	life life

	end atomic.Uint64 // next(), to be read without mu
}

// life counts the restarts of a log: a cursor of one life means nothing in the next.
type life uint32

func newLog(next Seq) *Log {
	l := &Log{}
	l.restart(next)
	return l
}

// restart empties the log and begins another life of it; its next entry will be next.
func (l *Log) restart(next Seq) {
	l.segs = []*segment{{first: next}}
	l.held = 0
	l.life++
	l.end.Store(uint64(next))
}

// skip empties the log without ending its life.
func (l *Log) skip(next Seq) {
	l.restart(next)
	l.life--
}

// append adds one entry and drops the oldest segments that are not needed to hold limit bytes of entries. Room that a new
// segment has for entries to come is not counted: it must not drive out the ones that members are about to be given.
func (l *Log) append(frame []byte, sender Sender, limit int) {
	s := l.segs[len(l.segs)-1]
	if len(s.buf)+len(frame) > cap(s.buf) {
		if len(s.ends) == 0 {
			l.segs = l.segs[:0]
		}
		size := min(max(2*cap(s.buf), firstSegment), lastSegment, limit/2)
		s = &segment{first: s.next(), buf: make([]byte, 0, max(size, len(frame)))}
		l.segs = append(l.segs, s)
	}
	s.add(frame, sender)
	l.held += len(frame) + entryOverhead
	l.end.Store(uint64(s.next()))
	for len(l.segs) > 1 && l.held-l.segs[0].used() >= limit {
		l.held -= l.segs[0].used()
		l.segs[0] = nil
		l.segs = l.segs[1:]
	}
}

// first and next bound what the log holds: [first, next). Callers hold mu.
func (l *Log) first() Seq { return l.segs[0].first }
func (l *Log) next() Seq  { return l.segs[len(l.segs)-1].next() }

// from returns the entries from seq to the end of their segment; more says that another segment follows. The run is
// empty when the log does not hold seq or lives another life; old says that seq is behind the log, not ahead.
func (l *Log) from(seq Seq, in life) (r run, more, old bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in != l.life {
		return run{}, false, false
	}
	if seq < l.first() {
		return run{}, false, true
	}
	if seq >= l.next() {
		return run{}, false, false
	}
	i := len(l.segs) - 1
	for l.segs[i].first > seq {
		i--
	}
	return l.segs[i].from(seq), i < len(l.segs)-1, false
}

// Page is an immutable stretch of entries, built once and read by any number of members that are behind the log.
type Page struct{ seg segment }

// NewPage starts a page whose first entry is first. Add all entries before it is shared.
func NewPage(first Seq, bytes, entries int) *Page {
	return &Page{segment{
		first: first, buf: make([]byte, 0, bytes),
		ends: make([]uint32, 0, entries), senders: make([]Sender, 0, entries),
	}}
}

// Add appends one entry.
func (p *Page) Add(frame []byte, sender Sender) { p.seg.add(frame, sender) }

// First and Next bound what the page holds: [First, Next).
func (p *Page) First() Seq { return p.seg.first }

// Next is the number after the page's last entry.
func (p *Page) Next() Seq { return p.seg.next() }

// Size is the memory that the page takes, in bytes.
func (p *Page) Size() int { return p.seg.size() }

func (p *Page) holds(seq Seq) bool { return p != nil && seq >= p.First() && seq < p.Next() }
