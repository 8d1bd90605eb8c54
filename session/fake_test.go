package session

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"barrage/auth"
	"barrage/channel"
	"barrage/fanout"
	"barrage/node"
	"barrage/proto"
	"barrage/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a Backend whose answers a test gives by hand.
type backend struct {
	mu        sync.Mutex
	published []node.Publication
	acks      []func(node.Published, *proto.Error)
	queries   []node.HistoryQuery
	pages     []func(proto.History, *proto.Error)
	joins     []channel.JoinRequest
	events    []string // Enter, Exit and joins of a channel's events
	roster    proto.Roster
	// refuse, when set, answers publishes at once.
	refuse *proto.Error
}

func (b *backend) Publish(p node.Publication, done func(node.Published, *proto.Error)) {
	b.mu.Lock()
	b.published = append(b.published, p)
	refuse := b.refuse
	if refuse == nil {
		b.acks = append(b.acks, done)
	}
	b.mu.Unlock()
	if refuse != nil {
		done(node.Published{}, refuse)
	}
}

func (b *backend) History(_ string, q node.HistoryQuery, done func(proto.History, *proto.Error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queries = append(b.queries, q)
	b.pages = append(b.pages, done)
}

func (b *backend) Info(string) channel.Count { return channel.Count{Members: 3, Nodes: 2} }

func (b *backend) Join(name string, r channel.JoinRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if base, ok := proto.EventsBase(name); ok {
		b.events = append(b.events, "listen "+base)
		return
	}
	b.joins = append(b.joins, r)
}

// ack answers the publish that waits longest.
func (b *backend) ack(at node.Published, err *proto.Error) {
	b.mu.Lock()
	done := b.acks[0]
	b.acks = b.acks[1:]
	b.mu.Unlock()
	done(at, err)
}

func (b *backend) page(h proto.History, err *proto.Error) {
	b.mu.Lock()
	done := b.pages[0]
	b.pages = b.pages[1:]
	b.mu.Unlock()
	done(h, err)
}

func (b *backend) publishes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.published)
}

// socket is a fanout.Socket that takes everything, or nothing while it is stuck.
type socket struct {
	mu       sync.Mutex
	got      []byte
	stuck    bool
	finished bool
}

func (s *socket) TryWrite(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck {
		return 0, nil
	}
	s.got = append(s.got, b...)
	return len(b), nil
}

// stick makes the socket of c take nothing until the function that it returns is called.
func (c *client) stick() (unstick func()) {
	c.socket.mu.Lock()
	defer c.socket.mu.Unlock()
	c.socket.stuck = true
	return func() {
		c.socket.mu.Lock()
		c.socket.stuck = false
		c.socket.mu.Unlock()
		c.out.Writable()
	}
}

func (s *socket) ArmWrite()   {}
func (s *socket) Abort(error) {}
func (s *socket) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
}

// client is a session with everything around it.
type client struct {
	*Session
	t       *testing.T
	backend *backend
	socket  *socket
	out     *fanout.Outlet
	server  *Server
	mu      sync.Mutex
	resumes int
	read    int // bytes of socket.got that were looked at
}

// surroundings make a client without a session.
func surroundings(t *testing.T) *client {
	t.Helper()
	writers := fanout.NewWriters(1)
	t.Cleanup(writers.Close)
	c := &client{t: t, backend: &backend{}, socket: &socket{}}
	c.server = &Server{Node: "a", Backend: c.backend}
	c.out = fanout.NewOutlet(writers, c.socket, 0)
	return c
}

// open makes a session. It is not a member until join.
func open(t *testing.T, format int, query string) *client {
	t.Helper()
	return openAs(t, format, query, nil, nil)
}

// openAs is open for a client that has shown who it is.
func openAs(t *testing.T, format int, query string, id *auth.Identity, policy *auth.Policy) *client {
	t.Helper()
	q, err := proto.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	c := surroundings(t)
	c.server.Policy = policy
	c.Session = New(Options{
		Connection: c, Client: "c1", Channel: "room", Format: format, User: q.Name, Identity: id,
	})
	c.Start(&q)
	return c
}

// Outlet implements Connection.
func (c *client) Outlet() *fanout.Outlet { return c.out }

// Server implements Connection.
func (c *client) Server() *Server { return c.server }

// Resume implements Connection.
func (c *client) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumes++
}

func (c *client) join() *client {
	c.backend.joins[0].Ready(channel.Joined{Position: proto.Position{Epoch: "e", Offset: 7}, Next: 8})
	return c
}

func (c *client) resumed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resumes
}

// says gives the session a message.
func (c *client) says(text string) string { return string(c.Message([]byte(text))) }

// next returns the frames sent since the last call: text frames as their text, a close frame as "close CODE REASON". It waits for n
// of them.
func (c *client) next(n int) []string {
	c.t.Helper()
	var frames []string
	deadline := time.Now().Add(10 * time.Second)
	for len(frames) < n && time.Now().Before(deadline) {
		c.socket.mu.Lock()
		b := c.socket.got[c.read:]
		for {
			h, size, err := ws.ParseHeader(b)
			if err != nil || size == 0 || uint64(len(b)) < uint64(size)+h.Length {
				break
			}
			payload := b[size : uint64(size)+h.Length]
			b = b[uint64(size)+h.Length:]
			c.read += size + len(payload)
			if h.Op == ws.OpClose {
				code, reason, _ := ws.ParseClose(payload)
				frames = append(frames, strings.TrimSpace("close "+itoa(int(code))+" "+string(reason)))
				continue
			}
			frames = append(frames, string(payload))
		}
		c.socket.mu.Unlock()
		time.Sleep(100 * time.Microsecond)
	}
	if len(frames) != n {
		c.t.Fatalf("the session must send %d frames, it sent %q", n, frames)
	}
	return frames
}

// expect compares the next frames.
func (c *client) expect(want ...string) {
	c.t.Helper()
	for i, got := range c.next(len(want)) {
		if got != want[i] {
			c.t.Errorf("the session must answer\n%s\nand not\n%s", want[i], got)
		}
	}
}

func (b *backend) Enter(name string, m proto.MemberInfo, announce bool) {
	b.note("enter %s %s %s %s %s %t", name, m.User, m.Client, m.Info, m.ChanInfo, announce)
}

func (b *backend) Exit(name, client string) { b.note("exit %s %s", name, client) }

func (b *backend) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, fmt.Sprintf(format, args...))
}

// noted is what Enter, Exit and Join of a channel's events were called with.
func (b *backend) noted() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.events, ", ")
}

func (b *backend) Presence(_ string, done func(proto.Roster, *proto.Error)) { done(b.roster, nil) }

func (b *backend) Counts(_ string, done func(proto.Counts, *proto.Error)) { done(b.roster.Counts, nil) }
