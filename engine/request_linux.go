package engine

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxHead bounds the bytes of a request before its body that a loop reads; net/http judges what is longer.
const maxHead = 16 << 10

// pending is what a connection has besides its socket until its request is complete: a place in the loop's list, oldest
// first. It is owned by the loop's goroutine.
type pending struct {
	s             *loopSocket
	remote        netip.AddrPort
	head          []byte // the part of the request that has arrived
	deadline      time.Time
	before, after *pending
}

// await puts a socket at the end of the list of those whose request has not arrived. When the list is full the oldest,
// who had the most time, makes room.
func (l *loop) await(s *loopSocket, remote netip.AddrPort) {
	if l.waiting >= l.engine.maxWaiting {
		l.end(l.oldest.s, errCrowded)
	}
	p := &pending{s: s, remote: remote, deadline: time.Now().Add(l.engine.options.Handshake), before: l.newest}
	if p.before == nil {
		l.oldest = p
	} else {
		p.before.after = p
	}
	l.newest = p
	l.waiting++
	s.pending = p
}

// arrived takes a socket out of that list.
func (l *loop) arrived(s *loopSocket) {
	p := s.pending
	if p == nil {
		return
	}
	s.pending = nil
	l.waiting--
	if p.before == nil {
		l.oldest = p.after
	} else {
		p.before.after = p.after
	}
	if p.after == nil {
		l.newest = p.before
	} else {
		p.after.before = p.before
	}
}

// expire ends those whose request took too long.
func (l *loop) expire(now time.Time) {
	for l.oldest != nil && now.After(l.oldest.deadline) {
		l.end(l.oldest.s, errHandshake)
	}
}

// request takes a part of a request and acts when its head is complete.
func (s *loopSocket) request(b []byte) {
	p := s.pending
	old := len(p.head)
	if old > 0 {
		p.head = append(p.head, b...)
		b = p.head
	}
	switch n := headLength(b, old); {
	case n > 0:
		s.complete(b, n)
	case len(b) > maxHead:
		s.handOver(b) // net/http says what is wrong
	case old == 0:
		p.head = bytes.Clone(b)
	}
}

// complete acts on a request whose head is the first n of b.
func (s *loopSocket) complete(b []byte, n int) {
	up := s.loop.engine.options.Upgrader
	r, ok := s.loop.heads.read(b[:n])
	if !ok || !up.Handles(r) {
		s.handOver(b)
		return
	}
	r.RemoteAddr = s.pending.remote.String()
	refusal, open := up.Upgrade(r)
	if open == nil {
		s.refuse(refusal)
		return
	}
	s.open(open, b[n:])
}

// refuse ends a connection with an answer: what the peer still sends is read for a while, so that the answer is
// not lost to a reset.
func (s *loopSocket) refuse(answer []byte) {
	// It fits into the buffer of a new socket, unless the peer has gone.
	_, _ = s.TryWrite(answer)
	s.open(func(Socket) Handler { return discard{} }, nil)
	s.Finish()
}

// discard is the handler of a refused connection.
type discard struct{}

func (discard) Read([]byte) bool             { return true }
func (discard) Tick(time.Time) time.Duration { return 0 }
func (discard) Writable()                    {}
func (discard) Closed(error)                 {}

// handOver gives the connection to net/http, with what was read of it.
func (s *loopSocket) handOver(read []byte) {
	e := s.loop.engine
	first, remote := bytes.Clone(read), s.pending.remote
	conn, err := s.release()
	if err != nil {
		e.acceptFailed(err)
		return
	}
	if !e.http.give(&prefixed{Conn: conn, first: first, remote: net.TCPAddrFromAddrPort(remote)}) {
		e.acceptFailed(errBehind)
	}
}

// prefixed is a connection of which some bytes were read.
type prefixed struct {
	net.Conn
	first  []byte
	remote *net.TCPAddr // the kernel forgets it when the peer resets
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		if p.first = p.first[n:]; len(p.first) == 0 {
			p.first = nil
		}
		return n, nil
	}
	return p.Conn.Read(b)
}

// RemoteAddr is known even when the peer has gone.
func (p *prefixed) RemoteAddr() net.Addr { return p.remote }

// CloseWrite lets net/http end a connection whose peer is still sending without losing the answer.
func (p *prefixed) CloseWrite() error {
	closeWrite(p.Conn)
	return nil
}

// handOver is the listener that net/http accepts from.
type handOver struct {
	addr  net.Addr
	conns chan net.Conn // net/http may be as far behind
	done  chan struct{}

	mu     sync.Mutex
	closed bool // owner: mu; nothing comes into conns any more
}

// give passes a connection on, and closes it when net/http is too far behind or has ended. It reports which.
func (h *handOver) give(c net.Conn) (taken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		select {
		case h.conns <- c:
			return true
		default:
		}
	}
	c.Close()
	return false
}

// Accept implements net.Listener.
func (h *handOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that nobody has accepted are closed.
func (h *handOver) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	close(h.done)
	for {
		select {
		case c := <-h.conns:
			c.Close()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (h *handOver) Addr() net.Addr { return h.addr }
