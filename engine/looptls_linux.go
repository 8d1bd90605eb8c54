package engine

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tlsWire is what the TLS of a connection runs over: first, for the handshake, a connection that may block; then the
// socket of a loop, whose bytes the loop puts in, and which takes what it can without blocking. What it does not take is kept:
// a record that is encrypted must be sent.
//
// Of a loop's connection, Read is called by the loop, Write by the loop and by whoever writes to the socket, one at a time as
// crypto/tls sees to.
type tlsWire struct {
	net.Conn             // while it may block; noConn in a loop
	sock     *loopSocket // nil while it may block
	tls      *tls.Conn   // over this

	// Owned by the loop's goroutine; by the reader while it may block.
	arrived []byte // ciphertext that tls.Conn has not asked for
	end     error  // what comes after it, when that has come

	mu     sync.Mutex
	queue  []byte // owner: mu; ciphertext that the socket has not taken
	armed  bool   // owner: mu; the handler wants to know when the socket is writable
	ending bool   // owner: mu; the sending direction ends after queue
	unread bool   // owner: mu; queue had no room
}

const (
	// maxRecord is how much is encrypted at a time: the largest plaintext of a record.
	maxRecord = 16 << 10
	// maxQueuedTLS bounds tlsWire.queue: a record of data, and some of the answers that TLS itself gives. A peer that asks for
	// more of those without reading any is cut.
	maxQueuedTLS = 2 * maxRecord
)

// errQuiet says that nothing has arrived: crypto/tls goes on where it was after an error that is temporary.
var errQuiet net.Error = quiet{}

type quiet struct{}

func (quiet) Error() string   { return "nothing has arrived" }
func (quiet) Timeout() bool   { return true }
func (quiet) Temporary() bool { return true }

// errNoTCP is why a connection cannot be taken into a loop.
var errNoTCP = errors.New("the connection is not TCP")

// errUnread is why a peer was cut that lets answers of TLS pile up.
var errUnread = errors.New("too many answers of TLS wait to be read")

// newTLSWire is what a server's TLS runs over at first.
func newTLSWire(conn *turned) net.Conn { return &tlsWire{Conn: conn} }

// wireOf is what a connection's TLS runs over; nil when it is no TLS that can be given to a loop.
func wireOf(conn net.Conn) *tlsWire {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	w, ok := c.NetConn().(*tlsWire)
	if !ok {
		return nil
	}
	w.tls = c
	return w
}

// enter puts the wire on a socket of a loop. It is called by the loop.
func (w *tlsWire) enter(s *loopSocket) {
	w.Conn, w.sock = noConn{}, s
	s.wire = w
}

// leave takes the wire off the socket, for a connection that may block.
func (w *tlsWire) leave(conn net.Conn) net.Conn {
	w.arrived = bytes.Clone(w.arrived)
	w.Conn, w.sock = conn, nil
	return w.tls
}

// Read implements net.Conn.
func (w *tlsWire) Read(b []byte) (int, error) {
	if len(w.arrived) > 0 {
		n := copy(b, w.arrived)
		w.arrived = w.arrived[n:]
		return n, nil
	}
	w.arrived = nil
	if w.end != nil {
		return 0, w.end
	}
	return w.Conn.Read(b)
}

// Write implements net.Conn. In a loop it takes everything, or fails for good.
func (w *tlsWire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sock == nil {
		return w.writeBlocking(b)
	}
	n := 0
	if len(w.queue) == 0 {
		var err error
		if n, err = writeSocket(int(w.sock.fd), b); err != nil {
			return 0, err
		}
	}
	if len(w.queue)+len(b)-n > maxQueuedTLS {
		w.unread = true
		return 0, errUnread
	}
	w.queue = append(w.queue, b[n:]...)
	return len(b), nil
}

func (w *tlsWire) writeBlocking(b []byte) (int, error) {
	if len(w.queue) > 0 {
		if _, err := w.Conn.Write(w.queue); err != nil {
			return 0, err
		}
		w.queue = nil
	}
	return w.Conn.Write(b)
}

// flush sends what is queued, as far as the socket takes it.
func (w *tlsWire) flush() error {
	if len(w.queue) == 0 {
		return nil
	}
	n, err := writeSocket(int(w.sock.fd), w.queue)
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	return err
}

// full flushes and says whether anything is left.
func (w *tlsWire) full() (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.flush()
	return len(w.queue) > 0, err
}

// tryWrite is TryWrite of the socket. What was encrypted counts as taken: at most one record waits, and the loop sends it
// when the socket is writable.
func (w *tlsWire) tryWrite(b []byte) (n int, err error) {
	full, err := w.full()
	for err == nil && !full && n < len(b) {
		var m int
		m, err = w.tls.Write(b[n:min(n+maxRecord, len(b))])
		n += m
		if err == nil {
			full, err = w.full()
		}
	}
	if full {
		w.sock.watch(unix.EPOLLOUT, 0)
	}
	return n, err
}

