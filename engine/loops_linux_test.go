package engine

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"barrage/fanout"
)

// house is an engine of loops with net/http beside it, as a server has them.
type house struct {
	t     *testing.T
	loops *Loops
	addr  string
	peers chan *peer
	room  atomic.Int64 // of new peers, see recorder.room
	fresh func(*peer)  // called for each new peer, when set
}

// peer is the handler of an upgraded connection.
type peer struct {
	*recorder
	socket Socket
	out    *fanout.Outlet // when set, it is told what becomes of the socket
}

func (p *peer) Writable() {
	if p.out != nil {
		p.out.Writable()
		return
	}
	p.recorder.Writable()
}

func (p *peer) Closed(err error) {
	if p.out != nil {
		p.out.Close()
	}
	p.recorder.Closed(err)
}

const (
	greeting = "HTTP/1.1 101 Switching Protocols\r\n\r\n"
	refusal  = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
	knocking = "GET /up HTTP/1.1\r\nHost: h\r\nUpgrade: test\r\n\r\n"
	fetching = "GET /page HTTP/1.1\r\nHost: h\r\n\r\n"
)

func (h *house) Handles(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/up") }

func (h *house) Upgrade(r *http.Request) ([]byte, func(Socket) Handler) {
	if r.URL.Path == "/up/no" {
		return []byte(refusal), nil
	}
	return nil, h.open
}

func (h *house) open(s Socket) Handler {
	p := &peer{recorder: newRecorder(), socket: s}
	p.room.Store(h.room.Load())
	if h.fresh != nil {
		h.fresh(p)
	} else {
		_, _ = s.TryWrite([]byte(greeting))
	}
	h.peers <- p
	return p
}

// ServeHTTP upgrades what net/http was given, and answers everything else.
func (h *house) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.Handles(r) {
		_, _ = io.WriteString(w, "page")
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		h.t.Errorf("net/http lets a connection go: %v", err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	first := make([]byte, rw.Reader.Buffered())
	_, _ = rw.Read(first)
	h.loops.Serve(conn, first, h.open)
}

func build(t *testing.T, o LoopOptions, fresh func(*peer)) *house {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, addr: l.Addr().String(), peers: make(chan *peer, 10_000), fresh: fresh}
	h.room.Store(1 << 40)
	o.Upgrader = h
	if h.loops, err = NewLoops(l.(*net.TCPListener), o); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, MaxHeaderBytes: 8 << 10, ReadTimeout: patience}
	done := make(chan error, 1)
	go func() { done <- server.Serve(h.loops.HTTP()) }()
	t.Cleanup(func() {
		h.loops.Close()
		server.Close()
		<-done
	})
	return h
}

// call connects and sends.
func (h *house) call(text string) *net.TCPConn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	say(h.t, c, text)
	return c.(*net.TCPConn)
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("sending: %v", err)
	}
}

// hear reads exactly what is expected.
func hear(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("%q must come, not %q, %v", want, got[:n], err)
	}
}

// enter connects, is upgraded, and returns both ends.
func (h *house) enter(frames string) (*net.TCPConn, *peer) {
	h.t.Helper()
	c := h.call(knocking + frames)
	if h.fresh == nil {
		hear(h.t, c, greeting)
	}
	return c, h.peer()
}

func (h *house) peer() *peer {
	h.t.Helper()
	select {
	case p := <-h.peers:
		return p
	case <-time.After(patience):
		h.t.Fatal("a request for the upgrader opens a handler")
		return nil
	}
}

// barrier returns when an engine of one loop has seen everything that was sent before.
func (h *house) barrier() {
	h.t.Helper()
	c := h.call(strings.Replace(knocking, "/up", "/up/no", 1))
	hear(h.t, c, refusal)
	c.Close()
}

func fetch(t *testing.T, c net.Conn, br *bufio.Reader) {
	t.Helper()
	say(t, c, fetching)
	page(t, br)
}

