package fanout

import (
	"math"
	"sync"
	"time"
)

// Socket is what an outlet writes to. TryWrite and ArmWrite are called by one goroutine at a time.
type Socket interface {
	// TryWrite sends as much of b as can be sent without blocking. n < len(b) with a nil error means that the socket
	// is full. b is not kept.
	TryWrite(b []byte) (n int, err error)
	// ArmWrite makes the engine call the outlet's Writable once, as soon as the socket accepts bytes again.
	ArmWrite()
	// Finish ends the sending direction after everything that TryWrite took: the peer sees the end of the stream.
	Finish()
	// Abort closes the socket at once.
	Abort(err error)
}

// DefaultPending is the default limit of an outlet's pending bytes.
const DefaultPending = 1 << 20

// Outlet is the sending side of one connection: what must go first, then what its members' cursors say. All methods
// may be called from any goroutine and never block on the socket.
//
// It may be a field of what it belongs to, made ready by Init. It must not be copied, and it lives for as long as someone may
// still hold one of its members. There may be very many: a test bounds its size.
type Outlet struct {
	job
	blocked bool // owner: mu; the socket is full and armed
	ending  bool // owner: mu; Finish when nothing is pending, no member is served any more
	ended   bool // owner: mu; the socket must not be touched
	used    bool // owner: mu; first was given out; it never is again, since someone may still hold it

	writers *Writers
	mu      sync.Mutex
	limit   uint32   // of pending bytes
	since   uint32   // owner: mu; when the socket became full, in milliseconds of Writers.elapsed
	sock    Socket   // never changes; written to under mu
	pending *pending // owner: mu; what goes before anything else; nil for nothing
	members *Member  // owner: mu; the first of a list
	first   Member   // the first that joins: most connections have no other
}

// NewOutlet makes the sending side of sock. limit bounds the pending bytes; 0 means DefaultPending.
func NewOutlet(w *Writers, sock Socket, limit int) *Outlet {
	o := &Outlet{}
	o.Init(w, sock, limit)
	return o
}

// Init makes an outlet that is the zero value ready, once, before any other method is called; the arguments are those of
// NewOutlet.
func (o *Outlet) Init(w *Writers, sock Socket, limit int) {
	if limit <= 0 {
		limit = DefaultPending
	}
	o.writers, o.sock, o.limit = w, sock, uint32(min(limit, math.MaxInt32))
}

// Socket is what the outlet writes to. Only methods that any goroutine may call are to be called on it.
func (o *Outlet) Socket() Socket { return o.sock }

// Send queues ready frames to go before anything that members have not been given yet. It reports false, and drops
// them, when the outlet is ending or when its pending bytes, without those of Answer and Offer, would exceed the limit; the caller then
// closes the connection.
func (o *Outlet) Send(frames []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.ending && !o.ended && o.send(frames)
}

// send is Send with the outlet locked.
func (o *Outlet) send(frames []byte) bool {
	waiting := o.pending.size()
	if waiting > 0 {
		waiting -= o.pending.answers
	}
	if waiting > 0 && waiting+len(frames) > int(o.limit) {
		return false
	}
	o.push(frames)
	o.writers.schedule(o)
	return true
}

// Answer is Send without the limit, for what the caller has bounded otherwise: see Offer.
func (o *Outlet) Answer(frames []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ending && !o.ended {
		o.answer(frames)
	}
}

// answer is Answer with the outlet locked.
func (o *Outlet) answer(frames []byte) {
	if len(frames) == 0 {
		return
	}
	o.push(frames)
	o.pending.answers += len(frames)
	o.writers.schedule(o)
}

// Waiter is who waits until an outlet has room.
type Waiter interface {
	// Room is called by a goroutine of its own.
	Room()
}

// Offer is Send for what can wait: it queues frames, however many bytes, unless more than half of the limit is pending. Then it reports
// false, and room hears once that no more than that is pending, if that comes to be: of several that wait the last one, since an
// outlet has one owner. When the outlet is ending it drops the frames and reports true. Without frames it tells whether there is room.
func (o *Outlet) Offer(frames []byte, room Waiter) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.ending || o.ended:
	case o.crowded():
		o.pending.room = room
		return false
	default:
		o.answer(frames)
	}
	return true
}

// crowded says whether more than half of the limit is pending. The outlet is locked.
func (o *Outlet) crowded() bool { return o.pending.size() > int(o.limit)/2 }

// SendNow is Send for few bytes that need not wait for a writer: when nothing is pending they are written at once.
func (o *Outlet) SendNow(frames []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending || o.ended {
		return false
	}
	if o.pending != nil || o.blocked {
		return o.send(frames)
	}
	w := walker{stats: &o.writers.Stats}
	if n, ok := o.write(frames, &w); !ok && !o.ended {
		o.push(frames[n:])
	}
	w.report()
	return true
}

