package engine

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// recorder is a Handler that keeps what it is given.
type recorder struct {
	conn *Conn
	// room, when positive, is how many bytes are taken until reading pauses.
	room atomic.Int64

	mu     sync.Mutex
	got    []byte
	nudges int // reads without bytes
	ticks  []time.Time
	over   bool // Closed was called

	writable chan struct{}
	closed   chan error
}

func newRecorder() *recorder {
	r := &recorder{writable: make(chan struct{}, 100), closed: make(chan error, 2)}
	r.room.Store(1 << 40)
	return r
}

func (r *recorder) with(s Socket) Handler { r.conn = s.(*Conn); return r }

func (r *recorder) Read(b []byte) bool {
	room := r.room.Add(-int64(len(b))) > 0 // before the bytes can be seen, upon which a test may make room
	r.mu.Lock()
	r.got = append(r.got, b...)
	if len(b) == 0 {
		r.nudges++
	}
	r.mu.Unlock()
	clear(b) // it may be changed
	return room
}

func (r *recorder) Tick(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ticks = append(r.ticks, now)
	return 0
}

func (r *recorder) Writable() { r.writable <- struct{}{} }

func (r *recorder) Closed(err error) {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.closed <- err
}

func (r *recorder) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.got)
}

func (r *recorder) awaitClosed(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.closed:
		return err
	case <-time.After(patience):
		t.Fatal("the connection must end")
		return nil
	}
}

func (r *recorder) awaitBytes(t *testing.T, n int) []byte {
	t.Helper()
	eventually(t, func() bool { return len(r.bytes()) >= n }, "the handler must be given what the peer sent")
	return r.bytes()
}

func eventually(t *testing.T, holds func() bool, sentence string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(sentence)
		}
	}
}

// kinds are the connections that an engine is to serve, as pairs of the server's and the client's end.
var kinds = map[string]func(t *testing.T) (server, client net.Conn){
	"tcp":  tcpPair,
	"unix": unixPair,
	"pipe": func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() },
	"tls":  func(t *testing.T) (net.Conn, net.Conn) { return tlsPair(t, tcpPair) },
	"tls over a pipe": func(t *testing.T) (net.Conn, net.Conn) {
		return tlsPair(t, func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() })
	},
}

// each runs a test with every kind of connection.
func each(t *testing.T, test func(t *testing.T, server, client net.Conn)) {
	for name, pair := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, client := pair(t)
			t.Cleanup(func() { server.Close(); client.Close() })
			test(t, server, client)
		})
	}
}

func tcpPair(t *testing.T) (server, client net.Conn) { return dialed(t, "tcp", "127.0.0.1:0") }

func unixPair(t *testing.T) (server, client net.Conn) {
	return dialed(t, "unix", t.TempDir()+"/s")
}

func dialed(t *testing.T, network, addr string) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return server, client
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func tlsPair(t *testing.T, under func(*testing.T) (net.Conn, net.Conn)) (server, client net.Conn) {
	t.Helper()
	s, c := under(t)
	theirs := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	ours := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{certificate()}})
	done := make(chan error, 1)
	go func() { done <- theirs.Handshake() }()
	if err := ours.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func engine(t *testing.T, o Options) *Portable {
	p := NewPortable(o)
	t.Cleanup(p.Close)
	return p
}

func random(t *testing.T, n int) []byte {
	seed := mrand.Uint64()
	t.Logf("seed %d", seed)
	rnd := mrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	b := make([]byte, n)
	_, _ = rnd.Read(b)
	return b
}

// sendAll writes b as an outlet does: as much as the socket takes, then it is armed. It counts how often it was full.
func (r *recorder) sendAll(t *testing.T, b []byte) (full int) {
	for len(b) > 0 {
		n, err := r.conn.TryWrite(b[:min(len(b), 300_000)])
		if err != nil {
			t.Errorf("a connection that works takes bytes or says that it is full: %v", err)
			return full
		}
		taken := min(len(b), 300_000)
		if b = b[n:]; n == taken {
			continue
		}
		full++
		r.conn.ArmWrite()
		select {
		case <-r.writable:
		case <-time.After(patience):
			t.Error("Writable must be called after ArmWrite once the socket accepts bytes again")
			return full
		}
	}
	return full
}

func TestWhatASlowReaderIsSentArrivesOnceAndInOrder(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		r := newRecorder()
		c := engine(t, Options{SendBuffer: 8 << 10}).serve(server, nil, r.with)
		sent := random(t, 1<<20)
		full := make(chan int, 1)
		go func() {
			full <- r.sendAll(t, sent)
			c.Finish()
		}()
		var got []byte
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf[:1+mrand.IntN(len(buf))])
			got = append(got, buf[:n]...)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("after everything was sent Finish shows the peer the end of the stream, not %v", err)
				}
				break
			}
			if len(got)%7 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("a slow reader is sent every byte once and in order: %d bytes were sent, %d came", len(sent), len(got))
		}
		if n := <-full; n == 0 {
			t.Error("a reader that is slower than its server fills the socket")
		}
	})
}

