package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// audienceCommand is the first argument of a process of the audience; address, channel and number of subscribers follow.
const audienceCommand = "audience"

// finishLimit is how long the audience waits for the last messages.
const finishLimit = 30 * time.Second

// connectors is how many connections are opened at once; the others wait for their turn.
const connectors = 48

// audience is many subscribers in one process: one loop over epoll owns them and reads into one buffer, so that a
// subscriber costs no goroutine and no buffer of its own.
type audience struct {
	addr, channel string
	members       []*member
	poll          int           // epoll
	wake          int           // eventfd: something is in joined
	todo          chan *member  // to be connected; has room for all
	joined        chan *arrival // connected; has room for all
	found         findings
	connected     int
	buffer        []byte
}

// arrival is a connection that was opened, with the bytes that came behind the handshake.
type arrival struct {
	member *member
	fd     int
	rest   []byte
}

func runAudience(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: " + audienceCommand + " ADDRESS CHANNEL COUNT")
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	debug.SetGCPercent(400) // almost everything lives for ever
	a := &audience{
		addr: args[0], channel: args[1], buffer: make([]byte, 256<<10),
		todo: make(chan *member, count), joined: make(chan *arrival, count),
		found: findings{Nodes: map[string]int{}},
	}
	if a.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if a.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	if err := a.watch(a.wake, -1); err != nil {
		return err
	}
	for range count {
		m := &member{fd: -1, next: 1, state: &a.found}
		a.members = append(a.members, m)
		a.todo <- m
	}
	for range connectors {
		go a.connect()
	}
	return a.loop(headFromInput())
}

// headFromInput returns a channel that is given the one number on standard input, the last offset. It is closed when the
// input ends.
func headFromInput() <-chan uint64 {
	head := make(chan uint64, 1)
	go func() {
		defer close(head)
		lines := bufio.NewScanner(os.Stdin)
		if lines.Scan() {
			n, _ := strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64)
			head <- n
		}
	}()
	return head
}

// watch adds a descriptor to epoll; index is its member's, -1 for the eventfd.
func (a *audience) watch(fd, index int) error {
	return unix.EpollCtl(a.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)})
}

// loop reads until the last offset is known and everybody has seen it, or the time for that is over.
func (a *audience) loop(heads <-chan uint64) error {
	index := make(map[*member]int, len(a.members))
	for i, m := range a.members {
		index[m] = i
	}
	events := make([]unix.EpollEvent, 512)
	var head uint64
	var deadline time.Time // of the end; zero before the head is known
	report := json.NewEncoder(os.Stdout)
	for due := time.Now(); ; {
		n, err := unix.EpollWait(a.poll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd < 0 {
				a.take(index)
			} else {
				a.readable(a.members[e.Fd])
			}
		}
		if time.Now().After(due) {
			due = time.Now().Add(500 * time.Millisecond)
			if err := report.Encode(progress{Connected: a.connected, Deliveries: a.found.Deliveries, Reconnects: a.found.Reconnects}); err != nil {
				return err
			}
			if !deadline.IsZero() && (a.complete(head) || time.Now().After(deadline)) {
				return report.Encode(a.final(head))
			}
		}
		if deadline.IsZero() {
			select {
			case h, ok := <-heads:
				if !ok {
					return errors.New("the input ended: whoever started this process is gone")
				}
				head, deadline = h, time.Now().Add(finishLimit)
			default:
			}
		}
	}
}

func (a *audience) complete(head uint64) bool {
	for _, m := range a.members {
		if m.next <= head {
			return false
		}
	}
	return true
}

func (a *audience) final(head uint64) progress {
	for _, m := range a.members {
		a.found.Lost += m.missed(head)
	}
	return progress{Connected: a.connected, Deliveries: a.found.Deliveries, Final: &a.found}
}

// take adopts the connections that were opened.
func (a *audience) take(index map[*member]int) {
	var count [8]byte
	unix.Read(a.wake, count[:])
	for {
		select {
		case j := <-a.joined:
			m := j.member
			m.fd, m.left = j.fd, m.left[:0]
			a.connected++
			if err := a.watch(m.fd, index[m]); err != nil {
				a.lose(m)
				continue
			}
			if err := m.feed(j.rest, time.Now(), m.pong); err != nil {
				a.lose(m)
			}
		default:
			return
		}
	}
}

// readable reads once; epoll says again when there is more.
func (a *audience) readable(m *member) {
	if m.fd < 0 {
		return // lost earlier in this round
	}
	n, err := unix.Read(m.fd, a.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return
	case err != nil || n == 0:
		a.lose(m)
		return
	}
	a.found.Bytes += uint64(n)
	if err := m.feed(a.buffer[:n], time.Now(), m.pong); err != nil {
		if errors.Is(err, errFrame) {
			a.found.Errors++
		}
		a.lose(m)
	}
}

// lose ends a connection and queues its member to be connected again.
func (a *audience) lose(m *member) {
	unix.Close(m.fd) // epoll forgets it
	m.fd = -1
	a.connected--
	m.lost = time.Now()
	a.todo <- m
}

// pong answers a ping, with a mask of zeros. One that does not fit into the socket is left out.
func (m *member) pong(payload []byte) {
	frame := append([]byte{0x8a, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
	unix.Write(m.fd, frame)
}

// connect opens connections for members in todo, one after the other, each until it succeeds.
func (a *audience) connect() {
	for m := range a.todo {
		if !m.lost.IsZero() {
			time.Sleep(rand.N(50 * time.Millisecond)) // many come back at once
		}
		for {
			j, err := a.open(m)
			if err == nil {
				a.joined <- j
				unix.Write(a.wake, binary.NativeEndian.AppendUint64(nil, 1))
				break
			}
			time.Sleep(50*time.Millisecond + rand.N(200*time.Millisecond))
		}
	}
}

// open connects and does the handshake, from the place that the member has reached.
func (a *audience) open(m *member) (*arrival, error) {
	conn, err := net.DialTimeout("tcp", a.addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	query := fmt.Sprintf("since=%d", m.next-1)
	if m.epoch != "" {
		query += "&epoch=" + url.QueryEscape(m.epoch)
	}
	fmt.Fprintf(conn, "GET /ws/%s?%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", url.PathEscape(a.channel), query, a.addr)
	buffer := make([]byte, 0, 2048)
	for {
		n, err := conn.Read(buffer[len(buffer):cap(buffer)])
		if err != nil {
			return nil, err
		}
		buffer = buffer[:len(buffer)+n]
		if end := bytes.Index(buffer, []byte("\r\n\r\n")); end >= 0 {
			if !bytes.HasPrefix(buffer, []byte("HTTP/1.1 101 ")) {
				return nil, fmt.Errorf("refused: %.60s", buffer)
			}
			fd, err := detach(conn.(*net.TCPConn))
			return &arrival{member: m, fd: fd, rest: buffer[end+4:]}, err
		}
		if len(buffer) == cap(buffer) {
			return nil, errors.New("the answer is too long")
		}
	}
}

// detach returns a descriptor of the connection that outlives conn; it does not block.
func detach(conn *net.TCPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	err = raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, dupErr)
}
