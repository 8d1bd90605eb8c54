package fanout

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Limits of a feed's log, in bytes. The log grows with the number of members: a large room has many readers that
// lag a little, a small one is cheap to page from the journal.
const (
	MinLogBytes       = 64 << 10
	MinLiveBytes      = 256 << 10 // of a live feed, whose members can be given nothing else; used only when it is busy
	MaxLogBytes       = 4 << 20
	logBytesPerMember = 512
)

// shardSize is the number of members that one walk visits and one lock guards.
const shardSize = 2048

// Pager brings entries that a feed's log no longer holds.
type Pager interface {
	// Want takes note that a page is needed that holds entry w.Seq, and returns at once: it is called with the
	// outlet locked. Later, from any goroutine, w.Supply, w.Gone or the end of the outlet answers.
	Want(w Want)
}

// Skipper is told of members of a feed whose entries are kept nowhere else: those that are behind the log skip ahead.
type Skipper interface {
	// Skipped says that a member will not be given n entries, and returns what it is told. It is called with the outlet
	// locked, and returns at once.
	Skipped(n uint64) Notice
}

// Feed is one log and its members. Append, Restart, Skip and Join are called by one owner at a time (the channel, under
// its lock); members leave from any goroutine.
type Feed struct {
	log     *Log
	pager   Pager
	skipper Skipper // instead of a pager
	writers *Writers
	merge   *merging // nil without a window
	count   atomic.Int64

	mu     sync.Mutex
	shards atomic.Pointer[[]*shard] // owner: mu; the slice is copied on write and may be read without mu
}

// NewFeed makes a feed whose next entry is next.
func NewFeed(w *Writers, p Pager, next Seq) *Feed {
	return &Feed{log: newLog(next), pager: p, writers: w}
}

// NewLiveFeed makes a feed without a pager: a member that is behind the log skips ahead to the newest entry.
func NewLiveFeed(w *Writers, s Skipper, next Seq) *Feed {
	return &Feed{log: newLog(next), skipper: s, writers: w}
}

// Notice is what a member is told when its cursor is moved by others: ready frames, after which it goes on, or, with
// End, after which its connection ends, or, with Leave, after which it is no member of the feed any more.
type Notice struct {
	Frames []byte
	End    bool
	Leave  bool
}

// Entry is one frame to append.
type Entry struct {
	Frame  []byte
	Sender Sender
}

// Append adds entries, which are numbered on from Next, and wakes the writers, at once or at the end of a merge window. Frames are
// copied. A member that is written to for another reason is given what it has then, and does not wait for the window.
func (f *Feed) Append(entries ...Entry) {
	members := int(f.count.Load())
	size := 0
	for _, e := range entries {
		size += len(e.Frame) + entryOverhead
	}
	limit := f.limit(members, size)
	f.log.mu.Lock()
	for _, e := range entries {
		f.log.append(e.Frame, e.Sender, limit)
	}
	f.log.mu.Unlock()
	if members > 0 && (f.merge == nil || f.merge.appended(size, limit/2)) {
		f.wake()
	}
}

// limit is how large the log may be when size bytes are appended at once. In a live feed these never drive each other out, nor what
// was appended just before: nobody could give it to the members again.
func (f *Feed) limit(members, size int) int {
	limit := min(max(members*logBytesPerMember, MinLogBytes), MaxLogBytes)
	if f.skipper != nil {
		return max(limit, MinLiveBytes, 2*size)
	}
	return limit
}

// Restart empties the log and numbers the next entry next. All members' cursors become void: each is sent notice
// and continues with entry next. Answers to older wants are ignored.
func (f *Feed) Restart(next Seq, notice Notice) {
	f.log.mu.Lock()
	f.log.restart(next)
	f.log.mu.Unlock()
	f.each(func(m *Member) { m.jump(f, next, notice) })
}

// Skip empties the log and numbers the next entry next, in the same life: members behind it will want pages.
func (f *Feed) Skip(next Seq) {
	f.log.mu.Lock()
	f.log.skip(next)
	f.log.mu.Unlock()
	f.wake()
}

// Bounds returns what the log holds: [first, next).
func (f *Feed) Bounds() (first, next Seq) {
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	return f.log.first(), f.log.next()
}

// Members is the number of members.
func (f *Feed) Members() int { return int(f.count.Load()) }

// each calls fn for every member that was there when it was called.
func (f *Feed) each(fn func(*Member)) {
	for _, s := range f.snapshot() {
		s.mu.Lock()
		members := append([]*Member(nil), s.members...)
		s.mu.Unlock()
		for _, m := range members {
			fn(m)
		}
	}
}

func (f *Feed) snapshot() []*shard {
	if s := f.shards.Load(); s != nil {
		return *s
	}
	return nil
}

func (f *Feed) wake() {
	for _, s := range f.snapshot() {
		if s.count.Load() > 0 {
			f.writers.schedule(s)
		}
	}
}

// add puts m into a shard that has room.
func (f *Feed) add(m *Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count.Add(1)
	all := f.snapshot()
	for _, v := range slices.Backward(all) {
		if v.add(m) {
			return
		}
	}
	s := &shard{}
	s.add(m)
	grown := append(slices.Clip(all), s)
	f.shards.Store(&grown)
}

// shard is a part of a feed's members: the unit of a walk.
type shard struct {
	job
	count atomic.Int32

	mu      sync.Mutex
	members []*Member // owner: mu
	moved   bool      // owner: mu; a member was moved to a lower place, so a walk may have missed it
}

func (s *shard) add(m *Member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.members) >= shardSize {
		return false
	}
	m.home, m.at = s, uint16(len(s.members))
	s.members = append(s.members, m)
	s.count.Store(int32(len(s.members)))
	return true
}

// remove takes m out by moving the last member into its place.
func (s *shard) remove(m *Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.members) - 1
	if moved := s.members[last]; moved != m {
		s.members[m.at] = moved
		moved.at = m.at
		s.moved = true
	}
	s.members[last] = nil
	s.members = s.members[:last]
	s.count.Store(int32(last))
}

// walkChunk is how many members are copied out of a shard at a time.
const walkChunk = 256

// run gives every member of the shard what the feed holds beyond its cursor. Members look at the end of the log
// for themselves, so what is appended during the walk goes out with it.
func (s *shard) run(w *walker) (again bool) {
	for pos := 0; ; pos += walkChunk {
		s.mu.Lock()
		if pos == 0 {
			s.moved = false
		}
		w.chunk = append(w.chunk[:0], s.members[min(pos, len(s.members)):min(pos+walkChunk, len(s.members))]...)
		more := pos+walkChunk < len(s.members)
		again = s.moved
		s.mu.Unlock()
		w.forget()
		// Walks of several feeds with the same members would follow one another step by step: whoever is being served by another
		// writer is visited once more at the end.
		busy := w.chunk[:0]
		for _, m := range w.chunk {
			if !m.out.mu.TryLock() {
				busy = append(busy, m)
				continue
			}
			m.out.flushMember(m, w)
		}
		for _, m := range busy {
			m.out.mu.Lock()
			m.out.flushMember(m, w)
		}
		clear(w.chunk)
		if !more {
			return again
		}
	}
}