func page(t *testing.T, br *bufio.Reader) {
	t.Helper()
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("what is not for the upgrader is answered by net/http: %v", err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "page" {
		t.Fatalf("net/http answers whole pages, not %q, %v", body, err)
	}
}

func TestARequestMayArriveInTwoParts(t *testing.T) {
	h := build(t, LoopOptions{Loops: 1}, nil)
	for _, head := range []string{knocking, strings.ReplaceAll(knocking, "\r\n", "\n")} {
		var calls []*net.TCPConn
		for i := range len(head) {
			calls = append(calls, h.call(head[:i]))
		}
		h.barrier()
		for i, c := range calls {
			say(t, c, head[i:]+"frames")
			hear(t, c, greeting)
			if got := h.peer().awaitBytes(t, 6); string(got) != "frames" {
				t.Fatalf("a request that is split at byte %d opens a handler that is given what follows it, not %q", i, got)
			}
			c.Close()
		}
	}
}

func TestHeadLength(t *testing.T) {
	for _, head := range []string{"a\r\n\r\n", "a\n\n", "a\r\nb\n\r\n", "a\nb\r\n\n", "\r\n\r\n", "\n\n", "\n\r\n", "a\r\r\n\r\n"} {
		for old := range len(head) + 1 {
			if old < len(head) && headLength([]byte(head[:old]), 0) != 0 {
				t.Errorf("%q is not a whole head", head[:old])
			}
			if n := headLength([]byte(head+"\n\nx"), min(old, len(head)-1)); n != len(head) {
				t.Errorf("the head of %q is %d bytes when %d were looked at before, not %d", head, len(head), old, n)
			}
		}
	}
}

func TestConnectionsThatNetHTTPKeepsUpgradeLater(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	long := strings.Repeat("f", 10_000)
	c := h.call("")
	br := bufio.NewReader(c)
	for range 3 {
		fetch(t, c, br)
	}
	say(t, c, knocking+long)
	hear(t, br, greeting)
	p := h.peer()
	if _, ok := p.socket.(*loopSocket); !ok {
		t.Errorf("a connection that net/http upgraded is served by a loop, not by %T", p.socket)
	}
	p.awaitBytes(t, len(long))

	// All at once: more than net/http reads at a time was read by the loop.
	c = h.call(fetching + fetching + knocking + long)
	br = bufio.NewReader(c)
	page(t, br)
	page(t, br)
	hear(t, br, greeting)
	p = h.peer()
	if _, ok := p.socket.(*loopSocket); !ok {
		t.Errorf("a connection with pipelined requests is served by a loop in the end, not by %T", p.socket)
	}
	say(t, c, "end")
	if got := p.awaitBytes(t, len(long)+3); string(got) != long+"end" {
		t.Error("what follows pipelined requests comes once and in order")
	}
}

// statusOf sends a request and returns the status of the answer, 0 when there is none.
func statusOf(t *testing.T, addr, request string) int {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	say(t, c, request)
	_ = c.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	return resp.StatusCode
}

func TestRequestsAreJudgedAsStrictlyAsByNetHTTP(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	for _, tt := range []struct {
		name, old, with string
		status          int
	}{
		{"an ordinary request", "", "", 101},
		{"line ends without CR", "\r\n", "\n", 101},
		{"two hosts", "Host: h", "Host: h\r\nHost: i", 400},
		{"no host", "Host: h\r\n", "", 400},
		{"an absolute URI without a host field", "/up HTTP/1.1\r\nHost: h", "http://h/up HTTP/1.1", 400},
		{"an absolute URI", "/up", "http://h/up", 101},
		{"a host that is none", "Host: h", "Host: h/x", 400},
		{"a space before a colon", "Upgrade:", "Upgrade :", 400},
		{"a name that is no token", "Upgrade:", "Up(grade:", 400},
		{"a control character", "test", "te\x01st", 400},
		{"HTTP/2", "HTTP/1.1", "HTTP/2.0", 505},
		{"the preface of HTTP/2", knocking, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 200},
		{"a length that is no number", "Upgrade", "Content-Length: x\r\nUpgrade", 400},
		{"two lengths", "Upgrade", "Content-Length: 1\r\nContent-Length: 2\r\nUpgrade", 400},
		{"an unknown transfer coding", "Upgrade", "Transfer-Encoding: gzip\r\nUpgrade", 501},
		{"an unknown expectation", "Upgrade", "Expect: x\r\nUpgrade", 417},
		{"no request", knocking, "\x16\x03\x01\r\n\r\n", 400},
		{"an empty line first", "GET", "\r\nGET", 400},
		{"a large head", "Upgrade", "X: " + strings.Repeat("x", 20<<10) + "\r\nUpgrade", 431},
		{"a head without an end", "\r\nUpgrade: test\r\n\r\n", "\r\nX: " + strings.Repeat("x", 30<<10), 431},
	} {
		request := knocking
		if tt.old != "" {
			request = strings.ReplaceAll(knocking, tt.old, tt.with)
		}
		if got := statusOf(t, h.addr, request); got != tt.status {
			t.Errorf("%s is answered with %d, as by net/http, not with %d", tt.name, tt.status, got)
		}
	}
}

func TestTheAnswerOfARefusalIsNotLost(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	c := h.call(strings.Replace(knocking, "/up", "/up/no", 1))
	say(t, c, strings.Repeat("more ", 20_000)) // which would be answered by a reset if nobody read it
	got, err := io.ReadAll(c)
	if string(got) != refusal || err != nil {
		t.Errorf("who is refused reads the answer and then the end, not %q, %v", got, err)
	}
}

func TestARequestHasADeadline(t *testing.T) {
	h := build(t, LoopOptions{Handshake: 30 * time.Millisecond, Options: Options{Tick: 100 * time.Millisecond}}, nil)
	silent, slow := h.call(""), h.call(knocking[:10])
	_, p := h.enter("")
	for _, c := range []net.Conn{silent, slow} {
		if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection whose request does not arrive in time is closed, not %d bytes, %v", n, err)
		}
	}
	if len(p.closed) > 0 {
		t.Error("the deadline of a request does not concern connections that are upgraded")
	}
}

