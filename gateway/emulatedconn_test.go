package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"barrage/engine"
	"barrage/proto"
	"barrage/session/centrifuge"
)

// held is a hook for what clients send that lets none through until it is opened, and keeps the answers to calls back.
type held struct {
	entered chan struct{} // closed by the first that is held up
	open    func()
	left    atomic.Int32 // how many got through
	mu      sync.Mutex
	calls   []func([]byte, *proto.Error) // owner: mu; those without an answer
}

// hold makes a server whose clients' `send` is held up.
func hold(t *testing.T) (*centrifuge.Server, *held) {
	t.Helper()
	gate := make(chan struct{})
	h := &held{entered: make(chan struct{}), open: sync.OnceFunc(func() { close(gate) })}
	enter := sync.OnceFunc(func() { close(h.entered) })
	s := closed()
	s.RPC = func(c centrifuge.Call) {
		if c.Sent {
			enter()
			<-gate
			h.left.Add(1)
			c.Done(nil, nil)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls = append(h.calls, c.Done)
	}
	return s, h
}

// answer answers every call.
func (h *held) answer() (n int) {
	h.mu.Lock()
	calls := h.calls
	h.calls = nil
	h.mu.Unlock()
	for _, done := range calls {
		done([]byte("1"), nil)
	}
	return len(calls)
}

// await waits until one is held up.
func (h *held) await(t *testing.T) {
	t.Helper()
	select {
	case <-h.entered:
	case <-time.After(patience):
		t.Fatal("the session must be given what was sent")
	}
}

// notedSocket takes everything, and notes what is done with it.
type notedSocket struct {
	deafSocket
	mu      sync.Mutex
	wrote   strings.Builder // owner: mu
	aborted error           // owner: mu
}

func (s *notedSocket) TryWrite(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrote.Write(b)
}

func (s *notedSocket) Abort(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = err
}

// written is what was written until now.
func (s *notedSocket) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrote.String()
}

// cut is why the connection was cut; nil when it was not.
func (s *notedSocket) cut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aborted
}

// emulate opens a stream of a user on a socket that is no engine's: the caller closes it.
func (w *world) emulate(socket engine.Socket, user string) *emulatedConn {
	w.t.Helper()
	query := url.Values{"cf_connect": {fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, user)}}
	r := &http.Request{
		Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Host: "h", RemoteAddr: "127.0.0.1:1", Header: http.Header{},
		URL: &url.URL{Path: "/connection/sse", RawQuery: query.Encode()},
	}
	refusal, open := w.gateway.Upgrade(r)
	if refusal != nil {
		w.t.Errorf("a stream must be opened, not refused with %s", refusal)
		return nil
	}
	return open(socket).(*emulatedConn)
}

// What the session has no room for when its stream has ended is forgotten: the end comes once, and later answers bring no second.
func TestAStreamThatEndsWhileItsSessionFillsIsClosedOnce(t *testing.T) {
	clients, h := hold(t)
	w := start(t, Options{Centrifuge: clients})
	defer h.open()
	bob := w.listen("lines", `{"id":1,"connect":{"token":"bob"}}`).connected()
	l := w.listen("lines", `{"id":1,"connect":{"token":"alice"}}`).connected()
	l.must(w, `{"send":{"data":1}}`+"\n"+strings.Repeat(`{"id":2,"rpc":{"method":"x"}}`+"\n", 100))
	h.await(t)
	l.Close()
	eventually(t, "a session is not found any more once its stream has ended", func() bool { return w.gateway.emulated.find(l.session) == nil })
	h.open()
	eventually(t, "alice is gone", func() bool { return len(w.gateway.Connections("alice")) == 0 && w.gateway.Count() == 1 })
	if n := h.answer(); n < 64 {
		t.Errorf("a session is full when 64 commands are under way, not %d", n)
	}
	w.gateway.emulated.workers.Wait() // whoever the answers set to work
	if n := w.gateway.Count(); n != 1 || len(w.gateway.Connections("bob")) != 1 || w.gateway.Stats().Closed.Load() != 1 {
		t.Errorf("one connection has ended, once, and the other is there: %d are, %d have ended", n, w.gateway.Stats().Closed.Load())
	}
	bob.must(w, `{"id":2,"ping":{}}`)
	bob.expect(`"id":2`)
}

