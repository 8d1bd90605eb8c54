// Package engine owns sockets: it reads what arrives, tells time, and lets others write without blocking.
//
// Portable serves any net.Conn with one reading goroutine per connection. What it promises to a Handler:
//
//   - Read and Closed are called one after the other from one goroutine; Tick may come at the same time from another.
//   - When Read reports false nothing more is read until Resume; what the peer sends then waits in the kernel.
//   - Closed is called exactly once, and nothing is called after it but a Tick that was under way.
//
// Writing is done by others through Conn, which is a fanout.Socket.
package engine

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Handler is what a connection's bytes are given to.
type Handler interface {
	// Read takes bytes that arrived; they are valid only during the call and may be changed. It reports whether
	// more may be read.
	Read(b []byte) (more bool)
	// Tick is called about every Options.Tick.
	Tick(now time.Time)
	// Writable is called after each ArmWrite once the socket accepts bytes again.
	Writable()
	// Closed says that the connection has ended: err is nil when the peer ended it.
	Closed(err error)
}

// Options of an engine. The zero value works.
type Options struct {
	// Tick is how often each connection's Tick is called; 0 means 5 s. Ticks are spread over that time.
	Tick time.Duration
	// Linger is how long a connection that was finished is read for the peer's end; 0 means 5 s.
	Linger time.Duration
	// SendBuffer caps the kernel's send buffer in bytes, which a stalled client pins; 0 means 64 KiB.
	SendBuffer int
}

const (
	readBuffer = 4 << 10
	tickSlots  = 50
)

// Portable is the engine that runs everywhere.
type Portable struct {
	options Options
	stop    chan struct{}
	wg      sync.WaitGroup

	mu    sync.Mutex
	slots [tickSlots]map[*Conn]struct{} // owner: mu; who is ticked when
	next  int                           // owner: mu; the slot for the next connection
	ended bool                          // owner: mu
}

// NewPortable starts an engine.
func NewPortable(o Options) *Portable {
	if o.Tick <= 0 {
		o.Tick = 5 * time.Second
	}
	if o.Linger <= 0 {
		o.Linger = 5 * time.Second
	}
	if o.SendBuffer <= 0 {
		o.SendBuffer = 64 << 10
	}
	p := &Portable{options: o, stop: make(chan struct{})}
	for i := range p.slots {
		p.slots[i] = map[*Conn]struct{}{}
	}
	p.wg.Go(p.clock)
	return p
}

// Close closes all connections and waits for their goroutines.
func (p *Portable) Close() {
	p.mu.Lock()
	p.ended = true
	var all []*Conn
	for _, slot := range p.slots {
		for c := range slot {
			all = append(all, c)
		}
	}
	p.mu.Unlock()
	close(p.stop)
	for _, c := range all {
		c.Abort(net.ErrClosed)
	}
	p.wg.Wait()
}

// Serve takes over conn. first are bytes that were read already. It returns the connection and starts reading when
// handler, which is called before, has returned.
func (p *Portable) Serve(conn net.Conn, first []byte, handler func(*Conn) Handler) *Conn {
	if t, ok := conn.(*net.TCPConn); ok {
		// Failing to cap the buffer costs memory, not correctness.
		_ = t.SetWriteBuffer(p.options.SendBuffer)
	}
	c := &Conn{engine: p, conn: conn, resume: make(chan struct{}, 1)}
	c.writer = newWriter(c)
	c.handler = handler(c)
	p.mu.Lock()
	ended := p.ended
	if !ended {
		c.slot = p.next
		p.next = (p.next + 1) % tickSlots
		p.slots[c.slot][c] = struct{}{}
		p.wg.Go(func() { c.read(first) })
	}
	p.mu.Unlock()
	if ended {
		conn.Close()
		c.handler.Closed(net.ErrClosed)
	}
	return c
}

// clock calls Tick, one slot of connections at a time.
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

	mu    sync.Mutex
	cause error // owner: mu; why it was aborted
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
	c.engine.wg.Go(func() {
		c.writer.awaitWritable()
		c.handler.Writable()
	})
}

// Finish implements fanout.Socket: the peer has Options.Linger to end its side.
func (c *Conn) Finish() {
	c.writer.finish()
	// A connection that cannot take a deadline ends when its peer closes it.
	_ = c.conn.SetReadDeadline(time.Now().Add(c.engine.options.Linger))
}

// Abort implements fanout.Socket: it closes the connection at once.
func (c *Conn) Abort(err error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = err
	}
	c.mu.Unlock()
	c.conn.Close()
	c.Resume() // a connection that is not being read finds out too
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
	c.conn.Close()
}

func (c *Conn) readAll(first []byte) error {
	more := len(first) == 0 || c.handler.Read(first)
	buf := make([]byte, readBuffer)
	for {
		if !more {
			select {
			case <-c.resume:
			case <-c.engine.stop:
				return net.ErrClosed
			}
		}
		n, err := c.conn.Read(buf)
		if more = true; n > 0 {
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
}
