package engine

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errHandshake and errCrowded are why a connection was cut that did not complete its request.
var (
	errHandshake = errors.New("the request was not complete in time")
	errCrowded   = errors.New("the request was not complete when too many others were waiting")
)

// loopSocket is one connection of a loop. Until it has a handler it reads an HTTP request.
type loopSocket struct {
	loop       *loop
	fd         int32
	generation uint32

	// Owned by the loop's goroutine.
	handler Handler
	pending *pending // nil with a handler
	place   int32    // in the slot
	slot    uint8    // of the wheel
	paused  bool     // the handler's last Read reported false

	wire *tlsWire // with TLS; set before the socket is used

	mu       sync.Mutex
	ending   *ending // owner: mu; nil before Finish and Abort
	interest uint32  // owner: mu; what epoll watches for
	nudged   bool    // owner: mu; a resume stands in the mailbox
	closed   bool    // owner: mu; the descriptor must not be used any more
}

// ending is what a connection has besides once it was finished or aborted.
type ending struct {
	linger time.Time // when a finished connection is closed, zero when it is not finished
	cause  error     // why it was aborted
}

// beginEnding returns the socket's ending, and makes it if need be. The socket is locked.
func (s *loopSocket) beginEnding() *ending {
	if s.ending == nil {
		s.ending = new(ending)
	}
	return s.ending
}

const readInterest = unix.EPOLLIN | unix.EPOLLRDHUP

// TryWrite implements fanout.Socket.
func (s *loopSocket) TryWrite(b []byte) (n int, err error) {
	if s.wire != nil {
		return s.wire.tryWrite(b)
	}
	return writeSocket(int(s.fd), b)
}

// writeSocket writes what a socket takes without blocking.
func writeSocket(fd int, b []byte) (n int, err error) {
	n, err = rawWrite(fd, b)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
		return 0, nil
	}
	return 0, err
}

// ArmWrite implements fanout.Socket.
func (s *loopSocket) ArmWrite() {
	if s.wire != nil {
		s.wire.arm()
	}
	s.watch(unix.EPOLLOUT, 0)
}

// Finish implements fanout.Socket.
func (s *loopSocket) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.beginEnding().linger = time.Now().Add(s.loop.engine.options.Linger)
		s.watchLocked(readInterest, 0) // one that is not being read would not see its peer's end
		if s.wire == nil {
			// The peer may have gone; reading finds out.
			_ = unix.Shutdown(int(s.fd), unix.SHUT_WR)
		} else if s.wire.finish() {
			s.watchLocked(unix.EPOLLOUT, 0)
		}
		s.loop.post(s.hasten)
	}
}

// hasten lets the wheel come to a finished socket when its time is over.
func (s *loopSocket) hasten() {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if !closed {
		s.loop.leaveWheel(s)
		s.loop.enterWheel(s, s.loop.engine.options.Linger)
	}
}

// Abort implements fanout.Socket: the loop finds the socket shut, and ends it.
func (s *loopSocket) Abort(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.beginEnding(); e.cause == nil {
		e.cause = err
	}
	if !s.closed {
		_ = unix.Shutdown(int(s.fd), unix.SHUT_RDWR) // a peer that has gone already is as good
	}
}

// Resume implements Socket. The loop comes to it after the Read that it answers, whichever was first.
func (s *loopSocket) Resume() {
	s.mu.Lock()
	again := s.nudged || s.closed
	s.nudged = true
	s.mu.Unlock()
	if !again {
		s.loop.post(s.resume)
	}
}

// resume gives a paused handler its turn, and reads on if it likes.
func (s *loopSocket) resume() {
	s.mu.Lock()
	closed := s.closed
	s.nudged = false
	s.mu.Unlock()
	if s.paused && !closed && s.handler.Read(nil) {
		s.paused = false
		s.watch(readInterest, 0)
		if s.wire != nil {
			s.wire.feed()
		}
	}
}

// pause stops reading until resume. A finished connection is read whatever its handler says.
func (s *loopSocket) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = !s.lingers()
	if s.paused {
		s.watchLocked(0, readInterest)
	}
}

// watch changes what epoll watches for.
func (s *loopSocket) watch(more, less uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchLocked(more, less)
}

func (s *loopSocket) watchLocked(more, less uint32) {
	if s.closed {
		return
	}
	s.interest = s.interest&^less | more
	ev := unix.EpollEvent{Events: s.interest, Fd: s.fd, Pad: int32(s.generation)}
	if err := unix.EpollCtl(s.loop.ep, unix.EPOLL_CTL_MOD, int(s.fd), &ev); err != nil && s.beginEnding().cause == nil {
		s.beginEnding().cause = err
		_ = unix.Shutdown(int(s.fd), unix.SHUT_RDWR)
	}
}

// event handles what epoll says about the socket. It is called by the loop.
func (s *loopSocket) event(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		s.watch(0, unix.EPOLLOUT)
		if tell := s.wire == nil || s.wire.writable(); tell && s.handler != nil {
			s.handler.Writable()
		}
	}
	switch {
	case events&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0:
		s.read()
	case events&(unix.EPOLLHUP|unix.EPOLLERR) != 0:
		s.loop.end(s, socketError(int(s.fd)))
	}
}

// socketError is the error that is pending on a socket.
func socketError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || n == 0 {
		return err
	}
	return unix.Errno(n)
}

// read reads once; what is left makes epoll speak again.
func (s *loopSocket) read() {
	if s.wire != nil {
		s.wire.read()
		return
	}
	n, err := rawRead(int(s.fd), s.loop.buf)
	switch {
	case n > 0:
		s.take(s.loop.buf[:n])
	case err == nil:
		s.loop.end(s, nil)
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
	default:
		s.loop.end(s, err)
	}
}

// take gives bytes to the handler, or to the request.
func (s *loopSocket) take(b []byte) {
	if s.handler == nil {
		s.request(b)
		return
	}
	if !s.handler.Read(b) {
		s.pause()
	}
}

// open gives the socket its handler, and the handler what has arrived already.
func (s *loopSocket) open(open func(Socket) Handler, first []byte) {
	s.loop.arrived(s)
	s.handler = open(s)
	if len(first) > 0 {
		s.take(first)
	}
}

// tick is called by the loop's wheel, and returns when to call it again.
func (s *loopSocket) tick(now time.Time) (after time.Duration) {
	if s.handler == nil {
		return 0
	}
	s.mu.Lock()
	lingers := s.lingers()
	over := lingers && now.After(s.ending.linger)
	s.mu.Unlock()
	if over {
		s.loop.end(s, nil)
		return 0
	}
	after = s.handler.Tick(now)
	if lingers {
		return min(after, s.loop.engine.options.Tick)
	}
	return after
}

// lingers says whether the connection was finished. The socket is locked.
func (s *loopSocket) lingers() bool { return s.ending != nil && !s.ending.linger.IsZero() }

// release takes the socket out of its loop and returns it as a net.Conn.
func (s *loopSocket) release() (net.Conn, error) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.loop.forget(s)
	f := os.NewFile(uintptr(s.fd), "tcp")
	defer f.Close() // FileConn has a copy of its own
	conn, err := net.FileConn(f)
	if err == nil && s.wire != nil {
		return s.wire.leave(conn), nil
	}
	return conn, err
}
