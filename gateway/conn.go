package gateway

import (
	"bytes"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"barrage/engine"
	"barrage/fanout"
	"barrage/proto"
	"barrage/session"
	"barrage/ws"
)

// conn is one connection: the engine's Handler. Read and Closed are called by one goroutine. There may be very many: a test
// bounds its size. Its socket, an engine.Socket, is its outlet's.
type conn struct {
	gateway *Gateway
	asm     ws.Assembler // owner: Read
	late    *late        // owner: Read; nil when nothing waits for the session
	place   int32        // owner: Gateway.mu; in Gateway.conns
	mine    int32        // owner: Gateway.mu; in personal.conns, once it is enrolled
	ended   bool         // owner: Read; a close frame was sent or received, nothing is taken any more
	denied  bool         // never changes once it is open; it has no place among its user's connections
	binary  bool         // messages are binary, not text
	from    [16]byte     // the client's address, see addr

	leaving atomic.Bool   // no message is taken any more
	deaf    atomic.Bool   // the session is full: pongs are not read
	heard   atomic.Uint32 // the moment when bytes last arrived
	pinged  atomic.Uint32 // the moment when a ping was sent that nothing has answered, or of the last excuse for that; 0 without one

	client peer // what messages are given to
	out    fanout.Outlet
}

// peer is a session of one of the protocols. Message is called by one goroutine at a time, the others from any.
type peer interface {
	// Full reports whether Message must not be called; Connection.Resume is called later if so.
	Full() bool
	// Message takes one message, valid only during the call, and returns a part of it that there was no room for.
	Message(payload []byte) (rest []byte)
	// Greeted says whether the handshake has been answered. Before that nothing may be sent past the session.
	Greeted() bool
	// Ping is a frame that the client answers.
	Ping() []byte
	// End closes the connection with a close frame after what was sent, and reports whether that was not done before.
	End(c proto.Close) (first bool)
	// Leave is End as soon as every command under way has its answer.
	Leave(c proto.Close)
	// Gone says that the connection has ended. Nothing is called after it.
	Gone()
	// String names the session in logs.
	String() string
}

// plainConn is a connection of the plain protocols.
type plainConn struct {
	conn
	session session.Session
}

// late is what a connection has read before its session had room for it.
type late struct {
	rest []byte // of a message: no more than one
	held []byte // what was read after it: no more than one read brings
}

// Read implements engine.Handler.
func (c *conn) Read(b []byte) (more bool) {
	if len(b) > 0 {
		c.heard.Store(c.gateway.now())
		c.pinged.Store(0)
	}
	var rest []byte
	kept := c.late != nil // b is the connection's own
	if kept {
		if len(b) > 0 {
			return true // nobody reads on while something waits, but to see the end of a connection that was finished
		}
		rest, b = c.late.rest, c.late.held
		c.late = nil
	}
	for !c.ended {
		c.deaf.Store(true) // before Full, which Resume follows
		if c.client.Full() {
			if !kept {
				b = bytes.Clone(b)
			}
			c.late = &late{rest, b}
			return false
		}
		c.deaf.Store(false)
		if len(rest) > 0 {
			rest = c.message(rest)
			continue
		}
		ev, n, err := c.asm.Next(b)
		if err != nil {
			c.violation(err)
			break
		}
		b = b[n:]
		if ev.Op == 0 {
			break
		}
		rest = c.event(ev)
	}
	return true
}

// Resume implements session.Connection: it goes on reading. A pong may stand behind what is read next.
func (c *conn) Resume() {
	c.excuse(c.gateway.now())
	c.deaf.Store(false)
	c.out.Socket().(engine.Socket).Resume()
}

func (c *conn) base() *conn { return c }

// addr is the client's address.
func (c *conn) addr() netip.Addr { return netip.AddrFrom16(c.from).Unmap() }

// Server implements session.Connection.
func (c *conn) Server() *session.Server { return &c.gateway.server }

// Outlet implements session.Connection.
func (c *conn) Outlet() *fanout.Outlet { return &c.out }

// Slow implements session.Connection.
func (c *conn) Slow() { c.gateway.stats.Slow.Add(1) }

// message gives the session a message and returns what it had no room for.
func (c *conn) message(payload []byte) (rest []byte) {
	if c.leaving.Load() {
		return nil
	}
	return c.client.Message(payload)
}

