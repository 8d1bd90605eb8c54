package centrifuge

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"barrage/channel"
	"barrage/fanout"
	"barrage/node"
	"barrage/proto"
	"barrage/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a session.Backend in memory. Its channels are at offset 7 of epoch "e", and those called live:… are live. Joins wait
// while it is held.
type backend struct {
	mu        sync.Mutex
	feeds     map[string]*fanout.Feed
	writers   *fanout.Writers
	held      bool
	waiting   []func()
	published []node.Publication
	acks      []func(node.Published, *proto.Error)
	present   map[string]int  // by channel, Enter minus Exit
	there     map[string]bool // by channel, as the last Enter or Exit said
	onExit    func()          // is called before an Exit counts
	onReady   func()          // is called between Ready and Placed
	announced map[string]bool
	history   proto.History
	asked     node.HistoryQuery
	down      bool // channels cannot be opened
}

func (b *backend) Publish(p node.Publication, done func(node.Published, *proto.Error)) {
	b.mu.Lock()
	b.published = append(b.published, p)
	held := b.held
	if held {
		b.acks = append(b.acks, done)
	}
	b.mu.Unlock()
	if !held {
		done(node.Published{Offset: 8}, nil)
	}
}

func (b *backend) History(_ string, q node.HistoryQuery, done func(proto.History, *proto.Error)) {
	b.mu.Lock()
	b.asked = q
	h := b.history
	b.mu.Unlock()
	done(h, nil)
}

func (b *backend) Info(string) channel.Count { return channel.Count{} }

const head = 7

func (b *backend) Join(name string, r channel.JoinRequest) {
	join := func() {
		j := channel.Joined{Position: proto.Position{Epoch: "e", Offset: head}, Next: head + 1}
		switch {
		case b.down:
			j = channel.Joined{Err: channel.ErrNotOpen}
		case isLive(name):
			j = channel.Joined{Live: true}
		case r.Since != nil && (!r.Epoch.Matches("e") || *r.Since > head):
			j.Reset = true
		case r.Since != nil:
			j.Next = *r.Since + 1
		}
		if !r.Ready(j) {
			return
		}
		if b.onReady != nil {
			b.onReady()
		}
		f := b.feed(name, r.Format)
		next := fanout.Seq(j.Next)
		if j.Live {
			_, next = f.Bounds()
		}
		m := f.Join(r.Outlet, next, r.Skip)
		if r.Placed != nil {
			r.Placed(m)
		}
	}
	b.mu.Lock()
	if b.held {
		b.waiting = append(b.waiting, join)
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	join()
}

func isLive(name string) bool {
	_, events := proto.EventsBase(name)
	return events || strings.HasPrefix(name, "live:")
}

// feed is the feed of a channel, which holds publications 1 to head unless it is live.
func (b *backend) feed(name string, format int) *fanout.Feed {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := fmt.Sprint(name, format)
	if f := b.feeds[key]; f != nil {
		return f
	}
	f := fanout.NewFeed(b.writers, nil, 1)
	for i := range proto.Offset(head) {
		if isLive(name) {
			break
		}
		m := proto.Message{Offset: i + 1, Data: []byte(fmt.Sprint(i + 1))}
		f.Append(fanout.Entry{Frame: Codecs(nil)[format].AppendFrame(nil, name, &m)})
	}
	b.feeds[key] = f
	return f
}

// release carries out the joins that wait, and acknowledges what was published.
func (b *backend) release() {
	b.mu.Lock()
	waiting, acks := b.waiting, b.acks
	b.waiting, b.acks, b.held = nil, nil, false
	b.mu.Unlock()
	for _, join := range waiting {
		join()
	}
	for _, ack := range acks {
		ack(node.Published{Offset: 8}, nil)
	}
}

func (b *backend) Enter(name string, _ proto.MemberInfo, announce bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.present[name]++
	b.there[name] = true
	b.announced[name] = announce
}

func (b *backend) Exit(name, _ string) {
	if b.onExit != nil {
		b.onExit()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.present[name]--
	b.there[name] = false
}

// isThere says whether the client is present in a channel.
func (b *backend) isThere(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.there[name]
}

func (b *backend) presentIn(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.present[name]
}

func (b *backend) Presence(_ string, done func(proto.Roster, *proto.Error)) {
	done(proto.Roster{Members: []proto.MemberInfo{{User: "u", Client: "c2", Info: []byte(`{"a":1}`)}}}, nil)
}

func (b *backend) Counts(_ string, done func(proto.Counts, *proto.Error)) {
	done(proto.Counts{Clients: 3, Users: 2}, nil)
}

// socket is a fanout.Socket that takes everything.
type socket struct {
	mu       sync.Mutex
	got      []byte
	stuck    bool // it takes nothing
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

func (s *socket) ArmWrite()   {}
func (s *socket) Abort(error) {}
func (s *socket) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
}

// client is a session with everything around it.
type client struct {
	Session
	t       testing.TB
	backend *backend
	socket  *socket
	out     *fanout.Outlet
	shared  *Server
	now     time.Time

	admitted []string     // users that Admit was called for
	full     *proto.Error // what Admit answers

	mu      sync.Mutex
	resumes int
	slow    int
	read    int // bytes of socket.got that were looked at
}

// open makes a session of a server, whose backend and clock are filled in.
func open(t testing.TB, server Server, format Format) *client {
	t.Helper()
	writers := fanout.NewWriters(1)
	t.Cleanup(writers.Close)
	c := &client{t: t, socket: &socket{}, now: time.Unix(1_000_000, 0), backend: &backend{
		writers: writers, feeds: map[string]*fanout.Feed{}, present: map[string]int{}, announced: map[string]bool{},
		there: map[string]bool{},
	}}
	server.Backend, server.Now = c.backend, func() time.Time { return c.now }
	if server.Ping == 0 {
		server.Ping = 25 * time.Second
	}
	c.shared = &server
	c.out = fanout.NewOutlet(writers, c.socket, 0)
	c.Init(Options{Connection: c, Client: "c1", Format: format})
	t.Cleanup(c.Gone)
	t.Cleanup(c.out.Close)
	return c
}

// Outlet implements Connection.
func (c *client) Outlet() *fanout.Outlet { return c.out }

// Centrifuge implements Connection.
func (c *client) Centrifuge() *Server { return c.shared }

// Resume implements Connection.
func (c *client) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumes++
}

// Slow implements Connection.
func (c *client) Slow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slow++
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

// eventually waits until something holds.
func eventually(t *testing.T, sentence string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal(sentence)
		}
	}
}

