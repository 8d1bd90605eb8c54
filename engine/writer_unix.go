//go:build unix

package engine

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// newWriter chooses how c is written to: TCP and Unix sockets directly, everything else through a queue.
func newWriter(c *Conn) writer {
	switch conn := c.conn.(type) {
	case *net.TCPConn:
		return newRawWriter(c, conn)
	case *net.UnixConn:
		return newRawWriter(c, conn)
	}
	return newQueueWriter(c)
}

// rawWriter writes to a socket by system calls that do not block.
type rawWriter struct {
	c   *Conn
	raw syscall.RawConn
}

func newRawWriter(c *Conn, conn syscall.Conn) writer {
	raw, err := conn.SyscallConn()
	if err != nil {
		return newQueueWriter(c)
	}
	return &rawWriter{c, raw}
}

func (w *rawWriter) tryWrite(b []byte) (n int, err error) {
	var werr error
	err = w.raw.Write(func(fd uintptr) bool {
		n, werr = unix.Write(int(fd), b)
		return true
	})
	if err != nil {
		return 0, err
	}
	switch werr {
	case nil:
		return n, nil
	case unix.EAGAIN, unix.EINTR, unix.ENOBUFS:
		return 0, nil
	}
	return 0, werr
}

// awaitWritable asks the kernel before it waits: the poller tells of changes only, and the socket may have become
// writable before anyone waited.
func (w *rawWriter) awaitWritable() {
	// An error means that the socket is closed, which the next write finds too.
	_ = w.raw.Write(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	})
}

func (w *rawWriter) finish() { closeWrite(w.c.conn) }
