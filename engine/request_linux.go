package engine

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxHead bounds the bytes of a request before its body that a loop reads; net/http judges what is longer.
const maxHead = 16 << 10

// pending is what a connection has besides its socket until its request is complete: a place in the loop's list, oldest
// first. It is owned by the loop's goroutine.
type pending struct {
	s             *loopSocket
	head          []byte // the part of the request that has arrived
	deadline      time.Time
	before, after *pending
}

// await puts a socket at the end of the list of those whose request has not arrived. When the list is full the oldest,
// who had the most time, makes room.
func (l *loop) await(s *loopSocket) {
	if l.waiting >= l.engine.maxWaiting {
		l.end(l.oldest.s, errCrowded)
	}
	p := &pending{s: s, deadline: time.Now().Add(l.engine.options.Handshake), before: l.newest}
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

// headLength is the length of the head that b begins with: all up to the first empty line, where lines end as net/http
// reads them, with LF or CR LF. It is 0 when the head is not complete. The first old bytes were looked at before.
func headLength(b []byte, old int) int {
	for i := max(old-2, 0); ; i++ {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n
		switch rest := b[i+1:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 2
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 3
		}
	}
}

// complete acts on a request whose head is the first n of b.
func (s *loopSocket) complete(b []byte, n int) {
	up := s.loop.engine.options.Upgrader
	r, ok := readHead(b[:n])
	if !ok || !up.Handles(r) {
		s.handOver(b)
		return
	}
	r.RemoteAddr = s.remote.String()
	refusal, open := up.Upgrade(r)
	if open == nil {
		s.refuse(refusal)
		return
	}
	s.open(open, b[n:])
}

// readHead reads a head. It reports false when the request is not surely one that net/http's server would give to its
// handler as it is: such a request is left to net/http, so that it is judged by the same rules as if there were no loops.
func readHead(head []byte) (*http.Request, bool) {
	if len(head) > maxHead {
		return nil, false
	}
	br := bufio.NewReaderSize(bytes.NewReader(head), len(head))
	r, err := http.ReadRequest(br)
	if err != nil || br.Buffered() > 0 {
		return nil, false
	}
	switch {
	case r.Method != http.MethodGet, r.ProtoMajor != 1, r.ProtoMinor != 1:
	case !strings.HasPrefix(r.RequestURI, "/"), !plainHost(r.Host):
	case r.ContentLength != 0, len(r.TransferEncoding) > 0, len(r.Header["Expect"]) > 0:
	default:
		return r, plainFields(r.Header)
	}
	return nil, false
}

// plainHost says whether a Host has only bytes of names, addresses and ports.
func plainHost(host string) bool {
	for i := range len(host) {
		if c := host[i]; !alphanumeric(c) && strings.IndexByte(".-_:[]", c) < 0 {
			return false
		}
	}
	return host != ""
}

// plainFields says whether names are tokens and values without control characters: RFC 9110, sections 5.1 and 5.5.
// http.ReadRequest lets more through than net/http's server does, such as a space before the colon.
func plainFields(h http.Header) bool {
	for name, values := range h {
		for i := range len(name) {
			if c := name[i]; !alphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
				return false
			}
		}
		for _, value := range values {
			for i := range len(value) {
				if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
					return false
				}
			}
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
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

func (discard) Read([]byte) bool { return true }
func (discard) Tick(time.Time)   {}
func (discard) Writable()        {}
func (discard) Closed(error)     {}

// handOver gives the connection to net/http, with what was read of it.
func (s *loopSocket) handOver(read []byte) {
	e := s.loop.engine
	first := bytes.Clone(read)
	conn, err := s.release()
	if err != nil {
		e.acceptFailed(err)
		return
	}
	if !e.http.give(&prefixed{Conn: conn, first: first, remote: net.TCPAddrFromAddrPort(s.remote)}) {
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