// arm is the part of ArmWrite that comes before epoll is asked.
func (w *tlsWire) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = true
}

// writable sends what is queued. It reports whether the handler is to be told. It is called by the loop, after epoll was told
// that the socket need not be watched.
func (w *tlsWire) writable() (tell bool) {
	w.mu.Lock()
	err := w.flush()
	left := len(w.queue) > 0
	if !left || err != nil {
		tell, w.armed = w.armed, false
	}
	finish := w.ending && !left
	w.mu.Unlock()
	switch {
	case err != nil: // reading, or the next write, finds out too
	case left:
		w.sock.watch(unix.EPOLLOUT, 0)
	case finish:
		_ = unix.Shutdown(int(w.sock.fd), unix.SHUT_WR) // the peer may have gone; reading finds out
	}
	return tell
}

// finish sends the end of TLS and then that of the stream. It reports whether something must go first.
func (w *tlsWire) finish() (wait bool) {
	// The peer may have gone; reading finds out.
	_ = w.tls.CloseWrite()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending = true
	if len(w.queue) > 0 {
		return true
	}
	_ = unix.Shutdown(int(w.sock.fd), unix.SHUT_WR)
	return false
}

// read reads once from the socket.
func (w *tlsWire) read() {
	if len(w.arrived) > 0 { // since the socket was paused
		w.feed()
		if len(w.arrived) > 0 {
			return
		}
	}
	if closed, _ := w.sock.state(); closed {
		return
	}
	buf := w.sock.loop.buf[:loopBuffer/2]
	n, err := rawRead(int(w.sock.fd), buf)
	switch {
	case n > 0:
		w.arrived = buf[:n]
	case err == nil:
		w.end = io.EOF
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	default:
		w.end = err
	}
	w.feed()
}

// feed gives the handler what has arrived: everything, because epoll does not speak of bytes that were read already. What
// cannot be read because the handler pauses is kept, at most what one read brings and a record.
func (w *tlsWire) feed() {
	s := w.sock
	buf := s.loop.buf[loopBuffer/2:]
	for {
		switch closed, paused := s.state(); {
		case closed: // or handed over
			return
		case paused:
			w.arrived = bytes.Clone(w.arrived)
			return
		}
		n, err := w.tls.Read(buf)
		if n > 0 {
			s.take(buf[:n])
			if closed, _ := s.state(); closed { // or handed over: the wire is another's now, whatever err says
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, errQuiet):
			w.answer()
			return
		case errors.Is(err, io.EOF):
			s.loop.end(s, nil)
			return
		default:
			if w.overrun() {
				err = errUnread // which crypto/tls keeps to itself, and stumbles over the next record
			}
			s.loop.end(s, err)
			return
		}
	}
}

// overrun says whether queue had no room.
func (w *tlsWire) overrun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unread
}

// answer sees to it that what TLS itself had to send is sent.
func (w *tlsWire) answer() {
	full, err := w.full()
	switch {
	case w.overrun():
		w.sock.Abort(errUnread)
	case full && err == nil:
		w.sock.watch(unix.EPOLLOUT, 0)
	}
}

// state says whether the socket is closed, and whether it is not to be read.
func (s *loopSocket) state() (closed, paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed, s.paused && !s.lingers()
}

// secured takes a connection whose handshake is complete into a loop, which reads its request.
func (e *Loops) secured(c *tls.Conn) {
	w := wireOf(c)
	tcp, ok := lowest(w.Conn).(*net.TCPConn)
	if !ok {
		e.acceptFailed(errNoTCP)
		w.Close()
		return
	}
	fd, err := duplicate(tcp)
	if err != nil {
		e.acceptFailed(err)
		tcp.Close()
		return
	}
	remote := remoteOf(tcp)
	e.tune(fd)
	tcp.Close()
	l := e.nextLoop()
	ok = l.post(func() {
		s, err := l.adopt(fd)
		if err != nil {
			e.acceptFailed(err)
			unix.Close(fd)
			return
		}
		w.enter(s)
		l.await(s, remote)
		w.feed()
		if l.ended {
			l.end(s, net.ErrClosed)
		}
	})
	if !ok {
		unix.Close(fd)
	}
}

// noConn is what remains of a connection whose descriptor belongs to a loop.
type noConn struct{}

func (noConn) Read([]byte) (int, error)         { return 0, errQuiet }
func (noConn) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (noConn) Close() error                     { return nil }
func (noConn) LocalAddr() net.Addr              { return nil }
func (noConn) RemoteAddr() net.Addr             { return nil }
func (noConn) SetDeadline(time.Time) error      { return nil }
func (noConn) SetReadDeadline(time.Time) error  { return nil }
func (noConn) SetWriteDeadline(time.Time) error { return nil }
