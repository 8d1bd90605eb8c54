package gateway

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"barrage/engine"
	"barrage/fanout"
	"barrage/proto"
	"barrage/ws"
)

// echoPath is the path that Options.Echo opens.
const echoPath = "/echo"

// echoWindow is how many bytes of echoes may wait to be read before the connection is not read any more.
const echoWindow = 64 << 10

// echo is a connection that is given back what it sends, text and binary, for suites that test RFC 6455. It reads and
// writes by the same parts as conn, without a session. Read and Closed are called by one goroutine.
type echo struct {
	engine.Socket // what out writes to is the echo itself, see TryWrite
	gateway       *Gateway
	addr          netip.Addr
	deflated      bool // permessage-deflate was negotiated
	out           *fanout.Outlet
	asm           ws.Assembler // owner: Read
	held          []byte       // owner: Read; what was read and waits for the window: no more than one read brings

	ended  atomic.Bool  // a close frame was sent or received, nothing is taken any more
	queued atomic.Int64 // bytes given to out that the socket has not taken: at most the window and one message
	paused atomic.Bool  // reading waits for the window
	heard  atomic.Int64 // when bytes last arrived, Unix nanoseconds
	pinged atomic.Int64 // when a ping was sent that nothing has answered, 0 without one
}

// guests are the echoes there are. Their gateway counts them among those that are pending.
type guests struct {
	mu  sync.Mutex
	all map[*echo]struct{} // owner: mu
}

func (s *guests) add(e *echo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*echo]struct{}{}
	}
	s.all[e] = struct{}{}
}

func (s *guests) remove(e *echo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, e)
}

func (s *guests) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// end ends those that there are by now.
func (s *guests) end(closing proto.Close) {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.all))
	s.mu.Unlock()
	for _, e := range all {
		e.end(closing)
	}
}

// opener makes the connection of an admitted request, once.
func (g *Gateway) opener(a admission) func(engine.Socket) engine.Handler {
	open := g.open
	switch {
	case a.echo:
		open = g.openEcho
	case a.centrifuge != nil:
		open = g.openCentrifuge
	}
	return func(s engine.Socket) engine.Handler { return open(s, a) }
}

// echoes says whether a request is for an echo.
func (g *Gateway) echoes(r *http.Request) bool { return g.Echo && r.URL.EscapedPath() == echoPath }

// openEcho makes the connection of an admitted request for an echo.
func (g *Gateway) openEcho(socket engine.Socket, a admission) engine.Handler {
	e := &echo{Socket: socket, gateway: g, addr: a.addr, asm: g.assembler(a), deflated: a.extensions != ""}
	e.heard.Store(time.Now().UnixNano())
	e.out = fanout.NewOutlet(g.Writers, e, echoWindow+g.maxMessage()+2*ws.MaxHeader+ws.MaxControl)
	e.send(a.appendResponse(nil)) // before anyone else finds it
	g.guests.add(e)
	g.mu.Lock()
	closing := g.closing
	g.mu.Unlock()
	if closing {
		e.end(proto.CloseShutdown)
	}
	return e
}

// TryWrite implements fanout.Socket. It lets reading go on when enough was taken.
func (e *echo) TryWrite(b []byte) (n int, err error) {
	n, err = e.Socket.TryWrite(b)
	if e.queued.Add(-int64(n)) <= echoWindow && e.paused.Swap(false) {
		e.Resume()
	}
	return n, err
}

// full reports whether nothing may be read until TryWrite resumes.
func (e *echo) full() bool {
	e.paused.Store(true) // before queued is read, which TryWrite changes first
	if e.queued.Load() > echoWindow {
		return true
	}
	e.paused.Store(false)
	return false
}

func (e *echo) send(frames []byte) {
	e.queued.Add(int64(len(frames)))
	if !e.out.Send(frames) { // it is ending: there is always room
		e.queued.Add(-int64(len(frames)))
	}
}

// Read implements engine.Handler.
func (e *echo) Read(b []byte) (more bool) {
	if len(b) > 0 {
		e.heard.Store(time.Now().UnixNano())
		e.pinged.Store(0)
	}
	if len(e.held) > 0 {
		b = append(e.held, b...)
		e.held = nil
	}
	for !e.ended.Load() {
		if e.full() {
			e.held = bytes.Clone(b)
			return false
		}
		ev, n, err := e.asm.Next(b)
		if err != nil {
			closing := proto.CloseProtocol
			errors.As(err, &closing)
			if e.end(closing) {
				e.gateway.stats.Violation.Add(1)
			}
			break
		}
		b = b[n:]
		if ev.Op == 0 {
			break
		}
		e.event(ev)
	}
	return true
}

func (e *echo) event(ev ws.Event) {
	switch ev.Op {
	case ws.OpText, ws.OpBinary:
		e.gateway.stats.Received.Add(1)
		frame := ws.AppendFrame(nil, ev.Op, ev.Payload)
		if e.deflated {
			frame, _ = ws.DeflateFrame(frame, 0)
		}
		e.send(frame)
	case ws.OpPing:
		e.send(ws.AppendFrame(nil, ws.OpPong, ev.Payload))
	case ws.OpClose:
		// RFC 6455, section 5.5.1: answer with the code received.
		code := ev.Code
		if code == ws.NoStatus {
			code = 0
		}
		e.end(proto.Close{Code: code})
	}
}

// end reports whether the connection was not ending yet.
func (e *echo) end(closing proto.Close) bool {
	if e.ended.Swap(true) {
		return false
	}
	e.out.End(ws.AppendClose(nil, closing.Code, closing.Reason))
	if e.paused.Swap(false) {
		e.Resume() // what was held is dropped
	}
	return true
}

// Tick implements engine.Handler: it pings a silent connection and closes a dead one.
func (e *echo) Tick(now time.Time) (after time.Duration) {
	g := e.gateway
	if since := e.out.Stalled(); !since.IsZero() && now.Sub(since) >= g.Write {
		if e.end(proto.CloseSlow) { // which will not get through
			g.stats.Slow.Add(1)
		}
		e.Abort(errSlow)
		return 0
	}
	if e.paused.Load() { // pongs are not read
		return 0
	}
	if at := e.pinged.Load(); at != 0 {
		switch silent := now.Sub(time.Unix(0, at)); {
		case silent < g.Pong:
		case e.end(proto.CloseNoPong): // however late this is: the client is told before it is cut
			g.stats.NoPong.Add(1)
		case silent >= 2*g.Pong:
			e.Abort(errSilent)
		}
		return 0
	}
	if now.Sub(time.Unix(0, e.heard.Load())) >= g.Ping {
		e.pinged.Store(now.UnixNano())
		e.send(ws.AppendFrame(nil, ws.OpPing, nil))
	}
	return 0
}

// Writable implements engine.Handler.
func (e *echo) Writable() { e.out.Writable() }

// Closed implements engine.Handler.
func (e *echo) Closed(error) {
	e.out.Close()
	e.gateway.stats.Closed.Add(1)
	e.gateway.guests.remove(e)
	e.gateway.release(e.addr, nil)
}