// event takes what the assembler found, and returns what the session had no room for.
func (c *conn) event(ev ws.Event) (rest []byte) {
	switch ev.Op {
	case ws.OpText, ws.OpBinary:
		if c.binary != (ev.Op == ws.OpBinary) {
			c.violation(unsupported(c.binary))
			return nil
		}
		c.gateway.stats.Received.Add(1)
		if ev.Deflated {
			c.gateway.stats.Inflated.Add(1)
		}
		return bytes.Clone(c.message(ev.Payload))
	case ws.OpPing:
		c.out.Answer(ws.AppendFrame(nil, ws.OpPong, ev.Payload)) // the session would be full if too much were pending
	case ws.OpClose:
		// RFC 6455, section 5.5.1: answer with the code received.
		code := ev.Code
		if code == ws.NoStatus {
			code = 0
		}
		c.end(proto.Close{Code: code})
	}
	return nil
}

// violation closes the connection because of what it sent.
func (c *conn) violation(err error) {
	closing := proto.CloseProtocol
	errors.As(err, &closing)
	if c.end(closing) {
		c.gateway.stats.Violation.Add(1)
		if errors.Is(err, ws.ErrBomb) {
			c.gateway.stats.Bombs.Add(1)
		}
	}
}

// end reports whether the connection was not ending yet.
func (c *conn) end(closing proto.Close) bool {
	c.ended = true
	c.late = nil
	return c.client.End(closing)
}

// leave ends the connection once its commands have their answers.
func (c *conn) leave(closing proto.Close) {
	if !c.leaving.Swap(true) {
		c.client.Leave(closing)
	}
}

// errSlow and errSilent are why the gateway cut a connection.
var (
	errSlow   = errors.New("the client accepted no bytes for too long")
	errSilent = errors.New("the client did not answer a ping")
)

// Tick implements engine.Handler: it pings a silent connection and closes a dead one.
func (c *conn) Tick(now time.Time) (after time.Duration) {
	after, ok := c.stall(now)
	if !ok || c.deaf.Load() || !c.client.Greeted() {
		return 0
	}
	return min(after, c.ping(c.gateway.moment(now)))
}

// stall closes a connection that has taken no bytes for too long, or whose token has expired, and reports whether it is well. It
// returns when to look again.
func (c *conn) stall(now time.Time) (after time.Duration, ok bool) {
	g := c.gateway
	after = g.Write / 2 // so that a stall is noticed before it is over
	if since := c.out.Stalled(); !since.IsZero() {
		if after = g.Write - now.Sub(since); after <= 0 {
			if c.client.End(proto.CloseSlow) { // which will not get through
				g.stats.Slow.Add(1)
			}
			c.out.Socket().Abort(errSlow)
			return 0, false
		}
	}
	if e, ok := c.client.(expiring); ok {
		if left := e.Expire(now); left > 0 {
			after = min(after, left)
		}
	}
	return after, true
}

// unsupported is what a message of the wrong kind is answered with.
func unsupported(binary bool) proto.Close {
	if binary {
		return proto.CloseUnsupported.With("only binary frames are accepted")
	}
	return proto.CloseUnsupported
}

// ping pings a connection that is silent, and closes one that stays so. It returns when to look again.
func (c *conn) ping(now moment) (after time.Duration) {
	g := c.gateway
	if at := c.pinged.Load(); at != 0 {
		if c.out.Pending() > 0 { // the ping may stand behind it; who takes nothing is stalled
			c.excuse(now)
			return g.Pong
		}
		silent := between(at, now)
		switch {
		case silent < g.Pong:
			return g.Pong - silent
		case c.client.End(proto.CloseNoPong): // however late this is: the client is told before it is cut
			g.stats.NoPong.Add(1)
			c.pinged.Store(max(now-moment(g.Pong.Milliseconds()), 1)) // it is cut a Pong from now
		case silent >= 2*g.Pong:
			c.out.Socket().Abort(errSilent)
		}
		return g.Pong
	}
	if silent := between(c.heard.Load(), now); silent < g.Ping {
		return g.Ping - silent
	}
	c.pinged.Store(max(now, 1))
	c.out.SendNow(c.client.Ping()) // when it cannot be sent, the pong will be missing
	return g.Pong
}

// excuse gives a client that has not answered a ping, which could not be sent or whose answer was not read, its time anew.
func (c *conn) excuse(now moment) {
	if at := c.pinged.Load(); at != 0 {
		c.pinged.CompareAndSwap(at, max(now, 1)) // unless it is answered at this moment
	}
}

// Writable implements engine.Handler.
func (c *conn) Writable() { c.out.Writable() }

// Closed implements engine.Handler.
func (c *conn) Closed(err error) {
	c.out.Close()
	if k, ok := c.client.(known); ok && !c.denied {
		c.gateway.withdraw(c, k.User())
	}
	c.client.Gone()
	c.gateway.stats.Closed.Add(1)
	c.gateway.Log.Debug("disconnected", "session", c.client, "address", c.addr(), "cause", err)
	c.gateway.release(c.addr(), c)
}