// The descriptor of a stream that has ended may be another client's at once, whatever its session still has to say.
func TestNothingIsWrittenOnceAStreamHasEnded(t *testing.T) {
	clients, h := hold(t)
	w := start(t, Options{Centrifuge: clients})
	defer h.open()
	socket := &notedSocket{}
	c := w.emulate(socket, "alice")
	eventually(t, "the client is connected", func() bool { return strings.Contains(socket.written(), `"connect"`) })
	if !c.take([]byte(`{"send":{"data":1}}` + "\n" + `{"id":2,"ping":{}}`)) {
		t.Fatal("commands must be taken")
	}
	h.await(t)
	c.Closed(nil)
	before := socket.written()
	c.out.SendNow([]byte("at once"))
	h.open()
	w.gateway.emulated.workers.Wait()
	c.out.SendNow([]byte("late"))
	if n := w.gateway.Count(); n != 0 || socket.written() != before {
		t.Errorf("nothing is written to a socket that its engine has closed, not %q; %d connections are left", strings.TrimPrefix(socket.written(), before), n)
	}
}

// Whoever brings commands does not wait until the session has taken them: it may be the goroutine that hears all other nodes.
func TestWhoBringsCommandsDoesNotWaitForTheSession(t *testing.T) {
	p := &pair{map[string]func([]byte) bool{}}
	clients, h := hold(t)
	home := start(t, Options{Centrifuge: clients, Node: "a", Forwarder: ends{p, "a"}})
	other := start(t, Options{Node: "b", Forwarder: ends{p, "b"}})
	defer h.open()
	l := home.listen("lines", `{"id":1,"connect":{"token":"alice"}}`).connected()
	l.must(other, `{"send":{"data":1}}`) // which is answered although it is held up
	h.await(t)
	l.must(other, `{"id":2,"ping":{}}`)
	l.must(home, `{"id":3,"ping":{}}`)
	h.open()
	l.expect(`"id":2`)
	l.expect(`"id":3`)
}

func TestShutdownWaitsForSessionsAtWork(t *testing.T) {
	clients, h := hold(t)
	w := start(t, Options{Centrifuge: clients})
	defer h.open()
	l := w.listen("lines", `{"id":1,"connect":{"token":"alice"}}`).connected()
	l.must(w, `{"send":{"data":1}}`)
	h.await(t)
	var stopping sync.WaitGroup
	stopping.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // at once
		w.gateway.Shutdown(ctx)
		if h.left.Load() != 1 || w.gateway.Count() != 0 {
			t.Errorf("after Shutdown no session is at work, and no connection is left: %d", w.gateway.Count())
		}
	})
	eventually(t, "its stream is cut", func() bool { return w.gateway.emulated.find(l.session) == nil })
	h.open()
	stopping.Wait()
}

// Streams end at any moment, while several requests bring commands and others answer calls: each ends once, and entirely.
func TestStreamsEndWhileCommandsAreTaken(t *testing.T) {
	const streams, rounds = 4, 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	clients, calls := closed(), make(chan centrifuge.Call, 1000)
	clients.RPC = func(c centrifuge.Call) {
		if c.Done != nil {
			calls <- c
		}
	}
	var answering sync.WaitGroup
	for range 3 {
		answering.Go(func() {
			for c := range calls {
				c.Done([]byte("1"), nil)
			}
		})
	}
	w := start(t, Options{Centrifuge: clients})
	bob := w.emulate(&notedSocket{}, "bob")
	var all sync.WaitGroup
	for i := range streams {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range rounds {
				w.comeAndGo(rng, fmt.Sprint("user", i))
			}
		})
	}
	all.Wait()
	w.gateway.emulated.workers.Wait()
	close(calls)
	answering.Wait()
	w.gateway.emulated.workers.Wait()
	if n := w.gateway.Stats().Closed.Load(); n != streams*rounds || w.gateway.Count() != 1 || len(w.gateway.Connections("bob")) != 1 {
		t.Errorf("seed %d: %d streams have ended, each once, and one is left, not %d and %d", seed, streams*rounds, n, w.gateway.Count())
	}
	bob.Closed(nil)
	w.gateway.emulated.workers.Wait()
	w.gateway.mu.Lock()
	defer w.gateway.mu.Unlock()
	if len(w.gateway.conns) != 0 || len(w.gateway.users) != 0 || len(w.gateway.emulated.sessions) != 0 {
		t.Errorf("seed %d: nothing is left of them: %d, %d, %d", seed, len(w.gateway.conns), len(w.gateway.users), len(w.gateway.emulated.sessions))
	}
}

// comeAndGo opens a stream and ends it while two requests bring commands.
func (w *world) comeAndGo(rng *rand.Rand, user string) {
	c := w.emulate(&notedSocket{}, user)
	if c == nil {
		return
	}
	var asking sync.WaitGroup
	for range 2 {
		commands := strings.Repeat(`{"id":2,"rpc":{"method":"x"}}`+"\n", 1+rng.IntN(100)) + `{"id":3,"ping":{}}`
		asking.Go(func() {
			for range 3 {
				c.take([]byte(commands))
			}
		})
	}
	time.Sleep(time.Duration(rng.IntN(2_000)) * time.Microsecond) // any moment will do
	c.Closed(nil)
	asking.Wait()
}