// The engine's handler may be told to write before it exists: a member is given its history while it joins.
func TestASocketMayFillUpWhileItsHandlerIsBeingMade(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		r := newRecorder()
		sent := random(t, 1<<20)
		received := make(chan []byte, 1)
		armed := make(chan struct{})
		go func() {
			<-armed // a quick reader would leave room all the time
			b := make([]byte, len(sent))
			_, _ = io.ReadFull(client, b)
			received <- b
		}()
		written := make(chan struct{})
		engine(t, Options{}).Serve(server, nil, func(s Socket) Handler {
			c := s.(*Conn)
			r.conn = c
			go func() {
				defer close(written)
				rest := sent
				for first := true; len(rest) > 0; {
					n, err := c.TryWrite(rest)
					if err != nil {
						t.Error(err)
						return
					}
					if rest = rest[n:]; n > 0 {
						continue
					}
					c.ArmWrite()
					if first {
						first = false
						close(armed)
					}
					<-r.writable
				}
			}()
			<-armed
			time.Sleep(20 * time.Millisecond) // the socket becomes writable before there is a handler
			return r
		})
		<-written
		if !bytes.Equal(<-received, sent) {
			t.Error("what is written while the handler is being made arrives once and in order")
		}
	})
}

func TestFirstBytesComeFirst(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		r := newRecorder()
		engine(t, Options{}).Serve(server, []byte("first "), r.with)
		go func() { _, _ = client.Write([]byte("second")) }()
		if got := r.awaitBytes(t, 12); string(got) != "first second" {
			t.Errorf("bytes that were read already come before those of the connection, got %q", got)
		}
	})
}

func TestReadingPausesAndGoesOn(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		r := newRecorder()
		r.room.Store(1)
		c := engine(t, Options{}).serve(server, nil, r.with)
		sent := random(t, 100<<10)
		go func() { _, _ = client.Write(sent) }()
		first := len(r.awaitBytes(t, 1))
		if first > readBuffer {
			t.Errorf("after Read reported false nothing more is read: at most %d bytes come, not %d", readBuffer, first)
		}
		time.Sleep(20 * time.Millisecond) // nothing happens, which cannot be waited for
		if n := len(r.bytes()); n != first {
			t.Errorf("a connection that is paused is not read: it had %d bytes and has %d", first, n)
		}
		c.Resume() // the handler has no room: it is asked, and reading stays paused
		eventually(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.nudges == 1 },
			"after Resume the handler is called without bytes first")
		if n := len(r.bytes()); n != first {
			t.Errorf("a handler that still has no room is given nothing, not %d bytes", n-first)
		}
		r.room.Store(1 << 40)
		c.Resume()
		if got := r.awaitBytes(t, len(sent)); !bytes.Equal(got, sent) {
			t.Error("what waited while reading was paused comes once and in order")
		}
	})
}

func TestAPausedConnectionCanBeEnded(t *testing.T) {
	reason := errors.New("the reason")
	for name, end := range map[string]struct {
		do   func(p *Portable, c *Conn)
		want error
	}{
		"Abort": {func(_ *Portable, c *Conn) { c.Abort(reason) }, reason},
		"Close": {func(p *Portable, _ *Conn) { p.Close() }, net.ErrClosed},
		// Nobody reads and the peer stays: the time to linger ends it.
		"Finish": {func(_ *Portable, c *Conn) { c.Finish() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, server, client net.Conn) {
				if _, half := server.(interface{ CloseWrite() error }); name == "Finish" && !half {
					client = nil // Finish closes it, which is an error to whoever reads
				}
				r := newRecorder()
				r.room.Store(0)
				p := engine(t, Options{Linger: 50 * time.Millisecond})
				c := p.serve(server, []byte("x"), r.with)
				end.do(p, c)
				if err := r.awaitClosed(t); client != nil && !errors.Is(err, end.want) {
					t.Errorf("%s ends a connection that is paused, with %v, not %v", name, end.want, err)
				}
			})
		})
	}
}

func TestFinishWaitsForThePeer(t *testing.T) {
	server, client := tcpPair(t)
	defer client.Close()
	r := newRecorder()
	c := engine(t, Options{Linger: patience}).serve(server, nil, r.with)
	if n, err := c.TryWrite([]byte("bye")); n != 3 || err != nil {
		t.Fatalf("an idle socket takes 3 bytes, not %d, %v", n, err)
	}
	c.Finish()
	if got, err := io.ReadAll(client); string(got) != "bye" || err != nil {
		t.Errorf("the peer sees what was written and then the end of the stream, not %q, %v", got, err)
	}
	if _, err := client.Write([]byte("still here")); err != nil {
		t.Errorf("after Finish the peer may end its side in order: %v", err)
	}
	r.awaitBytes(t, len("still here"))
	client.Close()
	if err := r.awaitClosed(t); err != nil {
		t.Errorf("a connection whose peer ends it after Finish ends without an error, not %v", err)
	}
}

