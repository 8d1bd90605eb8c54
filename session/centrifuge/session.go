package centrifuge

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/protocol"

	"barrage/auth"
	"barrage/limit"
	"barrage/proto"
	"barrage/session"
)

// maxHistories is how many of the commands under way may be reads of history, or of who is present.
const maxHistories = 8

// maxCalls is how many large answers to calls may wait for room: unlike histories they cannot be asked for again. smallCall is how large
// an answer is, in bytes, that need not wait.
const (
	maxCalls  = 8
	smallCall = 16 << 10
)

// maxDeflatedReply is the largest answer that is deflated, in bytes: that takes some milliseconds, in which the goroutine that
// gives the answer does nothing else.
const maxDeflatedReply = 256 << 10

// connectWait is how long a client may take to send connect.
const connectWait = 10 * time.Second

// Options of a session.
type Options struct {
	Connection Connection
	// Client is the id of the connection, at most 16 bytes.
	Client string
	Format Format
	// Deflated says that the client has negotiated permessage-deflate: see Server.Compression.
	Deflated bool
	// Identity is who the client is when it shows no token; nil for nobody.
	Identity *auth.Identity
}

// Session is one client.
type Session struct {
	conn    Connection
	names   limit.Bucket      // owner: Message; see unfamiliar
	use     *limit.Connection // owner: Message; nil before the first command, and where nothing is limited
	client  [16]byte          // filled up with zeros
	format  Format
	deflate bool // with permessage-deflate

	ended   atomic.Bool // the end was sent
	leaving atomic.Bool // no message is taken any more

	pings atomic.Int32  // pings that no pong has answered
	due   atomic.Uint32 // when there is something to look at, in Unix seconds; 0 for never

	mu        sync.Mutex
	state     state          // owner: mu
	underway  uint8          // owner: mu; commands without an answer yet
	histories uint8          // owner: mu; of those, reads of history
	paused    bool           // owner: mu; Full reported true
	admitted  bool           // owner: mu; the connection is known by its user
	count     uint16         // owner: mu; of subs
	identity  *auth.Identity // owner: mu; nil for nobody
	subs      *subscription  // owner: mu, which is held while the backend is told of a change; the first of a list
	edge      *edge          // owner: mu; nil most of the session's life
}

// edge is what a session has besides at its end, and while answers wait to be read.
type edge struct {
	last  *proto.Close // not nil: the session is leaving, and so it ends when nothing is under way
	later []func()     // answers that found no room, to be tried again; no more than histories and calls
	calls uint8        // of those, answers to calls, at most maxCalls
	since time.Time    // since when the session is leaving while some wait, as far as it is known: see hasten
}

// state is how far a session has come.
type state uint8

const (
	fresh      state = iota // connect is expected
	connecting              // connect is under way, nothing else is taken
	connected
	refused // connect was answered with an error
	gone    // the connection has ended
)

// Init makes s a session that is not connected yet. A session is not to be copied.
func (s *Session) Init(o Options) {
	s.conn, s.format, s.deflate, s.identity = o.Connection, o.Format, o.Deflated, o.Identity
	copy(s.client[:], o.Client)
	s.dueAt(o.Connection.Centrifuge().now().Add(connectWait))
}

// id is the id of the connection.
func (s *Session) id() string { return string(bytes.TrimRight(s.client[:], "\x00")) }

func (s *Session) server() *Server { return s.conn.Centrifuge() }

func (s *Session) backend() session.Backend { return s.conn.Centrifuge().Backend }

// codec is the index of the codec that writes what the client is pushed.
func (s *Session) codec() int {
	if s.deflate {
		return s.server().First + int(formats+s.format)
	}
	return s.server().First + int(s.format)
}

func (s *Session) wire() wire { return wires[s.format] }

// Full reports whether Message must not be called; Connection.Resume is called later if so. A session that has ended is never
// full: what it is given is ignored.
func (s *Session) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = !s.ended.Load() && (s.state == connecting || s.underway >= session.Limit || s.histories >= maxHistories || !s.roomy())
	return s.paused
}

// resumable says whether to call Resume now. The session is locked.
func (s *Session) resumable() bool {
	if !s.paused || s.state == connecting || s.underway > session.Limit/2 || s.histories > maxHistories/2 || !s.roomy() {
		return false
	}
	s.paused = false
	return true
}

