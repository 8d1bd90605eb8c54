package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"barrage/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test.
const patience = 10 * time.Second

// fakeServer plays one script per connection; a connection without a script is a failure of the test.
type fakeServer struct {
	t       *testing.T
	pipe    *pipeListener
	http    *http.Server
	mu      sync.Mutex
	scripts []func(*fakeConn)
	queries []url.Values
	paths   []string
	offers  []string // of extensions
	shown   []string // what the client said it is
	running sync.WaitGroup
}

// fakeConn is the server's end of one connection.
type fakeConn struct {
	*websocket.Conn
	t *testing.T
}

func serve(t *testing.T, scripts ...func(*fakeConn)) *fakeServer {
	f := &fakeServer{t: t, scripts: scripts}
	f.listen(http.HandlerFunc(f.accept))
	t.Cleanup(f.running.Wait)
	return f
}

// refuseAll is a server that answers every handshake by HTTP.
func refuseAll(t *testing.T, answer http.HandlerFunc) *fakeServer {
	f := &fakeServer{t: t}
	f.listen(answer)
	return f
}

func (f *fakeServer) listen(h http.Handler) {
	f.pipe, f.http = listenPipe(), &http.Server{Handler: h, ReadHeaderTimeout: patience}
	served := make(chan error, 1)
	go func() { served <- f.http.Serve(f.pipe) }()
	f.t.Cleanup(func() {
		_ = f.http.Close()
		<-served
	})
}

func (f *fakeServer) url() string { return "ws://" + f.pipe.host }

func (f *fakeServer) accept(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	n := len(f.queries)
	f.queries, f.paths = append(f.queries, r.URL.Query()), append(f.paths, r.URL.EscapedPath())
	f.offers = append(f.offers, r.Header.Get("Sec-WebSocket-Extensions"))
	f.shown = append(f.shown, r.Header.Get("Authorization"))
	var script func(*fakeConn)
	if n < len(f.scripts) {
		script = f.scripts[n]
	}
	f.running.Add(1)
	f.mu.Unlock()
	defer f.running.Done()
	if script == nil {
		http.Error(w, "the script has ended", http.StatusGone)
		return
	}
	upgrader := websocket.Upgrader{EnableCompression: true}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		f.t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	script(&fakeConn{conn, f.t})
}

func (f *fakeServer) query(n int) url.Values {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n >= len(f.queries) {
		f.t.Fatalf("there were %d connections, want at least %d", len(f.queries), n+1)
	}
	return f.queries[n]
}

// send sends lines in one frame.
func (c *fakeConn) send(lines ...string) {
	if err := c.WriteMessage(websocket.TextMessage, []byte(strings.Join(lines, "\n"))); err != nil {
		c.t.Errorf("the fake server cannot send: %v", err)
	}
}

// expect reads one command.
func (c *fakeConn) expect(kind proto.CommandKind) proto.Command {
	_, line, err := c.ReadMessage()
	if err != nil {
		c.t.Errorf("the fake server expects a %s, got error %v", kind, err)
		return proto.Command{}
	}
	cmd, err := proto.ParseCommand(line)
	if err != nil || cmd.Kind != kind {
		c.t.Errorf("the fake server expects a %s, got %s, %v", kind, line, err)
	}
	return cmd
}

func (c *fakeConn) ack(id string, offset proto.Offset) {
	c.send(string(proto.AppendAck(nil, proto.Ack{ID: id, Offset: offset})))
}

func (c *fakeConn) close(code int) {
	_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, "because"))
}

// gone waits until the client has left.
func (c *fakeConn) gone() {
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			return
		}
	}
}

func welcome(epoch string, offset proto.Offset) string {
	return string(proto.AppendWelcome(nil, proto.Welcome{Node: "a", Client: "c", Channel: "room", Epoch: proto.Epoch(epoch), Offset: offset}))
}

func message(offset proto.Offset) string {
	return string(proto.AppendMessage(nil, &proto.Message{Offset: offset, Time: 1, User: "ann", Data: []byte(`"hi"`)}))
}

func reset(epoch string, offset proto.Offset) string {
	return string(proto.AppendReset(nil, proto.Reset{Epoch: proto.Epoch(epoch), Offset: offset, Reason: "trimmed"}))
}

// follower runs a client and collects its events.
type follower struct {
	t      *testing.T
	client *Client
	events chan Event
	done   chan error
	cancel context.CancelFunc
}

func follow(t *testing.T, opt Options) *follower {
	t.Helper()
	if opt.Channel == "" {
		opt.Channel = "room"
	}
	if opt.Dial == nil {
		opt.Dial = dialPipe
	}
	opt.BackoffMin = orDefault(opt.BackoffMin, time.Millisecond)
	opt.BackoffMax = orDefault(opt.BackoffMax, 20*time.Millisecond)
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{t: t, client: c, events: make(chan Event, 10000), done: make(chan error, 1), cancel: cancel}
	go func() { f.done <- c.Run(ctx, func(e Event) { f.events <- e }) }()
	t.Cleanup(func() {
		cancel()
		<-c.ended
	})
	return f
}

// event waits for the next event and writes it as a short text.
func (f *follower) event() string {
	f.t.Helper()
	select {
	case e := <-f.events:
		return eventText(e)
	case <-time.After(patience):
		f.t.Fatal("no event came in time")
		return ""
	}
}

func eventText(e Event) string {
	switch {
	case e.Welcome != nil:
		return "welcome"
	case e.Message != nil:
		return "message " + itoa(e.Message.Offset)
	case e.Reset != nil:
		return "reset " + string(e.Reset.Epoch) + " " + itoa(e.Reset.Offset)
	case e.Skipped != nil:
		return "skipped " + itoa(proto.Offset(e.Skipped.Count))
	case e.Join != nil:
		return "join " + e.Join.Client
	case e.Leave != nil:
		return "leave " + e.Leave.Client
	case e.Gap != nil:
		return "gap " + itoa(e.Gap.From) + ".." + itoa(e.Gap.To)
	case e.Disconnected != nil:
		return "disconnected"
	}
	return "nothing"
}

func (f *follower) expect(want ...string) {
	f.t.Helper()
	for i, w := range want {
		if got := f.event(); got != w {
			f.t.Fatalf("event %d must be %q, got %q", i+1, w, got)
		}
	}
}

func (f *follower) end() error {
	f.t.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(patience):
		f.t.Fatal("the client did not end in time")
		return nil
	}
}

func (f *follower) stop() {
	f.t.Helper()
	f.cancel()
	if err := f.end(); !errors.Is(err, context.Canceled) {
		f.t.Errorf("a client that is told to stop returns the context's error, got %v", err)
	}
}

func (f *follower) ctx() context.Context {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	f.t.Cleanup(cancel)
	return ctx
}
