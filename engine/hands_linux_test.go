package engine

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"barrage/fanout"
)

// handled is a handler that notices when it is not called as promised.
type handled struct {
	t       *testing.T
	out     *fanout.Outlet
	socket  Socket
	reading atomic.Int32 // calls of Read and Closed under way
	closed  atomic.Int32
	calls   atomic.Uint32
}

func (h *handled) Read([]byte) (more bool) {
	if h.reading.Add(1) != 1 {
		h.t.Error("Read and Closed are called one after the other")
	}
	defer h.reading.Add(-1)
	if h.closed.Load() != 0 {
		h.t.Error("nothing is read after Closed")
	}
	return h.calls.Add(1)%3 != 0
}

func (h *handled) Tick(time.Time) time.Duration { return 0 }

func (h *handled) Writable() { h.out.Writable() }

func (h *handled) Closed(error) {
	if h.reading.Add(1) != 1 {
		h.t.Error("Read and Closed are called one after the other")
	}
	defer h.reading.Add(-1)
	h.out.Close()
	if h.closed.Add(1) != 1 {
		h.t.Error("Closed is called once")
	}
}

// crowd are the handlers that were made so far.
type crowd struct {
	t       *testing.T
	writers *fanout.Writers
	served  atomic.Int64 // calls of Serve

	mu  sync.Mutex
	all []*handled // owner: mu
}

func (c *crowd) open(s Socket) Handler {
	h := &handled{t: c.t, socket: s, out: fanout.NewOutlet(c.writers, s, 0)}
	h.out.Send([]byte("hello"))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, h)
	return h
}

func (c *crowd) any(rnd *rand.Rand) *handled {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 0 {
		return nil
	}
	if last := len(c.all); rnd.IntN(2) == 0 { // mostly the new ones: the others have ended
		return c.all[max(0, last-10)+rnd.IntN(min(last, 10))]
	}
	return c.all[rnd.IntN(len(c.all))]
}

// serve gives the engine connections, whose peers behave in any way.
func (c *crowd) serve(e Engine, l net.Listener, rnd *rand.Rand, until time.Time) {
	block := make([]byte, 10_000)
	for time.Now().Before(until) {
		peer, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			c.t.Errorf("dialing: %v", err)
			return
		}
		conn, err := l.Accept()
		if err != nil {
			c.t.Errorf("accepting: %v", err)
			return
		}
		c.served.Add(1)
		e.Serve(conn, block[:rnd.IntN(10)], c.open)
		_ = peer.SetDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = peer.Write(block[:rnd.IntN(len(block))]) // the other end may have gone
		switch rnd.IntN(4) {
		case 0:
			_, _ = io.Copy(io.Discard, peer)
		case 1:
			_ = peer.(*net.TCPConn).SetLinger(0)
		case 2:
			_ = peer.(*net.TCPConn).CloseWrite()
			_, _ = peer.Read(block[:100])
		}
		peer.Close()
	}
}

// meddle calls everything that any goroutine may call.
func (c *crowd) meddle(rnd *rand.Rand, until time.Time) {
	block := make([]byte, 30_000)
	for time.Now().Before(until) {
		h := c.any(rnd)
		if h == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		switch rnd.IntN(12) {
		case 0:
			h.socket.Abort(errors.New("a reason"))
		case 1:
			h.out.End([]byte("end"))
		case 2, 3, 4:
			h.out.Send(block[:rnd.IntN(len(block))])
		default:
			h.socket.Resume()
		}
	}
}

// Serve, Resume, Abort, Finish and writes come from many goroutines at a time, and so does Close in the end.
func TestManyHands(t *testing.T) {
	for name, start := range map[string]func(*testing.T, Options) Engine{
		"portable": func(_ *testing.T, o Options) Engine { return NewPortable(o) },
		"loops":    func(t *testing.T, o Options) Engine { return build(t, LoopOptions{Options: o, Loops: 2}, nil).loops },
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			c := &crowd{t: t, writers: fanout.NewWriters(2)}
			defer c.writers.Close()
			e := start(t, Options{Tick: 50 * time.Millisecond, Linger: 20 * time.Millisecond, SendBuffer: 4 << 10})
			until := time.Now().Add(400 * time.Millisecond)
			var wg sync.WaitGroup
			for i := range 4 {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				wg.Go(func() { c.serve(e, l, rand.New(rand.NewPCG(seed, uint64(i))), until) })
				wg.Go(func() { c.meddle(rand.New(rand.NewPCG(seed, uint64(100+i))), until) })
			}
			time.Sleep(time.Until(until) - 50*time.Millisecond)
			for range 2 {
				wg.Go(e.Close) // while everything goes on
			}
			wg.Wait()
			if int64(len(c.all)) != c.served.Load() {
				t.Errorf("each connection that is served has a handler: %d of %d", len(c.all), c.served.Load())
			}
			for _, h := range c.all {
				if n := h.closed.Load(); n != 1 {
					t.Errorf("when an engine is closed every handler has been told once, not %d times", n)
				}
			}
			t.Logf("%d connections", len(c.all))
		})
	}
}
