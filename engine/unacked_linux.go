package engine

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// CutUnacknowledged implements Vigilant.
func (s *loopSocket) CutUnacknowledged(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		cutUnacknowledged(int(s.fd), d)
	}
}

// CutUnacknowledged implements Vigilant.
func (c *Conn) CutUnacknowledged(d time.Duration) {
	t, ok := lowest(c.conn).(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := t.SyscallConn(); err == nil {
		// A connection that is closed needs nothing.
		_ = raw.Control(func(fd uintptr) { cutUnacknowledged(int(fd), d) })
	}
}

// cutUnacknowledged sets the option of RFC 5482. Failing costs time until the kernel gives up, not correctness.
func cutUnacknowledged(fd int, d time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}
