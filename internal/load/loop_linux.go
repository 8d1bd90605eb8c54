package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"barrage/ws"
)

// conn is a connection. It holds no pointer, so that the collector does not look at them.
type conn struct {
	fd    int32
	gen   int32 // attempts so far; tells events of an earlier one apart
	state connState
	began int64 // when the attempt began
}

type connState uint8

const (
	waiting connState = iota // not begun, or to be tried again
	connecting
	upgrading
	open
	stalledOpen
	resumed // had stalled, and reads again
	closed
)

// Identities of what is no connection, in the data of epoll events.
const (
	timerID = -1
	wakeID  = -2
)

// bufferSize is the size of the one buffer for reading, and so of the longest frame.
const bufferSize = 1 << 20

// loop is one worker: everything but the wake descriptor belongs to the goroutine that calls its methods.
type loop struct {
	job   *Job
	clock clock
	emit  func(event) error

	ep, timer int
	wake      *os.File // an eventfd; others may write to it
	wakeFD    int
	buf       []byte
	conns     []conn
	rest      map[int32][]byte // beginnings of frames, by connection
	unsent    map[int32][]byte // what a socket did not take, by connection

	dial   dialer
	ledger *ledger
	// late keeps the account of those that did not read, once they do; nil when all read.
	late   *ledger
	window window
	pub    publisher
	out    outcome
	opened int // connections that are open

	// cur is the connection that is being scanned, and now when it was read.
	cur int32
	now int64
}

func newLoop(job *Job, emit func(event) error) (*loop, error) {
	l := &loop{
		job: job, clock: newClock(), emit: emit, buf: make([]byte, bufferSize), conns: make([]conn, job.Count),
		rest: map[int32][]byte{}, unsent: map[int32][]byte{}, ledger: newLedger(job.Count * job.Publishers), ep: -1, timer: -1,
	}
	if job.Stall > 0 {
		l.late = newLedger(job.Count * job.Publishers)
	}
	var err error
	if l.dial, err = newDialer(job); err != nil {
		return nil, err
	}
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.wake = os.NewFile(uintptr(l.wakeFD), "wake")
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, errors.Join(l.control(unix.EPOLL_CTL_ADD, l.wakeFD, wakeID, 0, unix.EPOLLIN),
		l.control(unix.EPOLL_CTL_ADD, l.timer, timerID, 0, unix.EPOLLIN))
}

// control tells epoll what is wanted of a descriptor.
func (l *loop) control(op, fd int, id, gen int32, events uint32) error {
	return unix.EpollCtl(l.ep, op, fd, &unix.EpollEvent{Events: events, Fd: id, Pad: gen})
}

// close ends all connections.
func (l *loop) close() error {
	for i := range l.conns {
		if c := &l.conns[i]; c.state != waiting && c.state != closed {
			_ = unix.Close(int(c.fd))
			c.state = closed
		}
	}
	var err error
	for _, fd := range []int{l.ep, l.timer} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if l.wake != nil {
		err = errors.Join(err, l.wake.Close())
	}
	return err
}

// poll waits until something happens, for at most d, and handles it.
func (l *loop) poll(d time.Duration) error {
	var events [256]unix.EpollEvent
	n, err := epollWait(l.ep, events[:], d)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll_wait: %w", err)
	}
	for i := range max(n, 0) {
		switch e := &events[i]; {
		case e.Fd == wakeID:
			var b [8]byte
			_, _ = unix.Read(l.wakeFD, b[:])
		case e.Fd == timerID: // setting the timer again takes the event back
		case l.conns[e.Fd].gen == e.Pad:
			l.handle(e.Fd, e.Events)
		}
	}
	return nil
}

// handle does what an event of a connection asks for.
func (l *loop) handle(i int32, events uint32) {
	switch c := &l.conns[i]; c.state {
	case connecting:
		l.finishConnect(i)
	case upgrading, open, resumed:
		if events&unix.EPOLLOUT != 0 {
			l.flush(i)
		}
		if events&^unix.EPOLLOUT != 0 && c.state != closed {
			l.read(i)
		}
	case stalledOpen:
		l.out.Dropped++
		l.drop(i, "")
	}
}

