package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"barrage/proto"
)

// Defaults of WriterOptions.
const (
	DefaultQueueLimit    = 65_536
	DefaultQueueBytes    = 64 << 20
	DefaultAppendTimeout = 10 * time.Second
)

// maxBatchBytes ends a batch early: about as much as one statement should carry.
const maxBatchBytes = 8 << 20

// ErrQueueFull: the Writer's queue has no room; nothing was stored. It has room again when the journal catches up.
var ErrQueueFull = errors.New("the journal's queue is full; slow down")

// Laner is implemented by journals that commit faster when several batches are under way at once.
type Laner interface {
	// Lanes is the number of batches that should be under way at once, at least 1.
	Lanes() int
}

// Done hears how one draft ended: where it was stored, or why it was not. It is called once, from a goroutine of the
// Writer that stores nothing meanwhile, so it must return quickly and must not wait for the Writer.
type Done func(s Stored, epoch proto.Epoch, err error)

// WriterOptions are the settings of a Writer. The zero value works.
type WriterOptions struct {
	// Lanes is the number of batches under way at once; a channel always uses the same lane. 0 means what the
	// journal prefers (see Laner), or 1.
	Lanes int
	// QueueLimit bounds the drafts that are queued or being stored; 0 means DefaultQueueLimit.
	QueueLimit int
	// QueueBytes bounds the sum of their sizes; 0 means DefaultQueueBytes, 64 MiB.
	QueueBytes int64
	// AppendTimeout bounds one call of Append; 0 means DefaultAppendTimeout, 10 s.
	AppendTimeout time.Duration
	// Committed, when set, hears of every batch that was stored, before the drafts' own callbacks. The batches of
	// one channel come one after the other and in order; those of different lanes at the same time. A batch may hold
	// repeated drafts: their offsets still tell how far the channel is.
	Committed func(b Batch)
	// Observe, when set, hears of every call of Append: its number of drafts, how long it took and its error.
	Observe func(n int, took time.Duration, err error)
}

// Writer stores drafts of many publishers by group commit: what was queued during the last commit is the next batch,
// so a lone draft waits for nothing, and a busy journal commits large batches.
//
// The drafts of one channel are stored in the order of the calls of Publish. A draft that cannot be stored (ErrDraft
// and the like) fails alone: its batch is split until the rest is stored. When the journal is unavailable, or
// the outcome unknown, the whole batch fails, and the next one is tried.
type Writer struct {
	journal Journal
	options WriterOptions
	seed    maphash.Seed
	lanes   []*lane

	ctx    context.Context // ends when Close gives up waiting
	cancel context.CancelFunc
	done   chan struct{} // closed when all lanes have ended

	drafts, bytes atomic.Int64 // queued or being stored
	refused       atomic.Int64
	batches       atomic.Int64
	messages      atomic.Int64
	failed        atomic.Int64
	lastBatch     atomic.Int64
}

// Stats are a Writer's counters.
type Stats struct {
	// Queued is the number of drafts queued or being stored, and QueuedBytes the sum of their sizes.
	Queued, QueuedBytes int64
	// Refused counts the drafts refused with ErrQueueFull.
	Refused int64
	// Batches counts the batches stored, and Messages the drafts in them, repeated ones included.
	Batches, Messages int64
	// Failed counts the drafts that were accepted and then failed.
	Failed int64
	// LastBatch is the number of drafts in the last batch stored.
	LastBatch int64
}

// lane is one goroutine's queue.
type lane struct {
	mu     sync.Mutex
	queue  []item // guarded by mu; its length over all lanes is bounded by Writer.drafts
	closed bool   // guarded by mu
	wake   chan struct{}
}

type item struct {
	draft Draft
	done  Done
}

