// Package session is one client of the plain protocols (PROTOCOL.md): what its messages ask for, and what it is answered. It
// does no I/O: messages come in, calls to the Backend and frames for the Outlet go out.
//
// Message is called by one goroutine at a time; answers may come from any. Acknowledgements come in the order of the
// publishes. At most Limit commands are under way, and none before the session is a member, nor are commands taken while half of what the
// outlet may hold waits to be read; Full says so, and the caller keeps what it has until Connection.Resume. Answers therefore never
// end a session, however slowly they are read: small ones are bounded by the commands under way, and a large one that finds
// no room is let go, and asked for again when there is some.
package session

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"barrage/auth"
	"barrage/channel"
	"barrage/fanout"
	"barrage/limit"
	"barrage/node"
	"barrage/proto"
	"barrage/ws"
)

// Wire formats: the index of a channel.Codec. Those of deflated formats follow: see DeflatedCodecs.
const (
	Raw = iota
	JSON
	SSE
	formats // how many there are
)

// overWebSocket is how many of them, the first, are for WebSockets and may be deflated.
const overWebSocket = SSE

// Limit is how many commands of one session may be under way.
const Limit = 64

// maxHistories is how many of them may be reads of history.
const maxHistories = 8

// maxDeflatedReply is the largest answer that is deflated, in bytes: that takes some milliseconds, in which the goroutine that
// gives the answer, possibly one that serves many connections, does nothing else.
const maxDeflatedReply = 256 << 10

// Backend is what a session asks for: a node.
type Backend interface {
	Publish(p node.Publication, done func(node.Published, *proto.Error))
	History(name string, q node.HistoryQuery, done func(proto.History, *proto.Error))
	Info(name string) channel.Count
	Join(name string, r channel.JoinRequest)
	Enter(name string, m proto.MemberInfo, announce bool)
	Exit(name, client string)
	Presence(name string, done func(proto.Roster, *proto.Error))
	Counts(name string, done func(proto.Counts, *proto.Error))
}

// Server is what the sessions of one server have in common.
type Server struct {
	// Node is the name that the welcome tells.
	Node    string
	Backend Backend
	// Compression is needed for sessions that are Deflated. The backend's codecs are then DeflatedCodecs of it.
	Compression *Compression
	// Policy says who may do what. Nil allows everything to everyone.
	Policy *auth.Policy
	// Tokens verifies tokens. Nil means that there is no authentication: everyone is anonymous.
	Tokens auth.Tokens
	// Limits says what is too much. Nil limits nothing.
	Limits *limit.Limiter
	// MaxPayload is the largest message of a client in bytes, which the welcome of a JSON session tells; 0 when it does not.
	MaxPayload int
}

// Connection is what a session asks of the connection that it belongs to. Its methods must not block.
type Connection interface {
	// Resume is called when the session is not full any more, once for each time that Full reported true.
	Resume()
	// Outlet and Server are always the same.
	Outlet() *fanout.Outlet
	Server() *Server
}

// Options of a session.
type Options struct {
	Connection Connection
	// Client is the id of the connection, at most 16 bytes. Channel and User are copied once for all sessions that have the
	// same.
	Client  string
	Channel string
	// Format is Raw or JSON.
	Format int
	// User is the name under which a client publishes where there is no authentication; with it clients publish under their user
	// id, and anonymous ones without a name.
	User string
	// Identity is who the client has shown to be; nil without authentication.
	Identity *auth.Identity
	// Deflated says that the client has negotiated permessage-deflate: see Server.Compression.
	Deflated bool
	// Greeting goes out before anything else, when the channel is ready or the session ends: the answer to the handshake. A client
	// that is connected is therefore joined, and misses nothing from then on.
	Greeting []byte
}

// Session is one client.
type Session struct {
	conn    Connection
	client  [16]byte // filled up with zeros
	channel unique.Handle[string]
	user    unique.Handle[string]
	format  uint8
	deflate bool // with permessage-deflate

	ended   atomic.Bool // a close frame was sent
	leaving atomic.Bool // no message is taken any more

	mu        sync.Mutex
	underway  uint8 // owner: mu; commands without an answer yet
	histories uint8 // owner: mu; of those, reads of history
	joined    bool  // owner: mu
	paused    bool  // owner: mu; Full reported true
	edge      *edge // owner: mu; nil most of the session's life

	extra *extra // owner: mu, for the pointer; nil for most that are anonymous
}

