package engine

import (
	"container/list"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// TLSStats counts handshakes of TLS.
type TLSStats struct {
	Handshakes atomic.Int64 // completed
	Failed     atomic.Int64 // failed, or not completed in time
	Crowded    atomic.Int64 // cut because too many others waited for theirs
}

const (
	// maxHandshakes is how many handshakes are under way at once, each with a goroutine and some 20 KB. Further connections
	// wait in the kernel; see handshakePatience.
	maxHandshakes = 1024
	// handshakePatience is what each handshake may take when that many are under way. Afterwards the oldest makes room,
	// so that clients who are silent cannot keep others out.
	handshakePatience = time.Second
)

// handshakes accepts connections and does the handshakes of TLS, each in a goroutine for as long as it takes.
type handshakes struct {
	listener net.Listener
	config   *tls.Config
	limit    time.Duration // for each handshake
	most     int           // under way at once
	stats    *TLSStats
	log      *slog.Logger
	under    func(*turned) net.Conn // makes what TLS runs over
	turns    chan struct{}          // as many tokens as handshakes may compute at once
	// ready takes a connection whose handshake is complete. It may block until closed is closed.
	ready  func(c *tls.Conn)
	closed chan struct{}
	room   chan struct{} // one token: a handshake has ended
	wg     sync.WaitGroup

	mu    sync.Mutex
	way   list.List // owner: mu; of *handshake, the oldest first
	ended bool      // owner: mu
}

// handshake is one that is under way.
type handshake struct {
	conn  net.Conn
	began time.Time
	place *list.Element // owner: handshakes.mu; nil when it is not in the list any more
}

// newHandshakes starts nothing; run does.
func newHandshakes(l net.Listener, o LoopOptions, under func(*turned) net.Conn, ready func(*tls.Conn)) *handshakes {
	h := &handshakes{
		listener: l, config: o.TLS, limit: o.Handshake, most: maxHandshakes, stats: o.TLSStats, log: o.Log,
		under: under, ready: ready, closed: make(chan struct{}), room: make(chan struct{}, 1),
		turns: make(chan struct{}, max(runtime.GOMAXPROCS(0)-1, 1)),
	}
	if h.limit <= 0 {
		h.limit = 10 * time.Second
	}
	if h.stats == nil {
		h.stats = new(TLSStats)
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

// start accepts until close.
func (h *handshakes) start() { h.wg.Go(h.run) }

func (h *handshakes) run() {
	var pause time.Duration
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			h.log.Error("connections cannot be accepted", "error", err)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if !h.wait(pause) {
				return
			}
			continue
		}
		pause = 0
		s := h.admit(conn)
		if s == nil {
			conn.Close()
			return
		}
		h.wg.Go(func() { h.shake(s) })
	}
}

// wait returns when the time is over or there is room; false when there is no more to wait for.
func (h *handshakes) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-h.closed:
		return false
	case <-h.room:
	case <-t.C:
	}
	return true
}

// admit puts a connection into the list once there is room. It returns nil when h is closed.
func (h *handshakes) admit(conn net.Conn) *handshake {
	for {
		s, left := h.try(conn)
		if s != nil {
			return s
		}
		if !h.wait(left) {
			return nil
		}
	}
}

// try is admit without waiting: left is when to try again at the latest.
func (h *handshakes) try(conn net.Conn) (s *handshake, left time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil, time.Hour // closed is about to be
	}
	now := time.Now()
	if h.way.Len() >= h.most {
		oldest := h.way.Front().Value.(*handshake)
		if left := min(handshakePatience, h.limit) - now.Sub(oldest.began); left > 0 {
			return nil, left
		}
		h.stats.Crowded.Add(1)
		h.drop(oldest)
		oldest.conn.Close()
	}
	s = &handshake{conn: conn, began: now}
	s.place = h.way.PushBack(s)
	return s, 0
}

