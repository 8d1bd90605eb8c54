package fanout

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what the writers did since the start.
type Stats struct {
	Writes    atomic.Int64 // system calls, or what stands for one
	Bytes     atomic.Int64
	Entries   atomic.Int64 // entries delivered whole
	Skipped   atomic.Int64 // entries passed over because the member published them itself (echo=0)
	Blocked   atomic.Int64 // times a socket accepted less than there was
	PageWants atomic.Int64 // times a member was behind its log
	Windows   atomic.Int64 // merge windows that something waited for
	Merged    atomic.Int64 // appends that waited for one
}

// Writers is a pool of goroutines that send. Each shard and each outlet stands in its queue at most once, which bounds it.
type Writers struct {
	Stats Stats

	mu    sync.Mutex
	ready sync.Cond
	queue []task // owner: mu
	first int    // owner: mu; queue[:first] has been taken
	ended bool   // owner: mu
	wg    sync.WaitGroup

	start time.Time
	spare sync.Pool // of *pending
}

// elapsed counts milliseconds, and begins anew after 49 days.
func (w *Writers) elapsed() uint32 { return uint32(time.Since(w.start).Milliseconds()) }

// task is a shard or an outlet that has something to send.
type task interface {
	state() *atomic.Int32
	run(w *walker) (again bool)
}

// job is the scheduling state of a task.
type job struct{ st atomic.Int32 }

func (j *job) state() *atomic.Int32 { return &j.st }

const (
	idle    = iota
	queued  // in the queue
	running // a writer is at it
	rerun   // a writer is at it, and there is more
)

// walker is the working memory of one writer.
type walker struct {
	stats   *Stats
	cache   [8]cached // what the last members were given, nearly always the same for the next
	cached  int       // entries of cache in use
	oldest  int       // the next of them to be replaced
	chunk   []*Member // of the shard being walked
	parts   []part    // of the write being put together
	scratch []byte    // its bytes
	local   counters
	done    int // tasks since the last report
}

// cached is what members of one feed with the same cursor are given.
type cached struct {
	feed *Feed
	life life
	run  run
	more bool // another segment follows it
}

// find returns what m is to be given, if another member was given it just now.
func (w *walker) find(m *Member) *cached {
	for i := range w.cached {
		if c := &w.cache[i]; c.feed == m.feed && c.run.first == m.next && c.life == m.life {
			return c
		}
	}
	return nil
}

// keep remembers what m is given.
func (w *walker) keep(m *Member, r run, more bool) {
	if r.empty() {
		return
	}
	i := w.oldest
	w.cache[i] = cached{m.feed, m.life, r, more}
	w.cached = max(w.cached, i+1)
	w.oldest = (i + 1) % len(w.cache)
}

// forget empties the cache, so that what was appended meanwhile is seen.
func (w *walker) forget() {
	clear(w.cache[:w.cached])
	w.cached, w.oldest = 0, 0
}

// buffer returns an empty buffer of scratchBytes.
func (w *walker) buffer() []byte {
	if w.scratch == nil {
		w.scratch = make([]byte, 0, scratchBytes)
	}
	return w.scratch
}

type counters struct{ writes, bytes, entries, skipped, blocked int64 }

// report adds what was counted to the statistics.
func (w *walker) report() {
	c := &w.local
	w.stats.Writes.Add(c.writes)
	w.stats.Bytes.Add(c.bytes)
	w.stats.Entries.Add(c.entries)
	w.stats.Skipped.Add(c.skipped)
	w.stats.Blocked.Add(c.blocked)
	*c, w.done = counters{}, 0
}

// release lets go of what a task held on to.
func (w *walker) release() {
	clear(w.parts[:cap(w.parts)])
	w.forget()
}

// NewWriters starts n writers; 0 means one per processor.
func NewWriters(n int) *Writers {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	w := &Writers{start: time.Now()}
	w.ready.L = &w.mu
	for range n {
		w.wg.Go(w.work)
	}
	return w
}

// Close lets the writers finish what is queued and ends them. Nothing is sent afterwards.
func (w *Writers) Close() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.ready.Broadcast()
	w.wg.Wait()
}

// schedule makes sure that t runs after this call. It never blocks.
func (w *Writers) schedule(t task) {
	st := t.state()
	for {
		switch s := st.Load(); s {
		case queued, rerun:
			return
		case running:
			if st.CompareAndSwap(running, rerun) {
				return
			}
		case idle:
			if st.CompareAndSwap(idle, queued) {
				w.push(t)
				return
			}
		}
	}
}

func (w *Writers) push(t task) {
	w.mu.Lock()
	if len(w.queue) == cap(w.queue) && w.first > len(w.queue)/2 {
		n := copy(w.queue, w.queue[w.first:])
		clear(w.queue[n:])
		w.queue, w.first = w.queue[:n], 0
	}
	w.queue = append(w.queue, t)
	w.mu.Unlock()
	w.ready.Signal()
}

// pop returns the next task, and nil at the end. A writer that has to wait reports before.
func (w *Writers) pop(me *walker) task {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.first == len(w.queue) {
		me.report()
		if w.ended {
			return nil
		}
		w.ready.Wait()
	}
	t := w.queue[w.first]
	w.queue[w.first] = nil
	if w.first++; w.first == len(w.queue) {
		w.queue, w.first = w.queue[:0], 0
	}
	return t
}

// reportEvery is after how many tasks a writer that is never idle reports.
const reportEvery = 64

func (w *Writers) work() {
	me := &walker{stats: &w.Stats, chunk: make([]*Member, 0, walkChunk)}
	for t := w.pop(me); t != nil; t = w.pop(me) {
		st := t.state()
		st.Store(running)
		again := t.run(me)
		if me.done++; me.done == reportEvery {
			me.report()
		}
		me.release()
		if again || !st.CompareAndSwap(running, idle) {
			st.Store(queued)
			w.push(t)
		}
	}
}
