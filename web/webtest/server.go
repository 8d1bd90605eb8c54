// Package webtest is a small server that speaks the plain protocol of PROTOCOL.md around the live page, for tests of
// the page in a real browser and for working on it. It keeps everything in memory, in one lock, and is told when to
// misbehave: drop its connections, refuse new ones, forget its history, swallow acknowledgements, ask for tokens.
package webtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"barrage/web"

	"github.com/gorilla/websocket"
)

// Message is one stored message as it is sent.
type Message struct {
	Offset int             `json:"offset"`
	Time   int64           `json:"time"`
	User   string          `json:"user,omitempty"`
	Client string          `json:"client,omitempty"`
	Data   json.RawMessage `json:"data"`
}

// Server serves the page and one channel per name. Its methods may be called from any goroutine.
type Server struct {
	*httptest.Server
	upgrader websocket.Upgrader

	mu          sync.Mutex
	rooms       map[string]*room
	connections int // ever accepted; also the next client id
	refuse      bool
	swallowAcks bool
	tokens      map[string]string // token → user; nil while anyone may come in
	node        string
}

type room struct {
	epoch    string
	messages []Message
	first    int            // the least offset that is kept
	keys     map[string]int // idempotency key → offset
	members  map[*member]bool
}

// member is one connection. Its out queue is unbounded in spirit: 64k lines, then the connection is dropped.
type member struct {
	id, name string // name is what its messages carry
	user     string // of its token
	conn     *websocket.Conn
	out      chan string
	done     chan struct{}
	once     sync.Once
}

// New starts a server. Close it with Close.
func New() *Server {
	s := &Server{rooms: make(map[string]*room), node: "a", upgrader: websocket.Upgrader{Subprotocols: []string{"barrage"}}}
	page := web.Handler()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if channel, ok := strings.CutPrefix(r.URL.Path, "/ws/"); ok {
			s.serve(w, r, channel)
			return
		}
		page.ServeHTTP(w, r)
	}))
	return s
}

// Close drops every connection and stops the server.
func (s *Server) Close() {
	s.Drop(1001)
	s.Server.Close()
}

// Publish stores and sends one message; data is any value that encodes to JSON.
func (s *Server) Publish(channel, user string, data any) int {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("webtest: %v does not encode: %v", data, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store(s.room(channel), Message{User: user, Data: raw})
}

// PublishAt is Publish with a time of its own, without sending: for a past.
func (s *Server) PublishAt(channel, user string, data any, at time.Time) {
	raw, _ := json.Marshal(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.room(channel)
	r.messages = append(r.messages, Message{Offset: len(r.messages) + r.first, Time: at.UnixMilli(), User: user, Data: raw})
}

// Messages returns what a channel holds.
func (s *Server) Messages(channel string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.room(channel).messages...)
}

// Members is the number of connections of a channel.
func (s *Server) Members(channel string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.room(channel).members)
}

// Accepted is the number of connections ever accepted.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections
}

// Refuse makes the server answer handshakes with 503, or accept them again.
func (s *Server) Refuse(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = on
}

// SwallowAcks stores publishes without acknowledging them, or acknowledges them again.
func (s *Server) SwallowAcks(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swallowAcks = on
}

// Expired is the user of a token that has expired.
const Expired = "\x00expired"

// Tokens lets in, from now on, only who shows one of these tokens, as the user that it maps to: others are closed with 3500,
// and who shows a token of Expired with 3005. Connections that are there stay.
func (s *Server) Tokens(users map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = maps.Clone(users)
}

// Drop ends all connections: with a close code, or with 0 without a word.
func (s *Server) Drop(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rooms {
		for m := range r.members {
			if code != 0 {
				frame := websocket.FormatCloseMessage(code, "")
				_ = m.conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(time.Second))
			}
			m.close()
			delete(r.members, m)
		}
	}
}

// Forget gives a channel a new epoch in which only the last keep messages are left, renumbered from 1.
func (s *Server) Forget(channel string, keep int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.room(channel)
	r.epoch += "x"
	r.messages = append([]Message(nil), r.messages[len(r.messages)-keep:]...)
	for i := range r.messages {
		r.messages[i].Offset = i + 1
	}
}

func (s *Server) room(channel string) *room {
	r := s.rooms[channel]
	if r == nil {
		r = &room{epoch: "e", first: 1, keys: make(map[string]int), members: make(map[*member]bool)}
		s.rooms[channel] = r
	}
	return r
}

func (r *room) head() int { return r.first + len(r.messages) - 1 }

// page returns up to limit messages with offsets from..to, the last ones of them when fromEnd.
func (r *room) page(from, to, limit int, fromEnd bool) (list []Message, more bool) {
	from, to = max(from, r.first), min(to, r.head())
	if from > to {
		return []Message{}, false
	}
	if to-from+1 > limit {
		more = true
		if fromEnd {
			from = to - limit + 1
		} else {
			to = from + limit - 1
		}
	}
	return r.messages[from-r.first : to-r.first+1], more
}

