package fanout

import (
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
type Outlet struct {
	job
	writers *Writers
	limit   int

	mu      sync.Mutex
	sock    Socket    // owner: mu
	pending []byte    // owner: mu; whole frames, or the rest of one, that go before anything else
	members []*Member // owner: mu
	blocked bool      // owner: mu; the socket is full and armed
	since   time.Time // owner: mu; when it became full
	ending  bool      // owner: mu; Finish when pending is empty, no member is served any more
	ended   bool      // owner: mu; the socket must not be touched
}

// NewOutlet makes the sending side of sock. limit bounds the pending bytes; 0 means DefaultPending.
func NewOutlet(w *Writers, sock Socket, limit int) *Outlet {
	if limit <= 0 {
		limit = DefaultPending
	}
	return &Outlet{writers: w, sock: sock, limit: limit}
}

// Send queues ready frames to go before anything that members have not been given yet. It reports false, and drops
// them, when the outlet is ending or when its pending bytes would exceed the limit; the caller then closes the connection.
func (o *Outlet) Send(frames []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending || o.ended || len(o.pending) > 0 && len(o.pending)+len(frames) > o.limit {
		return false
	}
	o.pending = append(o.pending, frames...)
	o.writers.schedule(o)
	return true
}

// Pending is the number of bytes queued by Send that the socket has not taken; 0 when the socket is gone.
func (o *Outlet) Pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return 0
	}
	return len(o.pending)
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
	o.pending = append(o.pending, frames...)
	o.writers.schedule(o)
}

// Close detaches the socket: it is never touched again after Close returned. Members leave their feeds.
func (o *Outlet) Close() {
	o.mu.Lock()
	o.ended = true
	o.pending = nil
	members := o.members
	o.members = nil
	o.mu.Unlock()
	for _, m := range members {
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
	return o.since
}

// run sends what the outlet has: the task of an outlet.
func (o *Outlet) run(w *walker) (again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.cache = run{}
	for _, m := range o.members {
		if o.flush(m, w) {
			again = true
		}
	}
	o.flushPending(w)
	return again
}

// flushMember gives m what its feed holds beyond its cursor.
func (o *Outlet) flushMember(m *Member, w *walker) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m.left {
		return
	}
	if o.flush(m, w) {
		o.writers.schedule(o)
	}
}

// flushPending sends pending bytes and reports whether the socket is free for more.
func (o *Outlet) flushPending(w *walker) bool {
	if o.ended || o.blocked {
		return false
	}
	if len(o.pending) > 0 {
		n, ok := o.write(o.pending, w)
		if o.pending = o.pending[n:]; len(o.pending) == 0 {
			o.pending = nil
		}
		if !ok {
			return false
		}
	}
	if o.ending {
		o.ended = true
		o.sock.Finish()
		return false
	}
	return true
}

// turnBytes is how much one member is given before others get their turn.
const turnBytes = 256 << 10

// flush writes pending bytes and then the entries from m's cursor on, until there are no more, the socket is full, or the
// member had its turn; again then asks for another.
func (o *Outlet) flush(m *Member, w *walker) (again bool) {
	if !o.flushPending(w) || m.waiting {
		return false
	}
	for sent := 0; ; {
		r, more := m.source(w)
		if r.empty() {
			if more && o.flushPending(w) {
				continue // it skipped ahead
			}
			return false
		}
		if m.skip != 0 {
			var own int
			whole := len(r.ends)
			own, r = r.without(m.skip)
			m.next += Seq(own)
			w.local.skipped += int64(own)
			more = more || own+len(r.ends) < whole
			if r.empty() {
				if more {
					continue
				}
				return false
			}
		}
		b := r.bytes()
		n, ok := o.write(b, w)
		entries, rest := r.written(n)
		m.next += Seq(entries)
		w.local.entries += int64(entries)
		if len(rest) > 0 {
			// The frame that was begun must be finished before any other, and the log may be gone by then.
			o.pending = append([]byte(nil), rest...)
			m.next++
			w.local.entries++
		}
		if !ok || !more {
			return false
		}
		if sent += n; sent >= turnBytes {
			return true
		}
	}
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
		o.since = time.Now()
		o.sock.ArmWrite()
		return n, false
	}
	return n, true
}
