// Package engine owns sockets: it reads what arrives, tells time, and lets others write without blocking.
//
// Portable serves any net.Conn with one reading goroutine per connection. What it promises to a Handler:
//
//   - Read and Closed are called one after the other from one goroutine; Tick may come at the same time from another.
//   - When Read reports false nothing more is read until Resume; what the peer sends then waits in the kernel. After
//     Resume, Read is called without bytes first, so that the handler can go on with what it kept.
//   - Closed is called exactly once, and nothing is called after it but a Tick or a Writable that was under way.
//
// Writing is done by others through Conn, which is a fanout.Socket.
package engine

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"barrage/fanout"
)

// Handler is what a connection's bytes are given to.
type Handler interface {
	// Read takes bytes that arrived; they are valid only during the call and may be changed. It reports whether
	// more may be read. When it may not, Read is called with no bytes after Resume. After Finish and Abort that does not count: the peer's end is waited for.
	Read(b []byte) (more bool)
	// Tick is called from time to time, and returns when to call it again at the latest, give or take a fifth of
	// Options.Tick; it may be called before. 0 stands for Options.Tick, and so does what is longer than twelve times that.
	Tick(now time.Time) (after time.Duration)
	// Writable is called after each ArmWrite once the socket accepts bytes again.
	Writable()
	// Closed says that the connection has ended: err is nil when the peer ended it.
	Closed(err error)
}

// Socket is one connection as those who write to it see it: a fanout.Socket that can let reading go on.
type Socket interface {
	fanout.Socket
	// Resume lets reading go on after Handler.Read reported false.
	Resume()
}

// Engine serves connections.
type Engine interface {
	// Serve takes over an upgraded connection. first are bytes that were read already. open makes the connection's
	// handler; it is called once, possibly by another goroutine after Serve has returned.
	Serve(conn net.Conn, first []byte, open func(Socket) Handler)
	// Close closes all connections and waits for the engine's goroutines.
	Close()
}

// Options of an engine. The zero value works.
type Options struct {
	// Tick is how often a connection's Tick is called that does not say when; 0 means 5 s. The first ticks are spread over
	// that time.
	Tick time.Duration
	// Linger is how long a connection that was finished is read for the peer's end; 0 means 5 s.
	Linger time.Duration
	// SendBuffer caps the kernel's send buffer in bytes, which a stalled client pins; 0 means 64 KiB.
	SendBuffer int
}

const (
	readBuffer = 4 << 10
	tickSlots  = 10
)

// Portable is the engine that runs everywhere.
type Portable struct {
	options Options
	stop    chan struct{}

	mu      sync.Mutex
	slots   [tickSlots]map[*Conn]struct{} // owner: mu; who is ticked when
	next    int                           // owner: mu; the slot for the next connection
	ended   bool                          // owner: mu
	conns   int                           // owner: mu; in slots
	ticking bool                          // owner: mu; the clock runs
	running int                           // owner: mu; goroutines, and connections whose handler is being made
	idle    sync.Cond                     // of mu: running is 0
}

func (o Options) withDefaults() Options {
	if o.Tick <= 0 {
		o.Tick = 5 * time.Second
	}
	if o.Linger <= 0 {
		o.Linger = 5 * time.Second
	}
	if o.SendBuffer <= 0 {
		o.SendBuffer = 64 << 10
	}
	return o
}

// NewPortable starts an engine.
func NewPortable(o Options) *Portable {
	o = o.withDefaults()
	p := &Portable{options: o, stop: make(chan struct{})}
	for i := range p.slots {
		p.slots[i] = map[*Conn]struct{}{}
	}
	p.idle.L = &p.mu
	return p
}

// start runs f in a goroutine that Close waits for, unless Close has returned before.
func (p *Portable) start(f func()) {
	p.mu.Lock()
	p.running++
	p.mu.Unlock()
	go func() {
		defer p.finished()
		f()
	}()
}

func (p *Portable) finished() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running--; p.running == 0 {
		p.idle.Broadcast()
	}
}