// drop takes s out of the list, if it is there, with the lock held.
func (h *handshakes) drop(s *handshake) {
	if s.place == nil {
		return
	}
	h.way.Remove(s.place)
	s.place = nil
	select {
	case h.room <- struct{}{}:
	default:
	}
}

func (h *handshakes) shake(s *handshake) {
	// A connection that cannot take a deadline has ended.
	_ = s.conn.SetDeadline(s.began.Add(h.limit))
	turn := &turned{Conn: s.conn, turns: h.turns}
	c := tls.Server(h.under(turn), h.config)
	err := c.Handshake()
	turn.end()
	h.mu.Lock()
	cut := s.place == nil
	h.drop(s) // who is served is not to be cut any more
	h.mu.Unlock()
	if err == nil && !cut {
		_ = s.conn.SetDeadline(time.Time{})
		h.stats.Handshakes.Add(1)
		h.ready(c)
		return
	}
	if err != nil && !cut {
		h.stats.Failed.Add(1)
		h.log.Debug("a TLS handshake failed", "address", s.conn.RemoteAddr(), "error", err)
		answerHTTP(s.conn, err)
	}
	s.conn.Close()
}

// turned is a connection whose handshake computes only when it is its turn, which it is not while it waits for its peer:
// thousands of handshakes that come at once, half a millisecond each, would otherwise all stand before those who serve the
// connections that are there. It is owned by the goroutine of its handshake until end.
type turned struct {
	net.Conn
	turns chan struct{} // nil after the handshake
	mine  bool
}

// Read implements net.Conn.
func (t *turned) Read(b []byte) (int, error) {
	t.release()
	defer t.take()
	return t.Conn.Read(b)
}

// Write implements net.Conn.
func (t *turned) Write(b []byte) (int, error) {
	t.release()
	defer t.take()
	return t.Conn.Write(b)
}

// NetConn is what is below.
func (t *turned) NetConn() net.Conn { return t.Conn }

func (t *turned) take() {
	if t.turns != nil {
		t.turns <- struct{}{}
		t.mine = true
	}
}

func (t *turned) release() {
	if t.mine {
		<-t.turns
		t.mine = false
	}
}

func (t *turned) end() {
	t.release()
	t.turns = nil
}

// plainHTTP is the answer to a request without TLS, in the words of net/http.
const plainHTTP = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

// maxRest is how many bytes of such a request are read, so that the answer is not lost to a reset.
const maxRest = 64 << 10

// answerHTTP tells a client whose handshake failed because it speaks HTTP without TLS. Its deadline is set.
func answerHTTP(conn net.Conn, err error) {
	e, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok {
		return
	}
	switch string(e.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
	default:
		return
	}
	if _, err := io.WriteString(conn, plainHTTP); err != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, maxRest)
	}
}

// close ends the listener and the handshakes under way, and waits for their goroutines. It may be called again.
func (h *handshakes) close() error {
	h.mu.Lock()
	if !h.ended {
		h.ended = true
		close(h.closed)
		for e := h.way.Front(); e != nil; e = e.Next() {
			e.Value.(*handshake).conn.Close()
		}
	}
	h.mu.Unlock()
	err := h.listener.Close()
	h.wg.Wait()
	return err
}

// tlsListener gives out connections whose handshake is complete.
type tlsListener struct {
	*handshakes
	conns chan net.Conn
}

// overTLS is l itself without TLS.
func overTLS(l net.Listener, o LoopOptions) net.Listener {
	if o.TLS == nil {
		return l
	}
	t := &tlsListener{conns: make(chan net.Conn)}
	t.handshakes = newHandshakes(l, o, func(c *turned) net.Conn { return c }, t.deliver)
	t.start()
	return t
}

func (t *tlsListener) deliver(c *tls.Conn) {
	select {
	case t.conns <- c:
	case <-t.closed:
		c.NetConn().Close()
	}
}

// Accept implements net.Listener.
func (t *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Handshakes under way are cut.
func (t *tlsListener) Close() error { return t.close() }

// Addr implements net.Listener.
func (t *tlsListener) Addr() net.Addr { return t.listener.Addr() }