// edge is what a session has besides at its beginning and at its end, and while answers wait to be read.
type edge struct {
	greeting []byte       // what goes out before anything else; empty once it was sent
	last     *proto.Close // not nil: no message is taken any more, and so the session ends when nothing is under way
	reads    []func()     // whose answers found no room, to be done again; no more than histories
	since    time.Time    // since when the session is leaving while some of them wait, as far as it is known: see hasten
}

// Init makes s a session that is not a member yet. A session is not to be copied. From then on it may be found by others, and asked to end:
// what it says then follows the greeting.
func (s *Session) Init(o Options) {
	s.conn = o.Connection
	if len(o.Greeting) > 0 {
		s.edge = &edge{greeting: o.Greeting}
	}
	copy(s.client[:], o.Client)
	s.channel, s.user, s.format = unique.Make(o.Channel), unique.Make(o.User), uint8(o.Format)
	s.deflate = o.Deflated
	if o.Identity != nil {
		s.extra = &extra{}
		s.extra.adopt(o.Identity, o.Channel)
		// Where some have shown who they are, a name that anyone may choose would pass for a user's id.
		s.user = unique.Make(o.Identity.User)
	}
}

// key is an idempotency key as it is stored: every user's are their own, and none is one of the server API, so that nobody can
// make another's publish look like a repetition. What stands around the user's id can be in no key and no id.
func (s *Session) key(id string) string {
	if id == "" {
		return ""
	}
	return "\x01" + s.User() + "\x01" + id
}

// id is the id of the connection.
func (s *Session) id() string { return string(bytes.TrimRight(s.client[:], "\x00")) }

// New makes a session that is not a member yet.
func New(o Options) *Session {
	s := new(Session)
	s.Init(o)
	return s
}

// Start joins the channel as q asks. The welcome, and a reset before it, follow the greeting; until then the session is full. A
// client that may not do what q asks for is closed after the greeting. It is called at most once, and before any message; not for a
// client that may not do anything, whose session just ends.
func (s *Session) Start(q *proto.JoinQuery) {
	if err := s.admit(q); err != nil {
		s.End(CloseOf(err))
		return
	}
	skip := fanout.Sender(0)
	if !q.Echo {
		skip = channel.SenderOf(s.id())
	}
	r := channel.JoinRequest{
		Start:  channel.Start{Since: q.Since, Epoch: q.Epoch, Last: q.Last},
		Format: s.codec(), Outlet: s.conn.Outlet(), Skip: skip, Ready: s.ready,
	}
	if (q.Since != nil || q.Last > 0) && s.allow(auth.History) != nil { // on /ws: see admit
		r.Start, r.Ready = channel.Start{}, s.readyWithoutHistory
	}
	s.conn.Server().Backend.Join(s.channel.Value(), r)
}

// codec is the index of the codec that writes what the client is sent.
func (s *Session) codec() int {
	if s.deflate {
		return formats + int(s.format)
	}
	return int(s.format)
}

func (s *Session) ready(j channel.Joined) bool {
	switch {
	case j.Err != nil:
		s.End(proto.CloseUnavailable)
	case j.Reset && s.format == Raw:
		s.End(missed(j.Reason))
	}
	welcome := s.welcome(j)
	s.mu.Lock()
	s.greet(welcome)
	s.joined = true
	resume, x := s.resumable(), s.extra
	s.mu.Unlock()
	if resume {
		s.conn.Resume()
	}
	if x != nil && j.Err == nil && !s.ended.Load() {
		go s.arrive(x) // the channel is locked
	}
	return j.Err == nil
}

// readyWithoutHistory is ready for a client that asked for what was published before, and may not read it.
func (s *Session) readyWithoutHistory(j channel.Joined) bool { return s.ready(withoutHistory(j)) }

// withoutHistory is what a client is told that asked for what was published before, and may not read it.
func withoutHistory(j channel.Joined) channel.Joined {
	if !j.Live && j.Err == nil {
		j.Reset, j.Next, j.Reason = true, j.Offset+1, "reading the history of this channel is not allowed; the stream goes on with the next new message"
	}
	return j
}