// read reads once, as much as the buffer takes; epoll tells when there is more.
func (l *loop) read(i int32) {
	c := &l.conns[i]
	had := 0
	if rest, ok := l.rest[i]; ok {
		had = copy(l.buf, rest)
	}
	n, err := read(int(c.fd), l.buf[had:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case err != nil:
		l.lost(i, fmt.Sprintf("reading: %v", err))
		return
	case n == 0:
		l.lost(i, "the server ended the connection")
		return
	}
	l.cur, l.now = i, l.clock.now()
	b := l.buf[:had+n]
	if c.state == upgrading {
		if b = l.upgrade(i, b); b == nil {
			return
		}
	}
	used, _, err := scan(b, l)
	switch {
	case err != nil:
		l.lost(i, err.Error())
	case c.state == closed:
	case len(b)-used == bufferSize:
		l.lost(i, fmt.Sprintf("the server sent a frame of more than %d bytes", bufferSize))
	default:
		l.keep(i, b[used:])
	}
}

// keep remembers the beginning of a frame until the rest of it comes.
func (l *loop) keep(i int32, rest []byte) {
	if len(rest) == 0 {
		if len(l.rest) > 0 {
			delete(l.rest, i)
		}
		return
	}
	l.rest[i] = append(l.rest[i][:0], rest...)
}

// marker counts a delivery. It implements frameSink.
func (l *loop) marker(m Marker) {
	i := l.cur
	place, ours := l.job.stream(int(i), m.Stream)
	if m.Run != l.job.Run || !ours {
		l.ledger.Foreign++
		return
	}
	line := i*int32(l.job.Publishers) + int32(place)
	if l.conns[i].state == resumed {
		l.late.receive(line, m.Number)
		return
	}
	measuring := l.now >= l.window.Measure && l.now < l.window.To
	if l.job.Publish != nil {
		if measuring {
			l.out.Echoes++
		}
		return
	}
	if !l.ledger.receive(line, m.Number) {
		return
	}
	if measuring {
		l.out.Measured++
	}
	if due := m.Due * 1000; due >= l.window.Measure-999 && due < l.window.To {
		l.out.Latency.Add(time.Duration(l.now - due))
	}
}

// controlFrame answers a ping and notes a close. It implements frameSink.
func (l *loop) controlFrame(op ws.Opcode, payload []byte) {
	switch op {
	case ws.OpPing:
		l.write(l.cur, ws.AppendMaskedFrame(nil, ws.OpPong, mask, payload))
	case ws.OpClose:
		code, reason, err := ws.ParseClose(payload)
		why := fmt.Sprintf("the server closed with code %d %q", code, reason)
		if err != nil {
			why = "the server closed with a bad close frame"
		}
		l.lost(l.cur, why)
	}
}

// mask of all frames: unmasking costs a server the same whatever it is.
var mask = [4]byte{0x5a, 0xc3, 0x17, 0x8e}

// maxUnsent bounds what is kept for a socket that takes nothing, in bytes.
const maxUnsent = 4 << 20

// write sends b now, or later when the socket takes no more; false when too much waits already.
func (l *loop) write(i int32, b []byte) bool {
	c := &l.conns[i]
	if waits := l.unsent[i]; len(waits) > 0 {
		if len(waits)+len(b) > maxUnsent {
			return false
		}
		l.unsent[i] = append(waits, b...)
		return true
	}
	n, err := write(int(c.fd), b)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.lost(i, fmt.Sprintf("writing: %v", err))
		return true
	}
	if n = max(n, 0); n < len(b) {
		l.unsent[i] = append([]byte(nil), b[n:]...)
		l.check(i, l.control(unix.EPOLL_CTL_MOD, int(c.fd), i, c.gen, unix.EPOLLIN|unix.EPOLLOUT))
	}
	return true
}

// flush goes on with what a socket did not take.
func (l *loop) flush(i int32) {
	c := &l.conns[i]
	b := l.unsent[i]
	n, err := write(int(c.fd), b)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.lost(i, fmt.Sprintf("writing: %v", err))
		return
	}
	if b = b[max(n, 0):]; len(b) > 0 {
		l.unsent[i] = b
		return
	}
	delete(l.unsent, i)
	l.check(i, l.control(unix.EPOLL_CTL_MOD, int(c.fd), i, c.gen, unix.EPOLLIN))
}

func (l *loop) check(i int32, err error) {
	if err != nil {
		l.lost(i, err.Error())
	}
}

// lost ends a connection that should have lived on; while it was opening it is tried again.
func (l *loop) lost(i int32, why string) {
	if s := l.conns[i].state; s == connecting || s == upgrading {
		l.retry(i, why)
		return
	}
	if l.conns[i].state == resumed {
		l.out.Dropped++
		l.drop(i, "")
		return
	}
	l.out.Closed++
	l.drop(i, why)
}

func (l *loop) drop(i int32, why string) {
	if l.out.Reason == "" {
		l.out.Reason = why
	}
	c := &l.conns[i]
	_ = unix.Close(int(c.fd))
	c.state = closed
	delete(l.rest, i)
	delete(l.unsent, i)
	l.opened--
}

// headerEnd is where an answer's header ends.
var headerEnd = []byte("\r\n\r\n")

// maxAnswer bounds the answer to a handshake, in bytes.
const maxAnswer = 16 << 10

// upgrade reads the answer to the handshake and gives what follows it; nil when there is more to come, or none.
func (l *loop) upgrade(i int32, b []byte) []byte {
	end := bytes.Index(b, headerEnd)
	if end < 0 {
		if len(b) > maxAnswer {
			l.lost(i, "the answer to the handshake does not end")
		} else {
			l.keep(i, b)
		}
		return nil
	}
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) {
		line, _, _ := bytes.Cut(b, []byte("\r\n"))
		l.lost(i, fmt.Sprintf("the server refused: %.200q", bytes.TrimSpace(append(line, b[end+2:min(len(b), end+200)]...))))
		return nil
	}
	if !bytes.Contains(b[:end], l.dial.accept) {
		l.lost(i, "the answer to the handshake has a wrong Sec-WebSocket-Accept")
		return nil
	}
	l.joined(i)
	return b[end+len(headerEnd):]
}
