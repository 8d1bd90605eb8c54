package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
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
	sockets  socketTable
	secure   *handshakes // nil without TLS

	maxWaiting int // of each loop

	generation atomic.Uint32
	turn       atomic.Uint32 // of the loops, to take a connection from elsewhere
	failures   atomic.Int64
	wg         sync.WaitGroup
	stop       sync.Once
	stopped    atomic.Bool // nothing is accepted any more
	close      sync.Once
}

const (
	// maxHandOver is how many connections net/http may be behind; more are closed, and counted as failures.
	maxHandOver = 4096
	// maxWaiting is the default of LoopOptions.Waiting.
	maxWaiting = 4096
)

// errBehind is why connections are closed that net/http does not come to.
var errBehind = errors.New("net/http accepts too slowly, or has ended")

// NewLoops starts the loops on a listener, which belongs to the engine from then on.
func NewLoops(l *net.TCPListener, o LoopOptions) (*Loops, error) {
	o.Options = o.withDefaults()
	if o.Handshake <= 0 {
		o.Handshake = 10 * time.Second
	}
	if o.Loops <= 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	if o.Waiting <= 0 {
		o.Waiting = maxWaiting
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Loops{options: o, listener: l, fallback: NewPortable(o.Options), maxWaiting: max(o.Waiting/o.Loops, 1)}
	e.http = &handOver{addr: l.Addr(), conns: make(chan net.Conn, maxHandOver), done: make(chan struct{})}
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
	e.tune(e.listenFd)
	for range e.options.Loops {
		l, err := newLoop(e)
		if err == nil {
			e.loops = append(e.loops, l)
		}
		if err == nil && e.options.TLS == nil {
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
	}
	for _, l := range e.loops {
		e.wg.Go(l.run)
	}
	if e.options.TLS != nil {
		e.secure = newHandshakes(e.listener, e.options, newTLSWire, e.secured)
		e.secure.start()
	}
	return nil
}

// tune sets what connections inherit from their listener. Failing costs speed or memory, not correctness.
func (e *Loops) tune(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, e.options.SendBuffer)
}

// nextLoop is whose turn it is to take a connection.
func (e *Loops) nextLoop() *loop { return e.loops[e.turn.Add(1)%uint32(len(e.loops))] }

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
// are bytes that were read already. The handler of a connection that cannot be served is made all the same, and told why.
func (e *Loops) Serve(conn net.Conn, first []byte, open func(Socket) Handler) {
	if p, ok := conn.(*prefixed); ok {
		// net/http has not asked for all that was read before it.
		first = append(slices.Clip(first), p.first...)
		conn = p.Conn
	}
	wire := wireOf(conn)
	tcp, ok := conn.(*net.TCPConn)
	if wire != nil {
		tcp, ok = wire.Conn.(*net.TCPConn)
	}
	if !ok {
		e.fallback.Serve(conn, first, open)
		return
	}
	fd, err := duplicate(tcp)
	if err != nil {
		e.fallback.Serve(conn, first, open)
		return
	}
	e.tune(fd)
	tcp.Close() // the copy lives on, outside of net's poller
	l := e.nextLoop()
	ok = l.post(func() {
		s, err := l.adopt(fd)
		if err != nil {
			e.acceptFailed(err)
			l.stillborn(fd, wire, err, open)
			return
		}
		if wire != nil {
			wire.enter(s)
		}
		s.open(open, first)
		if wire != nil {
			wire.feed()
		}
		if l.ended {
			l.end(s, net.ErrClosed)
		}
	})
	if !ok {
		l.stillborn(fd, wire, net.ErrClosed, open)
	}
}

// remoteOf is the peer's address; a connection has none when the peer has gone.
func remoteOf(c *net.TCPConn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

func duplicate(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, syscall.F_DUPFD_CLOEXEC, 0) })
	return fd, firstError(cerr, err)
}

// StopAccepting ends the listener: who connects from now on is turned away. Connections stay.
func (e *Loops) StopAccepting() {
	e.stop.Do(func() {
		e.stopped.Store(true)
		e.listener.Close()
		// Closing is not enough: the loops' copy of the descriptor would go on listening.
		_ = unix.Shutdown(e.listenFd, unix.SHUT_RDWR)
		e.http.Close()
		if e.secure != nil {
			e.secure.close()
		}
		for _, l := range e.loops {
			l.post(l.deafen)
		}
	})
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