// welcome is what a client is told when it is joined.
func (s *Session) welcome(j channel.Joined) (frames []byte) {
	if s.format == Raw {
		return nil
	}
	if j.Reset {
		frames = appendLine(frames, proto.AppendReset(nil, proto.Reset{Epoch: j.Epoch, Offset: j.Next - 1, Reason: j.Reason}))
	}
	w := proto.Welcome{
		Node: s.conn.Server().Node, Client: s.id(), Channel: s.channel.Value(), Epoch: j.Epoch, Offset: j.Offset, Live: j.Live,
		MaxPayload: s.conn.Server().MaxPayload,
	}
	if id, expires := s.identity(); id != nil {
		w.User, w.Expires = id.User, unix(expires)
	}
	return appendLine(frames, proto.AppendWelcome(make([]byte, 0, 256), w))
}

// greet sends the greeting, and frames after it, unless the session has ended. The session is locked.
func (s *Session) greet(frames []byte) {
	if first := append(s.takeGreeting(), frames...); len(first) > 0 {
		s.conn.Outlet().Send(first)
	}
}

// takeGreeting returns the greeting if it was not sent yet. The session is locked.
func (s *Session) takeGreeting() (greeting []byte) {
	if s.edge == nil {
		return nil
	}
	greeting = s.edge.greeting
	s.edge.greeting = nil
	s.trim()
	return greeting
}

// Greeted says whether the greeting was sent. Before that nothing may be sent past the session.
func (s *Session) Greeted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.edge == nil || s.edge.greeting == nil
}

func missed(reason string) proto.Close { return proto.CloseMissed.With("%s", reason) }

// Message takes one text message of the client. payload is valid only during the call. When the session becomes full within
// it, what was not taken is returned, a part of payload, to be given again once the session is not full any more.
func (s *Session) Message(payload []byte) (rest []byte) {
	if s.ended.Load() || s.leaving.Load() {
		return nil
	}
	if s.format == Raw {
		s.text(payload)
		return nil
	}
	payload = bytes.TrimSpace(payload)
	if len(payload) == 0 {
		s.fail("", proto.ErrBadRequest.With("the frame holds no command; send a JSON object such as {\"ping\":{}}"))
	}
	for first := true; len(payload) > 0 && !s.ended.Load() && !s.leaving.Load(); first = false {
		if !first && s.Full() {
			return payload
		}
		var line []byte
		line, payload, _ = bytes.Cut(payload, []byte{'\n'})
		payload = bytes.TrimLeft(payload, " \t\r\n\v\f") // each byte is looked at once: a client may send 64 KiB of them
		if line = bytes.TrimSpace(line); len(line) > 0 {
			s.line(line)
		}
	}
	return nil
}

func (s *Session) line(line []byte) {
	c, err := proto.ParseCommand(line)
	if refused := s.spend(c.Kind); refused != nil {
		s.refuse(c.ID, refused)
		return
	}
	if err != nil {
		s.fail(c.ID, asError(err))
		return
	}
	s.command(c)
}

// text publishes a text of /raw, which cannot be told otherwise than by a close that it was not.
func (s *Session) text(payload []byte) {
	err := s.allow(auth.Publish)
	if err == nil {
		err = s.spend(proto.CommandPublish)
	}
	if err == nil {
		err = s.spendPublish()
	}
	if err != nil {
		s.Leave(CloseOf(err.With("your last text was not published: %s", err.Message)))
		return
	}
	s.publish(proto.Command{Data: proto.RawToData(payload)})
}

func asError(err error) *proto.Error {
	if e, ok := errors.AsType[*proto.Error](err); ok {
		return e
	}
	return proto.ErrBadRequest.With("%s", err)
}

func (s *Session) command(c proto.Command) {
	switch c.Kind {
	case proto.CommandPublish:
		if err := s.allow(auth.Publish); err != nil {
			s.fail(c.ID, err)
			return
		}
		if err := s.spendPublish(); err != nil {
			s.refuse(c.ID, err)
			return
		}
		s.publish(c)
	case proto.CommandPing:
		s.reply(proto.AppendPong(nil, proto.Pong{ID: c.ID}))
	case proto.CommandInfo:
		s.info(c)
	case proto.CommandHistory:
		if err := s.allow(auth.History); err != nil {
			s.fail(c.ID, err)
			return
		}
		s.history(c)
	case proto.CommandPresence:
		s.presence(c)
	case proto.CommandRefresh:
		s.refresh(c)
	}
}