func TestConnectionsWithoutARequestAreBounded(t *testing.T) {
	h := build(t, LoopOptions{Loops: 1, Waiting: 2, Handshake: time.Hour}, nil)
	oldest, second := h.call(""), h.call(knocking[:10])
	h.barrier() // is the third
	if n, err := oldest.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more than may wait ends the one that has waited longest, not %d bytes, %v", n, err)
	}
	say(t, second, knocking[10:])
	hear(t, second, greeting)
}

func TestASlowReaderOfALoop(t *testing.T) {
	writers := fanout.NewWriters(2)
	defer writers.Close()
	h := build(t, LoopOptions{Options: Options{SendBuffer: 8 << 10}}, func(p *peer) { p.out = fanout.NewOutlet(writers, p.socket, 4<<20) })
	sent := random(t, 2<<20)
	c, p := h.enter("")
	readSlowly(t, c, p.out, sent, writers)
}

// readSlowly sends through an outlet what a client reads more slowly.
func readSlowly(t *testing.T, c io.Reader, out *fanout.Outlet, sent []byte, writers *fanout.Writers) {
	t.Helper()
	go func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(100_000))
			if !out.Send(rest[:n]) {
				t.Error("an outlet below its limit takes frames")
			}
			rest = rest[n:]
		}
		out.End(nil)
	}()
	var got []byte
	for buf := make([]byte, 64<<10); ; {
		n, err := c.Read(buf[:1+rand.IntN(len(buf))])
		if got = append(got, buf[:n]...); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("after everything was sent the peer sees the end, not %v", err)
			}
			break
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("a slow reader is sent every byte once and in order: %d bytes were sent, %d came", len(sent), len(got))
	}
	if writers.Stats.Blocked.Load() == 0 {
		t.Error("a reader that is slower than its server fills the socket")
	}
}

