package main

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"barrage/proto"
)

// fakeNode is a server of /ws that keeps channels in memory: enough of one to test the commands against. Below the
// path /flaky it cuts the connection after every seventh publish, below /shaky after every sixtieth, stored but not
// acknowledged; below /busy it refuses every publish the first time; below /closing it closes with a code that
// forbids coming back; below /guarded it wants the token let.me.in; below /refusing it answers 404.
type fakeNode struct {
	mu       sync.Mutex
	channels map[string]*fakeChannel
	// publishes counts what came in, resent included.
	publishes int
	refused   map[string]bool
}

type fakeChannel struct {
	messages []proto.Message
	keys     map[string]proto.Offset
	members  map[*fakeMember]bool
}

// fakeMember is one connection; the node's mutex is held while it is written to.
type fakeMember struct {
	conn *websocket.Conn
	echo bool
	name string
}

func startFakeNode() (n *fakeNode, url string, stop func()) {
	n = &fakeNode{channels: map[string]*fakeChannel{}, refused: map[string]bool{}}
	s := httptest.NewServer(n)
	return n, "ws" + strings.TrimPrefix(s.URL, "http"), s.Close
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mode, channel, ok := strings.Cut(r.URL.Path, "/ws/")
	if !ok || mode == "/refusing" {
		http.Error(w, "this is not the place", http.StatusNotFound)
		return
	}
	if mode == "/guarded" && r.Header.Get("Authorization") != "Bearer let.me.in" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	upgrader := websocket.Upgrader{}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	if mode == "/closing" {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(3500, "not you"), time.Now().Add(time.Second))
		return
	}
	m := &fakeMember{conn: conn, echo: r.URL.Query().Get("echo") != "0", name: r.URL.Query().Get("name")}
	c := n.join(channel, m, r)
	defer func() {
		n.mu.Lock()
		delete(c.members, m)
		n.mu.Unlock()
	}()
	for {
		_, line, err := conn.ReadMessage()
		if err != nil {
			return
		}
		cmd, err := proto.ParseCommand(line)
		if err != nil || cmd.Kind != proto.CommandPublish {
			continue
		}
		if !n.publish(c, m, mode, cmd) {
			return
		}
	}
}

func (n *fakeNode) members(channel string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.channels[channel]; c != nil {
		return len(c.members)
	}
	return 0
}

func (n *fakeNode) join(channel string, m *fakeMember, r *http.Request) *fakeChannel {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.channels[channel]
	if c == nil {
		c = &fakeChannel{keys: map[string]proto.Offset{}, members: map[*fakeMember]bool{}}
		n.channels[channel] = c
	}
	head, from := len(c.messages), len(c.messages)
	q := r.URL.Query()
	if q.Has("since") {
		from, _ = strconv.Atoi(q.Get("since"))
	} else if q.Has("last") {
		last, _ := strconv.Atoi(q.Get("last"))
		from = max(0, head-last)
	}
	if from > head {
		m.send(proto.AppendReset(nil, proto.Reset{Epoch: "fake", Offset: proto.Offset(head), Reason: "there is no such offset"}))
		from = head
	}
	m.send(proto.AppendWelcome(nil, proto.Welcome{Node: "fake", Client: "1", Channel: channel, Epoch: "fake", Offset: proto.Offset(head)}))
	for i := from; i < head; i++ {
		m.send(proto.AppendMessage(nil, &c.messages[i]))
	}
	c.members[m] = true
	return c
}

func (m *fakeMember) send(line []byte) { _ = m.conn.WriteMessage(websocket.TextMessage, line) }

// publish stores and tells everyone; it is false when the connection is to be cut.
func (n *fakeNode) publish(c *fakeChannel, from *fakeMember, mode string, cmd proto.Command) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.publishes++
	if mode == "/busy" && !n.refused[cmd.ID] {
		n.refused[cmd.ID] = true
		from.send(proto.AppendError(nil, cmd.ID, proto.ErrUnavailable))
		return true
	}
	if string(cmd.Data) == `"forbidden"` {
		from.send(proto.AppendError(nil, cmd.ID, proto.ErrBadRequest.With("this is forbidden")))
		return true
	}
	offset, repeated := c.keys[cmd.ID]
	repeated = repeated && cmd.ID != "" // without an id nothing is known again
	if !repeated {
		offset = proto.Offset(len(c.messages) + 1)
		message := proto.Message{Offset: offset, Time: 1700000000000, User: from.name, Data: cmd.Data}
		c.messages, c.keys[cmd.ID] = append(c.messages, message), offset
		line := proto.AppendMessage(nil, &message)
		for m := range c.members {
			if m != from || m.echo {
				m.send(line)
			}
		}
	}
	if mode == "/flaky" && n.publishes%7 == 0 || mode == "/shaky" && n.publishes%60 == 0 {
		return false
	}
	from.send(proto.AppendAck(nil, proto.Ack{ID: cmd.ID, Offset: offset, Repeated: repeated}))
	return true
}
