package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loop is one epoll loop: a goroutine that accepts, reads and tells time for its sockets. The epoll descriptor stands in
// Go's own poller, so a loop that has nothing to do holds no thread.
type loop struct {
	engine *Loops
	ep     int
	file   *os.File // of ep; closing it closes ep
	raw    syscall.RawConn
	wakeFd int // an eventfd: the mailbox is not empty

	mu      sync.Mutex
	mailbox []func() // owner: mu; work posted by others, bounded by one resume, or one Serve, per connection
	posted  bool     // owner: mu; the eventfd was written
	gone    bool     // owner: mu; the loop has ended

	// Owned by the loop's goroutine.
	socks          map[int32]*loopSocket // by descriptor
	oldest, newest *pending              // of those whose request has not arrived
	waiting        int                   // how many they are
	wheel          [tickSlots][]*loopSocket
	turn           int // the slot of the wheel that is next
	slot           int // the slot for the next socket
	next           time.Time
	events         [maxEvents]unix.EpollEvent
	buf            []byte
	deaf           bool // the listener is not watched until the next tick, because accepting failed
	ended          bool
}

const (
	maxEvents  = 256
	loopBuffer = 64 << 10
	// maxAccepts is how many connections a loop accepts before it looks after the others again.
	maxAccepts = 64
)

func newLoop(e *Loops) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(ep, true); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &loop{engine: e, ep: ep, file: os.NewFile(uintptr(ep), "epoll"), socks: map[int32]*loopSocket{}, buf: make([]byte, loopBuffer)}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.wakeFd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		l.file.Close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if err := l.add(l.wakeFd, 0, unix.EPOLLIN); err != nil {
		l.file.Close()
		unix.Close(l.wakeFd)
		return nil, err
	}
	return l, nil
}

// add watches fd. generation tells its events from those of an earlier socket with the same descriptor.
func (l *loop) add(fd int, generation uint32, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: int32(generation)}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// post makes the loop's goroutine run fn. It reports false when the loop has ended.
func (l *loop) post(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return false
	}
	l.mailbox = append(l.mailbox, fn)
	if !l.posted {
		l.posted = true
		l.wake() // with the lock: the eventfd is closed once gone is set
	}
	return true
}

func (l *loop) wake() {
	one := [8]byte{1}
	// It fails only when the counter is full, and then the loop is awake anyway.
	_, _ = unix.Write(l.wakeFd, one[:])
}

// run is the loop.
func (l *loop) run() {
	l.schedule(time.Now())
	for !l.ended {
		n := l.wait()
		for i := range n {
			l.dispatch(&l.events[i])
		}
		l.tick(time.Now())
	}
	for _, s := range l.socks {
		l.end(s, net.ErrClosed)
	}
	l.mu.Lock()
	l.gone = true
	late := l.mailbox
	l.mu.Unlock()
	for _, fn := range late {
		fn() // ends itself
	}
	l.file.Close()
	unix.Close(l.wakeFd)
}

// schedule sets the time of the next tick.
func (l *loop) schedule(now time.Time) {
	l.next = now.Add(l.engine.options.Tick / tickSlots)
	// An epoll descriptor takes deadlines, because it stands in the poller.
	_ = l.file.SetReadDeadline(l.next)
}

// wait returns the number of events, 0 when it is time for a tick.
func (l *loop) wait() (n int) {
	err := l.raw.Read(func(fd uintptr) bool {
		var err error
		n, err = unix.EpollWait(int(fd), l.events[:], 0)
		if err != nil {
			n = 0
		}
		return n > 0 || errors.Is(err, unix.EINTR)
	})
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.ended = true
	}
	return n
}

func (l *loop) dispatch(ev *unix.EpollEvent) {
	switch {
	case ev.Fd == int32(l.wakeFd):
		l.readMailbox()
	case ev.Fd == int32(l.engine.listenFd) && ev.Pad == 0:
		l.accept()
	default:
		if s := l.socks[ev.Fd]; s != nil && s.generation == uint32(ev.Pad) {
			s.event(ev.Events)
		}
	}
}