func TestALoopPausesAndGoesOn(t *testing.T) {
	h := build(t, LoopOptions{Loops: 1}, nil)
	h.room.Store(1)
	c, p := h.enter("x")
	p.awaitBytes(t, 1)
	sent := random(t, 100_000)
	say(t, c, string(sent))
	h.barrier()
	if n := len(p.bytes()); n != 1 {
		t.Errorf("a connection that is paused is not read: it had 1 byte and has %d", n)
	}
	p.socket.Resume() // the handler has no room: it is asked, and reading stays paused
	eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.nudges == 1 }, "after Resume the handler is called without bytes first")
	h.barrier()
	p.room.Store(1 << 40)
	for range 1000 { // more often than needed
		p.socket.Resume()
	}
	p.socket.(*loopSocket).loop.mu.Lock()
	if n := len(p.socket.(*loopSocket).loop.mailbox); n > 2 {
		t.Errorf("a connection has one resume in its loop's mailbox, not %d", n)
	}
	p.socket.(*loopSocket).loop.mu.Unlock()
	if got := p.awaitBytes(t, 1+len(sent)); !bytes.Equal(got[1:], sent) {
		t.Error("what waited while reading was paused comes once and in order")
	}
}

// eager resumes within the Read that pauses.
type eager struct{ *peer }

func (e eager) Read(b []byte) bool {
	if len(b) == 0 {
		return e.peer.Read(b)
	}
	e.peer.Read(b)
	e.socket.Resume()
	return false
}

func TestResumeBeforePause(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	c := h.call(fetching)
	br := bufio.NewReader(c)
	page(t, br)
	server, client := tcpPair(t)
	defer client.Close()
	h.loops.Serve(server, []byte("1"), func(s Socket) Handler { return eager{h.open(s).(*peer)} })
	p := h.peer()
	hear(t, client, greeting)
	for i := range 20 {
		say(t, client, "2")
		p.awaitBytes(t, 2+i)
	}
}

func TestALoopEndsPausedConnections(t *testing.T) {
	reason := errors.New("the reason")
	for name, end := range map[string]struct {
		do   func(h *house, p *peer, c *net.TCPConn)
		want error
	}{
		"Abort":   {func(_ *house, p *peer, _ *net.TCPConn) { p.socket.Abort(reason); p.socket.Abort(io.ErrNoProgress) }, reason},
		"Close":   {func(h *house, _ *peer, _ *net.TCPConn) { h.loops.Close() }, net.ErrClosed},
		"Finish":  {func(_ *house, p *peer, _ *net.TCPConn) { p.socket.Finish() }, nil},
		"a reset": {func(_ *house, _ *peer, c *net.TCPConn) { _ = c.SetLinger(0); c.Close() }, unix.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, LoopOptions{Options: Options{Linger: 30 * time.Millisecond, Tick: 50 * time.Millisecond}}, nil)
			h.room.Store(0)
			c, p := h.enter("x")
			p.awaitBytes(t, 1)
			end.do(h, p, c)
			if err := p.awaitClosed(t); !errors.Is(err, end.want) {
				t.Errorf("%s ends a connection that is paused, with %v, not %v", name, end.want, err)
			}
		})
	}
}

func TestFinishOfALoopWaitsForThePeer(t *testing.T) {
	h := build(t, LoopOptions{Options: Options{Linger: patience}}, nil)
	c, p := h.enter("")
	_, _ = p.socket.TryWrite([]byte("bye"))
	p.socket.Finish()
	if got, err := io.ReadAll(c); string(got) != "bye" || err != nil {
		t.Errorf("the peer sees what was written and then the end of the stream, not %q, %v", got, err)
	}
	say(t, c, "still here")
	p.awaitBytes(t, 10)
	c.Close()
	if err := p.awaitClosed(t); err != nil {
		t.Errorf("a connection whose peer ends it after Finish ends without an error, not %v", err)
	}
}

func TestHowPeersOfALoopEnd(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	c, p := h.enter("")
	say(t, c, "last")
	_ = c.CloseWrite() // which may come with the last bytes
	if err := p.awaitClosed(t); err != nil || string(p.bytes()) != "last" {
		t.Errorf("a peer that ends its side ends the connection without an error, after its last bytes, not %v, %q", err, p.bytes())
	}
	c, p = h.enter("")
	_ = c.SetLinger(0)
	c.Close()
	if err := p.awaitClosed(t); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a connection that its peer reset is closed with the error, not %v", err)
	}
}

