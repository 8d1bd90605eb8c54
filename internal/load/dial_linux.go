package load

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"barrage/ws"
)

// dialer is the state of opening connections.
type dialer struct {
	targets []netip.AddrPort
	key     string
	accept  []byte

	next    int32   // the next connection that was not tried yet
	again   []int32 // those to try again
	under   int     // attempts under way
	begun   int     // attempts so far
	resume  int64   // no new attempt before this moment
	failed  int     // attempts that failed
	why     string  // the first failure
	sources int     // how many local addresses ran out of ports
	opened
}

// perSource is how many connections to one server come from one loopback address: fewer than its ports.
const perSource = 20_000

func newDialer(job *Job) (dialer, error) {
	d := dialer{key: "YmFycmFnZS1iZW5jaC4uLg=="}
	d.accept = []byte(ws.AcceptKey(d.key))
	for _, t := range job.Targets {
		a, err := netip.ParseAddrPort(t.Address)
		if err != nil {
			return dialer{}, err
		}
		d.targets = append(d.targets, a)
	}
	return d, nil
}

// begin starts as many attempts as may be under way.
func (l *loop) begin() error {
	d := &l.dial
	if l.clock.now() < d.resume {
		return nil
	}
	for d.under < l.job.Opening && d.mayBegin(l.job.Rate, l.clock.now()) {
		var i int32
		switch last := len(d.again) - 1; {
		case last >= 0:
			i, d.again = d.again[last], d.again[:last]
		case int(d.next) < len(l.conns):
			i, d.next = d.next, d.next+1
		default:
			return nil
		}
		if err := l.connect(i); err != nil {
			return err
		}
		if l.clock.now() < d.resume {
			return nil
		}
	}
	return nil
}

// mayBegin says whether the rate allows one more attempt.
func (d *dialer) mayBegin(rate float64, now int64) bool {
	return rate <= 0 || float64(d.begun) < rate*time.Duration(now-d.First).Seconds()
}

// connect begins an attempt. The error is of this process; what the network says is a failed attempt.
func (l *loop) connect(i int32) error {
	d, c := &l.dial, &l.conns[i]
	to := d.targets[l.job.target(int(i))]
	domain := unix.AF_INET
	if to.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	*c = conn{fd: int32(fd), gen: c.gen + 1, state: connecting, began: l.clock.now()}
	d.under++
	d.begun++
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if l.job.stalled(int(i)) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, stalledBuffer)
	}
	l.bind(fd, i, to.Addr())
	err = unix.Connect(fd, sockaddr(to))
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		d.sources++
		l.retry(i, "the local ports ran out")
	case err != nil && !errors.Is(err, unix.EINPROGRESS):
		l.retry(i, fmt.Sprintf("connecting to %s: %v", to, err))
	default:
		if err := l.control(unix.EPOLL_CTL_ADD, fd, i, c.gen, unix.EPOLLOUT); err != nil {
			l.retry(i, err.Error())
		}
	}
	return nil
}

// stalledBuffer is what the system may keep for a connection that does not read, in bytes: little, so that the server notices.
const stalledBuffer = 4 << 10

// bind gives a connection to a loopback address a source address of its own where one has too few ports: 127.0.0.2 and so on.
func (l *loop) bind(fd int, i int32, to netip.Addr) {
	block := (l.job.First+int(i))/len(l.dial.targets)/perSource + l.dial.sources
	if block == 0 || !to.Is4() || !to.IsLoopback() {
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	_ = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + block%250)}})
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// finishConnect sends the handshake once the connection stands.
func (l *loop) finishConnect(i int32) {
	c := &l.conns[i]
	if code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		l.retry(i, fmt.Sprintf("connecting: %v", unix.Errno(code)))
		return
	}
	c.state = upgrading
	l.check(i, l.control(unix.EPOLL_CTL_MOD, int(c.fd), i, c.gen, unix.EPOLLIN))
	if c.state == upgrading {
		l.write(i, l.job.request(int(i), l.dial.key))
	}
}

// retryAfter is how long a failed attempt keeps this worker from beginning others.
const retryAfter = 20 * time.Millisecond

// retry ends an attempt, to be made again.
func (l *loop) retry(i int32, why string) {
	d, c := &l.dial, &l.conns[i]
	_ = unix.Close(int(c.fd))
	c.state = waiting
	delete(l.rest, i)
	delete(l.unsent, i)
	d.under--
	d.failed++
	d.why = cmp.Or(d.why, why)
	d.again = append(d.again, i)
	d.resume = l.clock.now() + int64(retryAfter)
}

// joined notes that a connection is open.
func (l *loop) joined(i int32) {
	d, c := &l.dial, &l.conns[i]
	c.state = open
	delete(l.rest, i)
	l.opened++
	d.under--
	d.Last = l.now
	d.Took.Add(time.Duration(l.now - c.began))
	if l.job.Hello != "" {
		l.write(i, ws.AppendMaskedFrame(nil, ws.OpText, mask, []byte(l.job.fill(l.job.Hello, int(i)))))
	}
	if l.job.stalled(int(i)) && c.state == open {
		c.state = stalledOpen
		l.out.Stalled++
		l.check(i, l.control(unix.EPOLL_CTL_MOD, int(c.fd), i, c.gen, unix.EPOLLRDHUP))
	}
}