func (l *loop) readMailbox() {
	var count [8]byte
	_, _ = unix.Read(l.wakeFd, count[:]) // it is not blocking; the mailbox tells what there is
	l.mu.Lock()
	work := l.mailbox
	l.mailbox, l.posted = nil, false
	l.mu.Unlock()
	for _, fn := range work {
		fn()
	}
}

// tick visits the slots of the wheel whose time has come.
func (l *loop) tick(now time.Time) {
	if now.Before(l.next) {
		return
	}
	slot := l.engine.options.Tick / tickSlots
	due := min(1+int(now.Sub(l.next)/slot), tickSlots)
	l.schedule(now)
	l.hear()
	l.expire(now)
	for range due {
		l.turnWheel(now)
	}
}

func (l *loop) turnWheel(now time.Time) {
	// Backwards, because a socket that ends is replaced in its slot by the last one.
	for i, v := range slices.Backward(l.wheel[l.turn]) {
		if i < len(l.wheel[l.turn]) {
			v.tick(now)
		}
	}
	l.turn = (l.turn + 1) % tickSlots
}

// accept takes new connections; the listener is shared by all loops.
func (l *loop) accept() {
	if l.engine.stopped.Load() {
		return
	}
	for range maxAccepts {
		fd, sa, err := unix.Accept4(l.engine.listenFd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				l.engine.acceptFailed(err)
				l.deafen()
			}
			return
		}
		s, err := l.adopt(fd, addrPort(sa))
		if err != nil {
			unix.Close(fd)
			l.engine.acceptFailed(err)
			continue
		}
		l.await(s)
	}
}

// deafen stops watching the listener until the next tick: epoll would speak of it again and again.
func (l *loop) deafen() {
	l.deaf = true
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, l.engine.listenFd, nil)
}

func (l *loop) hear() {
	if l.deaf && !l.engine.stopped.Load() {
		l.deaf = l.add(l.engine.listenFd, 0, unix.EPOLLIN|unix.EPOLLEXCLUSIVE) != nil
	}
}

// adopt takes a new socket into the loop. The descriptor stays the caller's when that fails.
func (l *loop) adopt(fd int, remote netip.AddrPort) (*loopSocket, error) {
	// Failing to set these costs speed or memory, not correctness.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, l.engine.options.SendBuffer)
	s := &loopSocket{loop: l, fd: fd, remote: remote, generation: l.engine.generation.Add(1), interest: unix.EPOLLIN | unix.EPOLLRDHUP}
	if err := l.add(fd, s.generation, s.interest); err != nil {
		return nil, err
	}
	l.socks[int32(fd)] = s
	s.slot = l.slot
	l.slot = (l.slot + 1) % tickSlots
	s.place = len(l.wheel[s.slot])
	l.wheel[s.slot] = append(l.wheel[s.slot], s)
	return s, nil
}

// stillborn makes the handler of a connection that cannot be served, as Serve promises, and closes it.
func (l *loop) stillborn(fd int, wire *tlsWire, err error, open func(Socket) Handler) {
	s := &loopSocket{loop: l, fd: fd, closed: true} // it can be written to while the handler does not know
	if wire != nil {
		wire.enter(s)
	}
	open(s).Closed(err)
	unix.Close(fd)
}

// forget takes a socket out of the loop; the descriptor stays open.
func (l *loop) forget(s *loopSocket) {
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, s.fd, nil)
	l.arrived(s)
	delete(l.socks, int32(s.fd))
	slot := l.wheel[s.slot]
	last := len(slot) - 1
	slot[s.place] = slot[last]
	slot[s.place].place = s.place
	slot[last] = nil
	l.wheel[s.slot] = slot[:last]
}

// end closes a socket. Its handler is told before the descriptor is closed, and promises not to touch it any more:
// the descriptor may be another connection's the moment after.
func (l *loop) end(s *loopSocket, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	if s.cause != nil {
		err = s.cause
	}
	s.mu.Unlock()
	l.forget(s)
	if s.handler != nil {
		s.handler.Closed(err)
	}
	unix.Close(s.fd)
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