func TestAFullSocketOfALoopWhosePeerGoes(t *testing.T) {
	h := build(t, LoopOptions{Options: Options{SendBuffer: 8 << 10}}, nil)
	c, p := h.enter("")
	block := make([]byte, 1<<20)
	eventually(t, func() bool { n, err := p.socket.TryWrite(block); return n < len(block) && err == nil }, "a peer that does not read fills the socket")
	p.socket.ArmWrite()
	c.Close()
	select {
	case <-p.writable:
	case <-time.After(patience):
		t.Error("Writable is called when the connection breaks, so that the next write finds out")
	}
	p.awaitClosed(t)
}

func TestTicksOfALoopAreSpread(t *testing.T) {
	const conns, tick = 100, 250 * time.Millisecond
	h := build(t, LoopOptions{Options: Options{Tick: tick}}, nil)
	for range conns {
		_, p := h.enter("")
		defer eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.ticks) >= 2 }, "every connection is ticked again and again")
	}
	for _, l := range h.loops.loops {
		counts := make(chan [wheelSlots]int)
		l.post(func() {
			var n [wheelSlots]int
			for i, slot := range l.wheel {
				n[i] = len(slot)
			}
			counts <- n
		})
		for slot, n := range <-counts {
			if n > conns/slotsPerTick {
				t.Errorf("ticks are spread over the time between them: %d of %d connections are in slot %d", n, conns, slot)
			}
		}
	}
}

func TestLoopsAfterClose(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	_, p := h.enter("")
	h.loops.Close()
	if !errors.Is(p.awaitClosed(t), net.ErrClosed) {
		t.Error("a connection that the engine closes ends with net.ErrClosed")
	}
	server, client := tcpPair(t)
	defer client.Close()
	h.loops.Serve(server, []byte("first"), h.open)
	p = h.peer()
	if err := p.awaitClosed(t); !errors.Is(err, net.ErrClosed) || len(p.bytes()) > 0 {
		t.Errorf("a connection that is given to a closed engine is closed with net.ErrClosed, not %v", err)
	}
	_ = client.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(client); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the peer of a connection that is given to a closed engine sees its end")
	}
	p.socket.Resume()
	p.socket.Finish()
	p.socket.Abort(nil)
	h.loops.StopAccepting()
}

func TestStopAccepting(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	c, p := h.enter("")
	h.loops.StopAccepting()
	if late, err := net.Dial("tcp", h.addr); err == nil {
		late.Close()
		t.Error("after StopAccepting nobody can connect")
	}
	say(t, c, "still served")
	p.awaitBytes(t, 12)
	if n := h.loops.failures.Load(); n != 0 {
		t.Errorf("a listener that is closed is no failure to accept, of which there were %d", n)
	}
}

// Net/http may end before the loops do.
func TestConnectionsThatNobodyAcceptsAreClosed(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	h.loops.HTTP().Close()
	c := h.call(fetching)
	if got, err := io.ReadAll(c); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("when net/http has ended its connections are closed, not %q, %v", got, err)
	}
}

func TestGenerationsWrapAround(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	for _, start := range []uint32{1<<31 - 3, 1<<32 - 3} {
		h.loops.generation.Store(start)
		for range 6 {
			c, p := h.enter("frames")
			p.awaitBytes(t, 6)
			c.Close()
			p.awaitClosed(t)
		}
	}
}