func (s *Server) store(r *room, m Message) int {
	m.Offset, m.Time = r.head()+1, time.Now().UnixMilli()
	r.messages = append(r.messages, m)
	for to := range r.members {
		to.send("message", m)
	}
	return m.Offset
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, channel string) {
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	if refuse {
		http.Error(w, "refused", http.StatusServiceUnavailable)
		return
	}
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	user, why := s.identify(r)
	if why != nil {
		_ = conn.WriteControl(websocket.CloseMessage, why, time.Now().Add(time.Second))
		conn.Close()
		return
	}
	m := &member{name: cmp.Or(user, r.FormValue("name")), user: user, conn: conn, out: make(chan string, 1<<16), done: make(chan struct{})}
	go m.write()
	room := s.join(m, channel, r)
	for {
		_, frame, err := conn.ReadMessage()
		if err != nil {
			break
		}
		for line := range strings.SplitSeq(string(frame), "\n") {
			s.command(room, m, line)
		}
	}
	s.mu.Lock()
	delete(room.members, m)
	s.mu.Unlock()
	m.close()
}

// identify returns the user of a handshake, and the close frame for one that may not come in.
func (s *Server) identify(r *http.Request) (user string, why []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens == nil {
		return "", nil
	}
	token := ""
	for _, p := range websocket.Subprotocols(r) {
		if t, ok := strings.CutPrefix(p, "barrage.bearer."); ok {
			token = t
		}
	}
	switch user = s.tokens[token]; user {
	case "":
		return "", websocket.FormatCloseMessage(3500, "a token is needed")
	case Expired:
		return "", websocket.FormatCloseMessage(3005, "the token has expired")
	}
	return user, nil
}

// join sends the reset, the welcome and the past, and makes m a member: in one lock, so without gap or repeat.
func (s *Server) join(m *member, channel string, req *http.Request) *room {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.room(channel)
	s.connections++
	m.id = "c" + strconv.Itoa(s.connections) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	head, from := r.head(), r.head()+1
	if last, err := strconv.Atoi(req.FormValue("last")); err == nil {
		from = max(r.first, head-last+1)
	}
	if since, err := strconv.Atoi(req.FormValue("since")); err == nil {
		epoch := req.FormValue("epoch")
		if since > head || since+1 < r.first || epoch != "" && epoch != r.epoch {
			m.send("reset", map[string]any{"epoch": r.epoch, "offset": head, "reason": "the position is not known"})
		} else {
			from = since + 1
		}
	}
	welcome := map[string]any{"node": s.node, "client": m.id, "channel": channel, "epoch": r.epoch, "offset": head}
	if m.user != "" {
		welcome["user"] = m.user
	}
	m.send("welcome", welcome)
	past, _ := r.page(from, head, 1<<30, false)
	for _, message := range past {
		m.send("message", message)
	}
	r.members[m] = true
	return r
}

type command struct {
	Publish *struct {
		Data json.RawMessage `json:"data"`
		ID   string          `json:"id"`
	} `json:"publish"`
	History *struct {
		Since  *int   `json:"since"`
		Before *int   `json:"before"`
		Limit  int    `json:"limit"`
		ID     string `json:"id"`
	} `json:"history"`
	Info *struct {
		ID string `json:"id"`
	} `json:"info"`
	Ping *struct{} `json:"ping"`
}

func (s *Server) command(r *room, m *member, line string) {
	var c command
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		m.send("error", map[string]any{"code": 107, "message": err.Error(), "retry": false})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.Publish != nil:
		s.publish(r, m, c.Publish.ID, c.Publish.Data)
	case c.History != nil:
		h := c.History
		from, to := 1, r.head()
		if h.Since != nil {
			from = *h.Since + 1
		}
		if h.Before != nil {
			to = *h.Before - 1
		}
		list, more := r.page(from, to, h.Limit, h.Since == nil)
		m.send("history", map[string]any{"id": h.ID, "epoch": r.epoch, "offset": r.head(), "messages": list, "more": more})
	case c.Info != nil:
		m.send("info", map[string]any{"id": c.Info.ID, "members": len(r.members), "nodes": 1})
	case c.Ping != nil:
		m.send("pong", struct{}{})
	}
}

func (s *Server) publish(r *room, m *member, id string, data json.RawMessage) {
	if string(data) == `"refuse me"` {
		m.send("error", map[string]any{"code": 106, "message": "limit exceeded", "id": id, "retry": false})
		return
	}
	offset, repeated := r.keys[id]
	if !repeated {
		offset = s.store(r, Message{User: m.name, Client: m.id, Data: data})
		if id != "" {
			r.keys[id] = offset
		}
	}
	if s.swallowAcks {
		return
	}
	ack := map[string]any{"id": id, "offset": offset}
	if repeated {
		ack["repeated"] = true
	}
	m.send("ack", ack)
}

func (m *member) send(key string, value any) {
	line, err := json.Marshal(map[string]any{key: value})
	if err != nil {
		panic("webtest: " + err.Error())
	}
	select {
	case m.out <- string(line):
	default:
		m.close()
	}
}

// write sends what is queued, all of it in one frame.
func (m *member) write() {
	for {
		select {
		case <-m.done:
			return
		case line := <-m.out:
			var frame strings.Builder
			frame.WriteString(line)
			for range len(m.out) {
				frame.WriteString("\n" + <-m.out)
			}
			if m.conn.WriteMessage(websocket.TextMessage, []byte(frame.String())) != nil {
				m.close()
				return
			}
		}
	}
}

func (m *member) close() {
	m.once.Do(func() {
		close(m.done)
		m.conn.Close()
	})
}