func TestLingerIsBounded(t *testing.T) {
	server, client := tcpPair(t)
	defer client.Close()
	r := newRecorder()
	c := engine(t, Options{Linger: 50 * time.Millisecond}).serve(server, nil, r.with)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // a peer that sends for ever does not keep the connection
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := client.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	})
	c.Finish()
	r.awaitClosed(t)
	close(stop)
	wg.Wait()
}

func TestThePeerEnds(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		r := newRecorder()
		p := engine(t, Options{})
		p.Serve(server, nil, r.with)
		client.Close()
		if err := r.awaitClosed(t); err != nil {
			t.Errorf("a connection that its peer ended is closed without an error, not %v", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, slot := range p.slots {
			if len(slot) > 0 {
				t.Error("a connection that has ended is forgotten")
			}
		}
	})
}

func TestThePeerResets(t *testing.T) {
	server, client := tcpPair(t)
	r := newRecorder()
	c := engine(t, Options{}).serve(server, nil, r.with)
	if err := client.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if err := r.awaitClosed(t); err == nil {
		t.Error("a connection that its peer reset is closed with the error")
	}
	eventually(t, func() bool { _, err := c.TryWrite([]byte("x")); return err != nil }, "writing to a connection that is gone is an error")
}

// A peer that vanishes while the socket is full ends the wait for it.
func TestAFullSocketWhosePeerGoes(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		r := newRecorder()
		c := engine(t, Options{SendBuffer: 8 << 10}).serve(server, nil, r.with)
		block := make([]byte, 1<<20)
		eventually(t, func() bool { n, err := c.TryWrite(block); return n < len(block) && err == nil }, "a peer that does not read fills the socket")
		c.ArmWrite()
		client.Close()
		select {
		case <-r.writable:
		case <-time.After(patience):
			t.Error("Writable is called when the connection breaks, so that the next write finds out")
		}
		r.awaitClosed(t)
	})
}

func TestAbortCutsAFullSocket(t *testing.T) {
	each(t, func(t *testing.T, server, _ net.Conn) {
		r := newRecorder()
		c := engine(t, Options{SendBuffer: 8 << 10}).serve(server, nil, r.with)
		block := make([]byte, 1<<20)
		eventually(t, func() bool { n, err := c.TryWrite(block); return n < len(block) && err == nil }, "a peer that does not read fills the socket")
		c.ArmWrite()
		reason := errors.New("the reason")
		c.Abort(reason)
		c.Abort(errors.New("a later one"))
		if err := r.awaitClosed(t); !errors.Is(err, reason) {
			t.Errorf("a connection that is aborted ends with the first reason, not %v", err)
		}
		<-r.writable
	})
}

func TestTicksAreSpread(t *testing.T) {
	const conns, tick = 100, 100 * time.Millisecond
	p := engine(t, Options{Tick: tick})
	all := make([]*recorder, conns)
	for i := range all {
		server, client := net.Pipe()
		defer client.Close()
		all[i] = newRecorder()
		p.Serve(server, nil, all[i].with)
	}
	for _, r := range all {
		eventually(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.ticks) >= 3 }, "every connection is ticked again and again")
	}
	moments := map[time.Time]int{}
	for i, r := range all {
		r.mu.Lock()
		if d := r.ticks[2].Sub(r.ticks[1]); d < tick/2 {
			t.Errorf("connection %d is ticked about every %v, not after %v", i, tick, d)
		}
		moments[r.ticks[1]]++
		r.mu.Unlock()
	}
	for _, n := range moments {
		if n > 2*conns/tickSlots {
			t.Errorf("ticks are spread over the time between them: %d of %d connections are ticked at once", n, conns)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		p := NewPortable(Options{})
		r := newRecorder()
		p.Serve(server, nil, r.with)
		p.Close()
		r.mu.Lock()
		over := r.over
		r.mu.Unlock()
		if !over {
			t.Error("Close returns when every connection has been closed")
		}
		if err := r.awaitClosed(t); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a connection that the engine closes ends with net.ErrClosed, not %v", err)
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the peer of a connection that the engine closes sees its end")
		}
		p.Close() // once more does no harm
	})
}

func TestServeAfterClose(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		p := NewPortable(Options{})
		p.Close()
		r := newRecorder()
		c := p.serve(server, []byte("first"), r.with)
		if err := r.awaitClosed(t); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a connection that is given to a closed engine is closed with net.ErrClosed, not %v", err)
		}
		if c == nil || len(r.bytes()) > 0 {
			t.Error("a closed engine gives its handler no bytes")
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the peer of a connection that is given to a closed engine sees its end")
		}
	})
}

// Closed comes once however many reasons there are.
func TestClosedComesOnce(t *testing.T) {
	each(t, func(t *testing.T, server, client net.Conn) {
		p := NewPortable(Options{Linger: time.Millisecond})
		r := newRecorder()
		c := p.serve(server, nil, r.with)
		var wg sync.WaitGroup
		wg.Go(c.Finish)
		wg.Go(func() { c.Abort(errors.New("a reason")) })
		wg.Go(func() { client.Close() })
		wg.Go(p.Close)
		wg.Wait()
		r.awaitClosed(t)
		if len(r.closed) > 0 {
			t.Error("Closed is called exactly once")
		}
	})
}
