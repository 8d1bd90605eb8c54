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
	mailbox []func() // owner: mu; work posted by others, bounded by one resume, one Serve and one Finish per connection
	posted  bool     // owner: mu; the eventfd was written
	gone    bool     // owner: mu; the loop has ended

	// Owned by the loop's goroutine.
	oldest, newest *pending // of those whose request has not arrived
	waiting        int      // how many they are
	heads          headReader
	wheel          [wheelSlots][]*loopSocket
	turn           int // the slot of the wheel that is next
	first          int // how many slots after the next the last new socket began
	next           time.Time
	events         [maxEvents]unix.EpollEvent
	buf            []byte
	deaf           bool // the listener is not watched until the next tick, because accepting failed
	ended          bool
}

const (
	maxEvents  = 256
	loopBuffer = 64 << 10
	// slotsPerTick is how finely the wheel divides Options.Tick, and wheelSlots how far it reaches.
	slotsPerTick = 5
	wheelSlots   = 64
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
	l := &loop{engine: e, ep: ep, file: os.NewFile(uintptr(ep), "epoll"), buf: make([]byte, loopBuffer)}
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
	for _, slot := range l.wheel {
		for _, s := range slices.Clone(slot) {
			l.end(s, net.ErrClosed)
		}
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
	l.next = now.Add(l.slotTime())
	// An epoll descriptor takes deadlines, because it stands in the poller.
	_ = l.file.SetReadDeadline(l.next)
}

// wait returns the number of events, 0 when it is time for a tick.
func (l *loop) wait() (n int) {
	err := l.raw.Read(func(fd uintptr) bool {
		var err error
		n, err = rawEpollWait(int(fd), l.events[:])
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
		if s := l.engine.sockets.get(int(ev.Fd)); s != nil && s.generation == uint32(ev.Pad) {
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
	due := min(1+int(now.Sub(l.next)/l.slotTime()), wheelSlots)
	l.schedule(now)
	l.hear()
	l.expire(now)
	for range due {
		l.turnWheel(now)
	}
}

func (l *loop) turnWheel(now time.Time) {
	due := l.turn
	l.turn = (l.turn + 1) % wheelSlots
	// Backwards, so that it is the last one that ends or finds another place.
	for _, s := range slices.Backward(l.wheel[due]) {
		after := s.tick(now)
		if int(s.place) < len(l.wheel[due]) { // it has not ended
			l.leaveWheel(s)
			l.enterWheel(s, after)
		}
	}
	if len(l.wheel[due]) == 0 {
		l.wheel[due] = nil // it may have been full after a storm, and not be again
	}
}

func (l *loop) slotTime() time.Duration { return l.engine.options.Tick / slotsPerTick }

// enterWheel gives a socket a slot that is due in after or a little later.
func (l *loop) enterWheel(s *loopSocket, after time.Duration) {
	if after <= 0 || after > (wheelSlots-2)*l.slotTime() {
		after = l.engine.options.Tick
	}
	slots := int((after + l.slotTime() - 1) / l.slotTime())
	s.slot = uint8((l.turn + slots) % wheelSlots)
	s.place = int32(len(l.wheel[s.slot]))
	l.wheel[s.slot] = append(l.wheel[s.slot], s)
}

// leaveWheel takes a socket out of its slot; the last one there takes its place.
func (l *loop) leaveWheel(s *loopSocket) {
	slot := l.wheel[s.slot]
	last := len(slot) - 1
	slot[s.place] = slot[last]
	slot[s.place].place = s.place
	slot[last] = nil
	l.wheel[s.slot] = slot[:last]
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
		s, err := l.adopt(fd)
		if err != nil {
			unix.Close(fd)
			l.engine.acceptFailed(err)
			continue
		}
		l.await(s, addrPort(sa))
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
func (l *loop) adopt(fd int) (*loopSocket, error) {
	s := &loopSocket{loop: l, fd: int32(fd), generation: l.engine.generation.Add(1), interest: unix.EPOLLIN | unix.EPOLLRDHUP}
	if err := l.add(fd, s.generation, s.interest); err != nil {
		return nil, err
	}
	l.engine.sockets.set(fd, s)
	l.first = (l.first + 1) % slotsPerTick
	l.enterWheel(s, time.Duration(l.first+1)*l.slotTime())
	return s, nil
}

// stillborn makes the handler of a connection that cannot be served, as Serve promises, and closes it.
func (l *loop) stillborn(fd int, wire *tlsWire, err error, open func(Socket) Handler) {
	s := &loopSocket{loop: l, fd: int32(fd), closed: true} // it can be written to while the handler does not know
	if wire != nil {
		wire.enter(s)
	}
	open(s).Closed(err)
	unix.Close(fd)
}

// forget takes a socket out of the loop; the descriptor stays open.
func (l *loop) forget(s *loopSocket) {
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, int(s.fd), nil)
	l.arrived(s)
	l.engine.sockets.set(int(s.fd), nil)
	l.leaveWheel(s)
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
	if s.ending != nil && s.ending.cause != nil {
		err = s.ending.cause
	}
	s.mu.Unlock()
	l.forget(s)
	if s.handler != nil {
		s.handler.Closed(err)
	}
	unix.Close(int(s.fd))
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