func (s *Session) publish(c proto.Command) {
	s.begin(0)
	p := node.Publication{Channel: s.channel.Value(), Key: s.key(c.ID), User: s.user.Value(), Client: s.id(), Data: c.Data, Attributes: s.attributes()}
	s.conn.Server().Backend.Publish(p, func(at node.Published, err *proto.Error) {
		switch {
		case err == nil && s.format == JSON:
			s.reply(proto.AppendAck(nil, proto.Ack{ID: c.ID, Offset: at.Offset, Repeated: at.Repeated, Live: at.Live}))
		case err != nil && s.format == JSON:
			s.fail(c.ID, err)
		case err != nil:
			// A raw client cannot be told otherwise that its text was not stored.
			s.End(proto.CloseUnavailable.With("your last text was not stored: %s", err.Message))
		}
		s.finish(0)
	})
}

func (s *Session) history(c proto.Command) {
	s.begin(1)
	s.readHistory(c)
}

func (s *Session) readHistory(c proto.Command) {
	q := node.HistoryQuery{Since: c.Since, Before: c.Before, Limit: c.Limit}
	s.conn.Server().Backend.History(s.channel.Value(), q, func(h proto.History, err *proto.Error) {
		if err != nil {
			s.fail(c.ID, err)
			s.finish(1)
			return
		}
		h.ID = c.ID
		s.offer(func() []byte { return proto.AppendHistory(nil, h) }, func() { s.readHistory(c) })
	})
}

// begin and finish count a command; history is 1 for a read of history.
func (s *Session) begin(history uint8) {
	s.mu.Lock()
	s.underway++
	s.histories += history
	s.mu.Unlock()
}

func (s *Session) finish(history uint8) {
	s.mu.Lock()
	s.underway--
	s.histories -= history
	resume, read := s.resumable(), s.nextRead()
	var last *proto.Close
	if s.edge != nil && s.underway == 0 {
		last = s.edge.last
	}
	s.mu.Unlock()
	if last != nil {
		s.End(*last)
	}
	if read != nil {
		go read() // a channel may be locked
	}
	if resume {
		s.conn.Resume()
	}
}

func (s *Session) fail(id string, err *proto.Error) { s.reply(proto.AppendError(nil, id, err)) }

// reply sends one line in a frame: a small answer to a command. What waits to be read is bounded, as no command is taken while there
// is no room.
func (s *Session) reply(line []byte) { s.conn.Outlet().Answer(s.frame(line)) }

// frame is one line in a frame.
func (s *Session) frame(line []byte) []byte {
	frame := appendLine(nil, line)
	if s.deflate && len(frame) <= maxDeflatedReply {
		frame = s.conn.Server().Compression.Frame(frame, 0)
	}
	return frame
}

func appendLine(dst, line []byte) []byte { return ws.AppendFrame(dst, ws.OpText, line) }

// End closes the connection with a close frame after what was sent. Messages that arrive later are ignored. Only the first
// call has an effect, and reports true.
func (s *Session) End(c proto.Close) (first bool) {
	if s.ended.Swap(true) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.Outlet().End(ws.AppendClose(s.takeGreeting(), c.Code, c.Reason))
	return true
}

// Leave ends the session with c as soon as every command under way has its answer; of a client that reads slowly, Grace later at the
// latest. Messages that arrive later are ignored. Only the first call has an effect.
func (s *Session) Leave(c proto.Close) {
	if s.leaving.Swap(true) {
		return
	}
	s.mu.Lock()
	if s.edge == nil {
		s.edge = &edge{}
	}
	s.edge.last = &c
	end := s.underway == 0
	s.mu.Unlock()
	if end {
		s.End(c)
	}
}

var pingFrame = ws.AppendFrame(nil, ws.OpPing, nil)

// Ping is a frame that the client answers.
func (s *Session) Ping() []byte { return pingFrame }

// String names the session in logs.
func (s *Session) String() string { return fmt.Sprintf("client %s in %q", s.id(), s.channel.Value()) }

// LogValue keeps a logger from looking into the session.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.String()) }
