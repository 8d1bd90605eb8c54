package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Loops is the engine of Linux: epoll loops that accept, read requests and frames, and tell time; no goroutine, buffer or timer for
// a connection. It listens itself: requests that it upgrades stay in the loops, all others go to net/http through HTTP.
type Loops struct {
	options  LoopOptions
	listener *net.TCPListener
	listenFd int
	loops    []*loop
	fallback *Portable // for connections that are no plain TCP
	http     *handOver

	generation atomic.Int32
	failures   atomic.Int64
	wg         sync.WaitGroup
	close      sync.Once
}

// maxHead bounds the bytes of a request before its body.
const maxHead = 16 << 10

// NewLoops starts the loops on a listener, which belongs to the engine from then on.
func NewLoops(l *net.TCPListener, o LoopOptions) (*Loops, error) {
	o.Options = o.Options.withDefaults()
	if o.Handshake <= 0 {
		o.Handshake = 10 * time.Second
	}
	if o.Loops <= 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Loops{options: o, listener: l, fallback: NewPortable(o.Options)}
	e.http = &handOver{addr: l.Addr(), conns: make(chan net.Conn, 128), done: make(chan struct{})}
	if err := e.start(); err != nil {
		e.fallback.Close()
		return nil, err
	}
	return e, nil
}

func (e *Loops) start() error {
	raw, err := e.listener.SyscallConn()
	if err != nil {
		return err
	}
	// A copy of the descriptor, which the poller of net does not know.
	if cerr := raw.Control(func(fd uintptr) {
		e.listenFd, err = unix.FcntlInt(fd, syscall.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil || err != nil {
		return fmt.Errorf("copying the listener's descriptor: %w", firstError(cerr, err))
	}
	for range e.options.Loops {
		l, err := newLoop(e)
		if err == nil {
			err = l.add(e.listenFd, 0, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
		}
		if err != nil {
			for _, l := range e.loops {
				l.file.Close()
				unix.Close(l.wakeFd)
			}
			unix.Close(e.listenFd)
			return err
		}
		e.loops = append(e.loops, l)
	}
	for _, l := range e.loops {
		e.wg.Go(l.run)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// HTTP is the listener of the connections whose requests are not for the upgrader.
func (e *Loops) HTTP() net.Listener { return e.http }

// Serve takes over a connection that was upgraded elsewhere, such as on a connection that net/http keeps alive. first
// are bytes that were read already.
func (e *Loops) Serve(conn net.Conn, first []byte, open func(Socket) Handler) {
	if p, ok := conn.(*prefixed); ok && len(p.first) == 0 {
		conn = p.Conn
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		e.fallback.Serve(conn, first, open)
		return
	}
	fd, err := duplicate(tcp)
	if err != nil {
		e.fallback.Serve(conn, first, open)
		return
	}
	remote := tcp.RemoteAddr().(*net.TCPAddr).AddrPort()
	conn.Close() // the copy lives on, outside of net's poller
	l := e.loops[int(e.generation.Load())%len(e.loops)]
	ok = l.post(func() {
		s := l.adopt(fd, remote)
		if s == nil {
			return
		}
		s.open(open, first)
		if l.ended {
			l.end(s, net.ErrClosed)
		}
	})
	if !ok {
		unix.Close(fd)
	}
}

func duplicate(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, syscall.F_DUPFD_CLOEXEC, 0) })
	return fd, firstError(cerr, err)
}

// StopAccepting ends the listener; connections stay.
func (e *Loops) StopAccepting() {
	e.listener.Close()
	e.http.Close()
	for _, l := range e.loops {
		l.post(func() {
			l.deafen()
			l.deaf = false
		})
	}
}

// Close closes all connections and waits for the loops.
func (e *Loops) Close() {
	e.close.Do(func() {
		e.StopAccepting()
		for _, l := range e.loops {
			l.post(func() { l.ended = true })
		}
		e.wg.Wait()
		unix.Close(e.listenFd)
		e.fallback.Close()
	})
}

// acceptFailed counts and logs, now and then, that a connection could not be taken: usually too many open files.
func (e *Loops) acceptFailed(err error) {
	if n := e.failures.Add(1); n&(n-1) == 0 {
		e.options.Log.Error("connections cannot be accepted", "times", n, "error", err)
	}
}

// request takes a part of a request and acts when it is complete.
func (s *loopSocket) request(b []byte) {
	if s.head == nil {
		if end := bytes.Index(b, headEnd); end >= 0 {
			s.complete(b, end+len(headEnd))
			return
		}
	}
	from := max(len(s.head)-len(headEnd)+1, 0)
	s.head = append(s.head, b...)
	if end := bytes.Index(s.head[from:], headEnd); end >= 0 {
		s.complete(s.head, from+end+len(headEnd))
		return
	}
	if len(s.head) > maxHead {
		s.handOver(s.head) // net/http says what is wrong
	}
}

var headEnd = []byte("\r\n\r\n")

// complete acts on a request whose head is the first n of b.
func (s *loopSocket) complete(b []byte, n int) {
	r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(b[:n]), n))
	up := s.loop.engine.options.Upgrader
	if err != nil || !up.Handles(r) {
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

// refuse ends a connection with an answer: what the peer still sends is read for a while, so that the answer is
// not lost to a reset.
func (s *loopSocket) refuse(answer []byte) {
	// It fits into the buffer of a new socket, unless the peer has gone.
	_, _ = s.TryWrite(answer)
	s.handler = discard{}
	s.head = nil
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
	s.head = nil
	conn, err := s.release()
	if err != nil {
		e.acceptFailed(err)
		return
	}
	e.http.give(&prefixed{Conn: conn, first: first})
}

// prefixed is a connection of which some bytes were read.
type prefixed struct {
	net.Conn
	first []byte
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

// handOver is the listener that net/http accepts from.
type handOver struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// give passes a connection on, and closes it when net/http is 128 connections behind or has ended.
func (h *handOver) give(c net.Conn) {
	select {
	case h.conns <- c:
	default:
		c.Close()
	}
}

func (h *handOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handOver) Close() error   { h.once.Do(func() { close(h.done) }); return nil }
func (h *handOver) Addr() net.Addr { return h.addr }