// fill opens descriptors until there are no more.
func fill(t *testing.T) (undo func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	top, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: uint64(top) + 20, Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	taken := []int{top}
	for fd, err := unix.Dup(0); err == nil; fd, err = unix.Dup(0) {
		taken = append(taken, fd)
	}
	return sync.OnceFunc(func() {
		for _, fd := range taken {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
}

func TestWithoutDescriptorsConnectionsWait(t *testing.T) {
	h := build(t, LoopOptions{Options: Options{Tick: 500 * time.Millisecond}}, nil)
	addr := h.loops.listener.Addr().(*net.TCPAddr).AddrPort()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	undo := fill(t)
	defer undo()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte(knocking)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return h.loops.failures.Load() > 0 }, "that no connection can be accepted is counted")
	time.Sleep(50 * time.Millisecond) // nothing happens, which cannot be waited for
	if n := h.loops.failures.Load(); n > 50 {
		t.Errorf("accepting is tried again now and then, not %d times", n)
	}
	undo()
	p := h.peer()
	unix.Close(fd)
	p.awaitClosed(t)
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// guest is a client of the stress test: it does something at random, over and over.
func (h *house) guest(rnd *rand.Rand, until time.Time) {
	for time.Now().Before(until) {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			continue // the engine may have been closed
		}
		_ = c.SetDeadline(time.Now().Add(time.Second))
		text := knocking + "hello"
		if rnd.IntN(8) == 0 {
			text = fetching + text
		}
		n := len(text)
		if rnd.IntN(8) == 0 {
			n = rnd.IntN(n)
		}
		_, _ = io.WriteString(c, text[:n])
		buf := make([]byte, 4096)
		for range rnd.IntN(5) {
			if k, err := c.Read(buf); err != nil || bytes.ContainsFunc(buf[:k], func(r rune) bool { return r == '!' }) {
				if err == nil {
					h.t.Error("a connection is not sent what was meant for another")
				}
				break
			}
		}
		if rnd.IntN(2) == 0 {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
	}
}

// Descriptors are used again at once while writers write, armed or not, and connections are ended from all sides.
func TestLoopsUnderStress(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	before := openFiles(t)
	writers := fanout.NewWriters(2)
	var opened, closed atomic.Int64
	t.Run("guests", func(t *testing.T) {
		h := build(t, LoopOptions{Waiting: 64, Options: Options{SendBuffer: 4 << 10, Linger: 20 * time.Millisecond, Tick: 50 * time.Millisecond}},
			func(p *peer) {
				opened.Add(1)
				p.out = fanout.NewOutlet(writers, p.socket, 1<<20)
				p.out.Send([]byte(greeting))
			})
		until := time.Now().Add(700 * time.Millisecond)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { h.guest(rand.New(rand.NewPCG(seed, uint64(i))), until) })
		}
		var hosts sync.WaitGroup
		hosts.Go(func() { h.host(rand.New(rand.NewPCG(seed, 100)), &closed) })
		time.Sleep(time.Until(until) - 50*time.Millisecond)
		h.loops.Close() // while everything goes on
		wg.Wait()
		close(h.peers)
		hosts.Wait()
	})
	writers.Close()
	if opened.Load() == 0 || opened.Load() != closed.Load() {
		t.Errorf("every handler that was opened is closed once: %d and %d", opened.Load(), closed.Load())
	}
	t.Logf("%d connections", opened.Load())
	eventually(t, func() bool { return openFiles(t) <= before }, "an engine that was closed leaves no descriptor behind")
}

// host writes to all peers and ends some, until there are no more.
func (h *house) host(rnd *rand.Rand, closed *atomic.Int64) {
	var all []*peer
	block := bytes.Repeat([]byte("x"), 20_000)
	for more := true; more || len(all) > 0; {
		select {
		case p, ok := <-h.peers:
			if more = ok; ok {
				all = append(all, p)
			}
		default:
		}
		all = slices.DeleteFunc(all, func(p *peer) bool {
			if len(p.closed) == 0 {
				return false
			}
			closed.Add(int64(len(p.closed)))
			if p.out.Send([]byte("!")) {
				h.t.Error("nothing can be sent to a connection that has ended")
			}
			return true
		})
		if len(all) == 0 {
			time.Sleep(time.Millisecond)
			continue
		}
		p := all[rnd.IntN(len(all))]
		switch rnd.IntN(20) {
		case 0:
			p.socket.Abort(errors.New("a reason"))
		case 1:
			p.out.End([]byte("end"))
		case 2:
			p.socket.Resume()
		default:
			p.out.Send(block[:rnd.IntN(len(block))])
		}
	}
}