// Message takes one message of the client, which holds any number of commands. payload is valid only during the call. When the
// session becomes full within it, what was not taken is returned, a part of payload, to be given again once the session is not
// full any more.
func (s *Session) Message(payload []byte) (rest []byte) {
	e := s.wire().encoding
	for first := true; first || len(payload) > 0; first = false {
		if s.ended.Load() || s.leaving.Load() {
			return nil
		}
		if !first && s.Full() {
			return payload
		}
		command, after, ok := e.cut(payload)
		if !ok {
			s.End(proto.CloseBadRequest)
			return nil
		}
		c, err := e.parse(command)
		if err != nil {
			s.End(proto.CloseBadRequest)
			return nil
		}
		payload = after
		s.command(c)
	}
	return nil
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
	resume, next := s.resumable(), s.nextAnswer()
	var last *proto.Close
	if s.edge != nil && s.underway == 0 {
		if last = s.edge.last; last == nil {
			s.edge = nil
		}
	}
	s.mu.Unlock()
	if last != nil {
		s.End(*last)
	}
	if next != nil {
		go next() // a channel may be locked
	}
	if resume {
		s.conn.Resume()
	}
}

func (s *Session) fail(id uint32, err *proto.Error) { s.reply(failure(id, err)) }

// reply sends one reply in a frame: a small answer to a command. What waits to be read is bounded, as no command is taken while there
// is no room.
func (s *Session) reply(r *protocol.Reply) { s.conn.Outlet().Answer(s.frame(r)) }

// frame is one reply in a frame.
func (s *Session) frame(r *protocol.Reply) []byte { return s.deflated(s.wire().reply(r)) }

// deflated is a frame as it goes out.
func (s *Session) deflated(frame []byte) []byte {
	w := s.wire()
	if s.deflate && len(frame) <= maxDeflatedReply {
		frame = w.deflate(frame, 0, s.server().Compression)
	}
	return frame
}

// push sends what the client did not ask for. One that lets too much pile up is closed.
func (s *Session) push(p *protocol.Push) {
	if out := s.conn.Outlet(); out.Send(s.frame(&protocol.Reply{Push: p})) || out.Pending() == 0 { // with nothing pending the connection is gone
		return
	}
	s.tooSlow()
}

// End closes the connection after what was sent. Messages that arrive later are ignored. Only the first call has an effect, and
// reports true.
func (s *Session) End(c proto.Close) (first bool) {
	if s.ended.Swap(true) {
		return false
	}
	w := s.wire()
	s.conn.Outlet().End(w.closing(w.encoding, c))
	return true
}

// Leave ends the session with c as soon as every command under way has its answer; of a client that reads slowly, session.Grace later at the
// latest. Messages that arrive later are ignored, and so is what is left of the one that is being taken. Only the first call has an
// effect.
func (s *Session) Leave(c proto.Close) {
	if s.leaving.Swap(true) {
		return
	}
	s.mu.Lock()
	s.ensure().last = &c
	end := s.underway == 0
	s.mu.Unlock()
	if end {
		s.End(c)
	}
}

// Greeted says whether the handshake has been answered: always.
func (s *Session) Greeted() bool { return true }

// Ping is a frame that the client answers.
func (s *Session) Ping() []byte {
	w := s.wire()
	s.pings.Add(1)
	return w.append(nil, func(b []byte) []byte { return append(b, w.ping()...) })
}

// pong takes the answer to a ping. One that answers none ends the session.
func (s *Session) pong() {
	for {
		n := s.pings.Load()
		if n == 0 {
			s.End(proto.CloseBadRequest.With("a pong that answers no ping"))
			return
		}
		if s.pings.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// Gone says that the connection has ended. Nothing is called after it.
func (s *Session) Gone() {
	s.ended.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = gone
	for s.subs != nil {
		s.remove(s.subs)
	}
}

// String names the session in logs.
func (s *Session) String() string {
	return fmt.Sprintf("client %s of %s", s.id(), s.wire().name())
}

// LogValue keeps a logger from looking into the session.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// User is the id of the client's user; empty for an anonymous one, and before it was admitted. Afterwards it never changes.
func (s *Session) User() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.admitted {
		return ""
	}
	return s.whoLocked().User
}

// Info is what the server API tells of the connection. Node is left to the caller.
func (s *Session) Info() proto.ConnectionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := proto.ConnectionInfo{Client: s.id(), Protocol: s.wire().name()}
	if s.identity != nil {
		i.User, i.Info = s.identity.User, s.identity.Info
	}
	for sub := s.subs; sub != nil; sub = sub.next {
		if sub.state != dropped {
			i.Channels = append(i.Channels, sub.name())
		}
	}
	return i
}