// NewWriter starts a Writer on j. Close it before j.
func NewWriter(j Journal, o WriterOptions) *Writer {
	if o.Lanes <= 0 {
		o.Lanes = 1
		if l, ok := j.(Laner); ok {
			o.Lanes = max(1, l.Lanes())
		}
	}
	if o.QueueLimit <= 0 {
		o.QueueLimit = DefaultQueueLimit
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.AppendTimeout <= 0 {
		o.AppendTimeout = DefaultAppendTimeout
	}
	w := &Writer{journal: j, options: o, seed: maphash.MakeSeed(), done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range o.Lanes {
		l := &lane{wake: make(chan struct{}, 1)}
		w.lanes = append(w.lanes, l)
		running.Go(func() { w.run(l) })
	}
	go func() {
		running.Wait()
		close(w.done)
	}()
	return w
}

// Publish queues a draft and returns; done hears how it ended. It never blocks: when it returns an error, ErrQueueFull
// or ErrClosed, nothing was queued and done is not called.
func (w *Writer) Publish(d Draft, done Done) error {
	if !w.reserve(d.Size()) {
		w.refused.Add(1)
		return ErrQueueFull
	}
	l := w.lanes[maphash.String(w.seed, d.Channel)%uint64(len(w.lanes))]
	if !l.push(item{d, done}) {
		w.release(1, d.Size())
		return ErrClosed
	}
	return nil
}

// Stats returns the counters as they are now.
func (w *Writer) Stats() Stats {
	return Stats{
		Queued: w.drafts.Load(), QueuedBytes: w.bytes.Load(), Refused: w.refused.Load(), Batches: w.batches.Load(),
		Messages: w.messages.Load(), Failed: w.failed.Load(), LastBatch: w.lastBatch.Load(),
	}
}

// Close refuses new drafts, stores those that are queued, and waits for that. When ctx ends first, Close returns its
// error at once; the drafts left fail with ErrClosed, and the batch under way as the journal says.
func (w *Writer) Close(ctx context.Context) error {
	for _, l := range w.lanes {
		l.close()
	}
	defer w.cancel()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d drafts were not stored in time: %w", w.drafts.Load(), ctx.Err())
	}
}

// reserve makes room for one draft, or says that there is none. A draft larger than QueueBytes never fits.
func (w *Writer) reserve(size int) bool {
	drafts, bytes := w.drafts.Add(1), w.bytes.Add(int64(size))
	if drafts <= int64(w.options.QueueLimit) && bytes <= w.options.QueueBytes {
		return true
	}
	w.release(1, size)
	return false
}

func (w *Writer) release(n, size int) {
	w.drafts.Add(-int64(n))
	w.bytes.Add(-int64(size))
}

func (l *lane) push(i item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.queue = append(l.queue, i)
	l.signal()
	return true
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.signal()
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take waits for drafts and moves the next batch to items. It returns false when the lane is closed and empty.
func (l *lane) take(items []item) ([]item, bool) {
	for {
		l.mu.Lock()
		n, size := 0, 0
		for n < len(l.queue) && n < MaxBatch && size < maxBatchBytes {
			size += l.queue[n].draft.Size()
			n++
		}
		items = append(items, l.queue[:n]...)
		clear(l.queue[:n])
		l.queue = l.queue[n:]
		if len(l.queue) == 0 {
			l.queue = nil
		}
		closed := l.closed
		l.mu.Unlock()
		if n > 0 || closed {
			return items, n > 0
		}
		<-l.wake
	}
}

// run stores a lane's drafts, batch by batch.
func (w *Writer) run(l *lane) {
	var items []item
	for {
		var more bool
		if items, more = l.take(items[:0]); !more {
			return
		}
		w.store(items)
		if len(items) >= crowd {
			l.gather()
		}
		clear(items)
	}
}

// crowd is how many drafts of one batch make it worth to let their publishers go on before the next batch is cut.
const crowd = 2

// gather lets other goroutines run, as long as that makes the queue grow: publishers who wait for an acknowledgement before
// they publish again then share the next batch, instead of taking turns in two half as large. It waits for nobody.
func (l *lane) gather() {
	before := -1
	for range 16 {
		l.mu.Lock()
		n := len(l.queue)
		l.mu.Unlock()
		if n == before || n >= MaxBatch {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// store stores items as one batch, or in halves when one of them is at fault.
func (w *Writer) store(items []item) {
	if w.ctx.Err() != nil {
		w.fail(items, ErrClosed)
		return
	}
	drafts := make([]Draft, len(items))
	for i := range items {
		drafts[i] = items[i].draft
	}
	appended, err := w.append(drafts)
	switch {
	case err == nil:
		w.succeed(items, Batch{Epoch: appended.Epoch, Drafts: drafts, Stored: appended.Stored})
	case len(items) > 1 && blames(err):
		w.store(items[:len(items)/2])
		w.store(items[len(items)/2:])
	default:
		w.fail(items, err)
	}
}

func (w *Writer) append(drafts []Draft) (Appended, error) {
	ctx, cancel := context.WithTimeout(w.ctx, w.options.AppendTimeout)
	defer cancel()
	start := time.Now()
	appended, err := w.journal.Append(ctx, drafts)
	if w.options.Observe != nil {
		w.options.Observe(len(drafts), time.Since(start), err)
	}
	return appended, err
}

func (w *Writer) succeed(items []item, b Batch) {
	w.batches.Add(1)
	w.messages.Add(int64(len(items)))
	w.lastBatch.Store(int64(len(items)))
	if w.options.Committed != nil {
		w.options.Committed(b)
	}
	for i := range items {
		w.release(1, items[i].draft.Size())
		items[i].done(b.Stored[i], b.Epoch, nil)
	}
}

func (w *Writer) fail(items []item, err error) {
	w.failed.Add(int64(len(items)))
	for i := range items {
		w.release(1, items[i].draft.Size())
		items[i].done(Stored{}, "", err)
	}
}

// blames says whether err can be the fault of one draft in a batch: nothing was stored, and not because of
// the journal's own state.
func blames(err error) bool {
	for _, own := range []error{
		ErrUnavailable, ErrUncertain, ErrNewerSchema, ErrClosed, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, own) {
			return false
		}
	}
	return true
}