// Close closes all connections and waits for their goroutines.
func (p *Portable) Close() {
	p.mu.Lock()
	again := p.ended
	p.ended = true
	var all []*Conn
	for _, slot := range p.slots {
		for c := range slot {
			all = append(all, c)
		}
	}
	p.mu.Unlock()
	if !again {
		close(p.stop)
	}
	for _, c := range all {
		c.Abort(net.ErrClosed)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.running > 0 {
		p.idle.Wait()
	}
}

// Serve takes over conn. first are bytes that were read already. Reading starts when open, which is
// called before Serve returns, has returned. An engine that was closed closes conn at once.
func (p *Portable) Serve(conn net.Conn, first []byte, open func(Socket) Handler) {
	p.serve(conn, first, open)
}

// lowest is what a connection runs over in the end.
func lowest(conn net.Conn) net.Conn {
	for {
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = over.NetConn()
	}
}

func (p *Portable) serve(conn net.Conn, first []byte, handler func(Socket) Handler) *Conn {
	if t, ok := lowest(conn).(*net.TCPConn); ok {
		// Failing to cap the buffer costs memory, not correctness.
		_ = t.SetWriteBuffer(p.options.SendBuffer)
	}
	c := &Conn{engine: p, conn: conn, resume: make(chan struct{}, 1), opened: make(chan struct{})}
	c.writer = newWriter(c)
	p.mu.Lock()
	ended := p.ended
	if !ended {
		p.running++ // Close waits from now on
	}
	p.mu.Unlock()
	if ended {
		c.Abort(net.ErrClosed)
		c.open(handler)
		c.handler.Closed(net.ErrClosed)
		return c
	}
	c.open(handler)
	p.mu.Lock()
	ended = p.ended
	c.slot = p.next
	p.next = (p.next + 1) % tickSlots
	p.slots[c.slot][c] = struct{}{}
	p.conns++
	start := !p.ticking && !ended
	p.ticking = p.ticking || start
	p.mu.Unlock()
	if start {
		p.start(p.clock)
	}
	if ended { // meanwhile: Close does not know of c
		c.Abort(net.ErrClosed)
	}
	go func() {
		defer p.finished()
		c.read(first)
	}()
	return c
}

// clock calls Tick, one slot of connections at a time, as long as there are any.
func (p *Portable) clock() {
	t := time.NewTicker(p.options.Tick / tickSlots)
	defer t.Stop()
	var due []*Conn
	for slot := 0; ; slot = (slot + 1) % tickSlots {
		select {
		case <-p.stop:
			return
		case <-t.C:
		}
		p.mu.Lock()
		if p.conns == 0 {
			p.ticking = false
			p.mu.Unlock()
			return
		}
		for c := range p.slots[slot] {
			due = append(due, c)
		}
		p.mu.Unlock()
		now := time.Now()
		for _, c := range due {
			c.handler.Tick(now)
		}
		clear(due)
		due = due[:0]
	}
}

// Conn is one connection. Its methods are called from any goroutine; TryWrite and ArmWrite by one at a time.
type Conn struct {
	engine  *Portable
	conn    net.Conn
	handler Handler
	writer  writer
	slot    int
	resume  chan struct{} // one token: reading may go on
	opened  chan struct{} // closed when handler is set
	ending  atomic.Bool   // finished or aborted: it is read whatever the handler says

	mu    sync.Mutex
	cause error // owner: mu; why it was aborted
}

func (c *Conn) open(handler func(Socket) Handler) {
	c.handler = handler(c)
	close(c.opened)
}

// writer is how a kind of net.Conn is written to without blocking.
type writer interface {
	tryWrite(b []byte) (n int, err error)
	// awaitWritable returns once the socket accepts bytes again or is closed.
	awaitWritable()
	// finish ends the sending direction once everything taken was sent.
	finish()
}

// TryWrite implements fanout.Socket.
func (c *Conn) TryWrite(b []byte) (n int, err error) { return c.writer.tryWrite(b) }

// ArmWrite implements fanout.Socket: Handler.Writable is called once the socket accepts bytes again.
func (c *Conn) ArmWrite() {
	c.engine.start(func() {
		c.writer.awaitWritable()
		<-c.opened // it may be armed while the handler is being made
		c.handler.Writable()
	})
}

// Finish implements fanout.Socket: the peer has Options.Linger to end its side.
func (c *Conn) Finish() {
	c.writer.finish()
	// A connection that cannot take a deadline ends when its peer closes it.
	_ = c.conn.SetReadDeadline(time.Now().Add(c.engine.options.Linger))
	c.ending.Store(true)
	c.Resume() // a connection that is not being read would not see its peer's end, nor the deadline
}

// Abort implements fanout.Socket: it closes the connection at once.
func (c *Conn) Abort(err error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = err
	}
	c.mu.Unlock()
	c.cut()
	c.ending.Store(true)
	c.Resume() // a connection that is not being read finds out too
}

// cut closes the connection without a goodbye, for which TLS would wait up to 5 s.
func (c *Conn) cut() {
	if over, ok := c.conn.(interface{ NetConn() net.Conn }); ok {
		over.NetConn().Close()
	}
	c.conn.Close()
}

// Resume lets reading go on after Handler.Read reported false.
func (c *Conn) Resume() {
	select {
	case c.resume <- struct{}{}:
	default:
	}
}

// read reads until the connection ends.
func (c *Conn) read(first []byte) {
	err := c.readAll(first)
	c.mu.Lock()
	if c.cause != nil {
		err = c.cause
	}
	c.mu.Unlock()
	c.engine.forget(c)
	c.handler.Closed(err)
	c.cut()
}

func (c *Conn) readAll(first []byte) error {
	more := len(first) == 0 || c.handler.Read(first)
	buf := make([]byte, readBuffer)
	for {
		for !more && !c.ending.Load() {
			<-c.resume
			more = c.handler.Read(nil)
		}
		n, err := c.conn.Read(buf)
		if n > 0 {
			more = c.handler.Read(buf[:n])
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			return err
		}
	}
}

func (p *Portable) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.slots[c.slot], c)
	p.conns--
}
