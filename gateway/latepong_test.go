package gateway

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/node"
	"barrage/proto"
	"barrage/session"
)

// slowSocket takes only as many bytes as it is let.
type slowSocket struct {
	deafSocket
	mu    sync.Mutex
	room  int
	armed bool
}

func (s *slowSocket) TryWrite(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(b), s.room)
	s.room -= n
	return n, nil
}

func (s *slowSocket) ArmWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = true
}

// more lets the socket take n bytes more.
func (s *slowSocket) more(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room += n
}

// isWritable says, once for each ArmWrite, that the socket takes bytes again.
func (s *slowSocket) isWritable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.armed || s.room == 0 {
		return false
	}
	s.armed = false
	return true
}

func (s *slowSocket) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room
}

// drain lets the socket of c take n bytes more, and waits until it has, or there are no more.
func (s *slowSocket) drain(t *testing.T, c *conn, n int) {
	t.Helper()
	s.more(n)
	eventually(t, "what a client reads is sent", func() bool {
		if s.isWritable() {
			c.Writable()
		}
		return c.out.Pending() == 0 || s.left() == 0
	})
}

// lateNode reads history behind a gate.
type lateNode struct {
	*node.Node
	reads gate
}

func (n *lateNode) History(name string, q node.HistoryQuery, done func(proto.History, *proto.Error)) {
	go func() {
		n.reads.pass()
		n.Node.History(name, q, done)
	}()
}

// openSlow opens a connection to a room with a page of history, on a socket that is slow.
func openSlow(t *testing.T) (*Gateway, *lateNode, *conn, *slowSocket) {
	n, j := newNode(t, session.Codecs())
	t.Cleanup(func() { j.Close() })
	t.Cleanup(func() { n.Close(t.Context()) })
	late := &lateNode{Node: n}
	g := New(Options{Node: "a", Backend: late, Write: time.Hour, Writers: n.Writers(), Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(g.engine.Close)
	(&world{t: t, node: n, gateway: g}).fill("room")
	_, open := g.Upgrade(upgradeRequest("/ws/room"))
	s := &slowSocket{room: 64 << 10}
	h := open(s)
	t.Cleanup(func() { h.Closed(nil) })
	eventually(t, "the connection is greeted", h.(*conn).client.Greeted)
	return g, late, h.(*conn), s
}

func TestWhoReadsALargeAnswerSlowlyNeedNotAnswerAPingBehindIt(t *testing.T) {
	if portable || secure {
		return // the engine has no part in it
	}
	g, n, c, s := openSlow(t)
	read := n.reads.close()
	defer read()
	if !c.Read(text(`{"history":{"limit":100}}`)) {
		t.Fatal("who has asked one question is read on")
	}
	read()
	eventually(t, "a page waits to be read", func() bool { return c.out.Pending() > 512<<10 })
	now := time.Now()
	for range 20 { // a minute and a half at 10 KB/s
		s.drain(t, c, 45<<10)
		now = now.Add(g.Pong / 2)
		c.Tick(now)
	}
	if n := g.stats.NoPong.Load(); n != 0 {
		t.Fatal("a client that reads is not closed for a ping that it was not sent yet")
	}
	s.drain(t, c, 4<<20)
	for range 6 {
		now = now.Add(g.Pong / 2)
		c.Tick(now)
	}
	if n := g.stats.NoPong.Load(); n != 1 {
		t.Error("a client that has all and answers no ping is closed")
	}
}

func TestWhoWasNotReadHasTimeToAnswerAPing(t *testing.T) {
	if portable || secure {
		return // the engine has no part in it
	}
	g, _, c, s := openSlow(t)
	if more := c.Read(text(strings.Repeat(`{"history":{"limit":100}}`+"\n", 9))); more {
		t.Fatal("who has asked for much is not read on")
	}
	eventually(t, "a page waits to be read", func() bool { return c.out.Pending() > 512<<10 })
	c.pinged.Store(g.now() - moment(2*g.Pong.Milliseconds())) // the ping went out, and the pong stands behind the questions
	if !c.deaf.Load() {
		t.Fatal("what the client sends is not read")
	}
	s.drain(t, c, 64<<20)
	eventually(t, "the client is read on", func() bool { s.drain(t, c, 0); return !c.deaf.Load() })
	c.Tick(time.Now())
	if n := g.stats.NoPong.Load(); n != 0 {
		t.Error("a client whose pong was not read yet is not closed for it")
	}
}