// Admit implements Connection.
func (c *client) Admit(user string) *proto.Error {
	c.admitted = append(c.admitted, user)
	return c.full
}

// frames returns what was sent since the last call: messages as they are, a close frame as "close CODE REASON".
func (c *client) frames() (list []string) {
	c.socket.mu.Lock()
	defer c.socket.mu.Unlock()
	for {
		b := c.socket.got[c.read:]
		h, size, err := ws.ParseHeader(b)
		if err != nil || size == 0 || uint64(len(b)) < uint64(size)+h.Length {
			return list
		}
		payload := b[size : uint64(size)+h.Length]
		c.read += size + len(payload)
		if h.Op == ws.OpClose {
			code, reason, _ := ws.ParseClose(payload)
			list = append(list, fmt.Sprintf("close %d %s", code, reason))
			continue
		}
		list = append(list, string(payload))
	}
}

// expect waits for the next frames and compares them; with none it checks that there are none.
func (c *client) expect(want ...string) {
	c.t.Helper()
	var got []string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		if got = append(got, c.frames()...); len(got) >= len(want) || time.Now().After(deadline) {
			break
		}
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			c.t.Fatalf("the session must answer\n%q\nand not\n%q", want, got)
		}
	}
}

// take waits for the next n frames.
func (c *client) take(n int) (got []string) {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(got) < n; time.Sleep(100 * time.Microsecond) {
		if got = append(got, c.frames()...); time.Now().After(deadline) {
			c.t.Fatalf("the session must send %d frames, it sent %q", n, got)
		}
	}
	return got
}

// connect connects.
func (c *client) connect() *client {
	c.t.Helper()
	c.Message([]byte(`{"id":1,"connect":{}}`))
	c.expect(`{"id":1,"connect":{"client":"c1","ping":25,"pong":true}}`)
	return c
}