// Pending is the number of bytes queued by Send that the socket has not taken; 0 when the socket is gone.
func (o *Outlet) Pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return 0
	}
	return o.pending.size()
}

// End sends frames (a close frame) after what is pending, serves no member any more, and then ends the sending direction.
// Only the first call has an effect.
func (o *Outlet) End(frames []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending || o.ended {
		return
	}
	o.ending = true
	o.push(frames)
	o.writers.schedule(o)
}

// Close detaches the socket: it is never touched again after Close returned. Members leave their feeds.
func (o *Outlet) Close() {
	o.mu.Lock()
	o.ended = true
	o.drop()
	members := o.members
	o.members = nil
	o.mu.Unlock()
	for m := members; m != nil; m = m.sibling {
		m.leave()
	}
}

// Writable continues a socket that was full. The engine calls it once for each ArmWrite.
func (o *Outlet) Writable() {
	o.mu.Lock()
	o.blocked = false
	o.mu.Unlock()
	o.writers.schedule(o)
}

// Stalled says since when the socket has accepted nothing; zero when it is not full.
func (o *Outlet) Stalled() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.blocked {
		return time.Time{}
	}
	full := o.writers.elapsed() - o.since // right also when the count has begun anew
	return time.Now().Add(-time.Duration(full) * time.Millisecond)
}

// run sends what the outlet has: the task of an outlet.
func (o *Outlet) run(w *walker) (again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.forget()
	return o.flush(w)
}

// flushMember gives a connection what m, and its other members, have beyond their cursors. The outlet is locked, and unlocked
// afterwards.
func (o *Outlet) flushMember(m *Member, w *walker) {
	defer o.mu.Unlock()
	if m.left || o.pending == nil && m.isIdle() {
		return // another feed's walk may have served it already
	}
	if o.flush(w) {
		o.writers.schedule(o)
	}
}

// free says whether the socket may be written to.
func (o *Outlet) free() bool { return !o.ended && !o.blocked }

// turnBytes is how much one outlet is given before others get their turn.
const turnBytes = 256 << 10

// flush writes what is pending and then the entries from the members' cursors on, in as few writes as there can be, until there
// is no more, the socket is full, or the outlet had its turn; again then asks for another. The outlet is locked.
func (o *Outlet) flush(w *walker) (again bool) {
	for sent := 0; o.free(); {
		n, more := o.round(w)
		if !more {
			return false
		}
		if sent += n; sent >= turnBytes {
			return true
		}
	}
	return false
}

// round is one write: of all that is pending and all that members have, as far as it has room. It returns how many bytes the
// socket took, and whether there may be more to send. The outlet is locked and its socket free.
func (o *Outlet) round(w *walker) (n int, more bool) {
	if o.ending {
		return o.lastRound(w)
	}
	w.parts = w.parts[:0]
	for m := o.members; m != nil; m = m.sibling {
		r, rest := m.ready(w)
		more = more || rest
		if !r.empty() {
			w.parts = append(w.parts, part{m, r})
		}
	}
	if o.ending { // a member that skipped was told so
		return o.lastRound(w)
	}
	switch {
	case len(w.parts) == 0:
		n, ok := o.writePending(w)
		return n, ok && more
	case len(w.parts) == 1 && o.pending == nil: // from the log itself
		p := w.parts[0]
		n, ok := o.write(p.run.bytes(), w)
		o.wrote(p, n, w)
		return n, ok && more
	}
	return o.gather(w, more)
}

// lastRound sends what is pending, and then ends the sending direction.
func (o *Outlet) lastRound(w *walker) (n int, more bool) {
	n, ok := o.writePending(w)
	if !ok {
		return n, false
	}
	o.ended = true
	o.sock.Finish()
	return n, false
}

// wrote moves a member's cursor behind the first n bytes of its part. A frame that was begun must be finished before any other,
// and the log may be gone by then: its rest becomes pending.
func (o *Outlet) wrote(p part, n int, w *walker) {
	entries, rest := p.run.written(n)
	if len(rest) > 0 {
		o.push(rest)
		entries++
	}
	p.member.next += Seq(entries)
	w.local.entries += int64(entries)
}

// write tries to send b. It reports false when the socket took less, and arms it, or failed, and aborts it.
func (o *Outlet) write(b []byte, w *walker) (n int, ok bool) {
	n, err := o.sock.TryWrite(b)
	w.local.writes++
	w.local.bytes += int64(n)
	if err != nil {
		o.ended = true
		o.sock.Abort(err)
		return n, false
	}
	if n < len(b) {
		w.local.blocked++
		o.blocked = true
		o.since = o.writers.elapsed()
		o.sock.ArmWrite()
		return n, false
	}
	return n, true
}
