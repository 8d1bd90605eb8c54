package session

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"barrage/auth"
	"barrage/channel"
	"barrage/fanout"
	"barrage/proto"
)

// Events is one client of /sse, who only reads: a member of a channel that is written to as an event stream. Its methods may be
// called from any goroutine.
type Events struct {
	conn     Connection
	client   [16]byte // filled up with zeros
	channel  unique.Handle[string]
	identity *auth.Identity // nil without authentication
	ended    atomic.Bool    // the last bytes were sent
	gone     bool           // owner: placing
	entered  bool           // owner: placing; the backend knows of the client

	placing  sync.Mutex // held while the backend is told; before mu
	mu       sync.Mutex
	greeting *[]byte // owner: mu; what goes out before anything else; nil once it was sent
}

// Init makes e a session that is not a member yet: Format, User and Deflated of o do not matter, and the greeting, the head of the answer,
// must not be empty. A session is not to be copied. From then on it may be found by others, and asked to end: what it says then follows the
// greeting.
func (e *Events) Init(o Options) {
	greeting := o.Greeting // and not all of o is kept
	e.conn, e.greeting = o.Connection, &greeting
	copy(e.client[:], o.Client)
	e.channel, e.identity = unique.Make(o.Channel), o.Identity
}

// Start joins the channel as q asks. It is called at most once; not for a client that must not join, whose session just ends.
func (e *Events) Start(q *proto.JoinQuery) {
	r := channel.JoinRequest{
		Start:  channel.Start{Since: q.Since, Epoch: q.Epoch, Last: q.Last},
		Format: SSE, Outlet: e.conn.Outlet(), Ready: e.ready,
	}
	if (q.Since != nil || q.Last > 0) && !e.mayReadHistory() {
		r.Start = channel.Start{}
		r.Ready = func(j channel.Joined) bool { return e.ready(withoutHistory(j)) }
	}
	e.conn.Server().Backend.Join(e.channel.Value(), r)
}

// mayReadHistory says whether the client may be given what was published before.
func (e *Events) mayReadHistory() bool {
	policy, id, name := e.conn.Server().Policy, e.identity, e.channel.Value()
	if policy == nil {
		return true
	}
	if id == nil {
		id = &anonymous
	}
	return policy.Allow(id, auth.Request{Action: auth.History, Channel: name, Subscribed: true}) == nil
}

// How long an EventSource waits before it connects again, in milliseconds: each stream is told a value between these, so that
// those who lost their node do not all come back at once. While the journal is away it is unavailableRetry times as long.
const (
	minRetry, maxRetry = 1000, 4000
	unavailableRetry   = 4
)

// Retry is such a value, in milliseconds.
func Retry() int { return minRetry + rand.IntN(maxRetry-minRetry) }

func (e *Events) ready(j channel.Joined) bool {
	if j.Err != nil {
		last := proto.AppendRetry(nil, unavailableRetry*Retry())
		e.end(proto.AppendComment(last, proto.CloseUnavailable.Reason))
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.greeting; first != nil {
		e.greeting = nil
		e.conn.Outlet().Send(e.appendWelcome(proto.AppendRetry(*first, Retry()), j))
		if e.identity != nil {
			go e.arrive() // the channel is locked
		}
	}
	return true
}

// appendWelcome appends what a client is told when it is joined. Its id is where the stream begins, so that a client that loses
// its connection before the first message misses none.
func (e *Events) appendWelcome(dst []byte, j channel.Joined) []byte {
	at := &proto.Position{Epoch: j.Epoch, Offset: j.Next - 1}
	if j.Live {
		at = nil
	}
	if j.Reset {
		dst = proto.AppendEvent(dst, "reset", at, func(b []byte) []byte {
			return proto.AppendReset(b, proto.Reset{Epoch: at.Epoch, Offset: at.Offset, Reason: j.Reason})
		})
	}
	w := proto.Welcome{
		Node: e.conn.Server().Node, Client: e.id(), Channel: e.channel.Value(), Epoch: j.Epoch, Offset: j.Offset, Live: j.Live,
		User: e.User(), Expires: unix(e.expires()),
	}
	return proto.AppendEvent(dst, "welcome", at, func(b []byte) []byte { return proto.AppendWelcome(b, w) })
}

func (e *Events) id() string { return string(bytes.TrimRight(e.client[:], "\x00")) }

// Greeted says whether the greeting was sent. Before that nothing may be sent past the session.
func (e *Events) Greeted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.greeting == nil
}

// Full is false: what a client sends is not read.
func (e *Events) Full() bool { return false }

// Message passes over what a client sends.
func (e *Events) Message([]byte) (rest []byte) { return nil }

var pingComment = proto.AppendComment(nil, "ping")

// Ping is a comment, which keeps proxies from taking the stream for dead. Nothing answers it.
func (e *Events) Ping() []byte { return pingComment }

// End ends the stream after what was sent. A client that is to come back is told by a comment why; one that is not, by an
// event: an EventSource connects again unless its page closes it. Only the first call has an effect, and reports true.
func (e *Events) End(c proto.Close) (first bool) {
	if c.Reconnect() {
		return e.end(proto.AppendComment(nil, fmt.Sprintf("bye %d %s", c.Code, c.Reason)))
	}
	return e.end(proto.AppendEvent(nil, "close", nil, func(b []byte) []byte {
		b = append(b, `{"close":{"code":`...)
		b = strconv.AppendUint(b, uint64(c.Code), 10)
		b = append(b, `,"reason":`...)
		b = proto.AppendJSONString(b, c.Reason)
		return append(b, `}}`...)
	}))
}

// end sends the last bytes.
func (e *Events) end(last []byte) (first bool) {
	if e.ended.Swap(true) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.greeting; first != nil {
		e.greeting = nil
		last = append(*first, last...)
	}
	e.conn.Outlet().End(last)
	return true
}

// Leave is End: nothing is ever under way.
func (e *Events) Leave(c proto.Close) { e.End(c) }

// arrive tells the backend that the client is there.
func (e *Events) arrive() {
	e.placing.Lock()
	defer e.placing.Unlock()
	if e.gone {
		return
	}
	e.entered = true
	name, server := e.channel.Value(), e.conn.Server()
	announce := false
	if server.Policy != nil {
		ns, _, _ := server.Policy.Of(name)
		announce = ns.JoinLeave
	}
	server.Backend.Enter(name, proto.MemberInfo{
		User: e.identity.User, Client: e.id(), Info: e.identity.Info, ChanInfo: e.identity.Subs[name].Info,
	}, announce)
}

// Gone says that the connection has ended. Nothing is called after it.
func (e *Events) Gone() {
	e.placing.Lock()
	defer e.placing.Unlock()
	e.gone = true
	if e.entered {
		e.conn.Server().Backend.Exit(e.channel.Value(), e.id())
	}
}

// User is the id of the client's user; empty for an anonymous one.
func (e *Events) User() string {
	if e.identity == nil {
		return ""
	}
	return e.identity.User
}

// expires is until when the client's identity counts; zero for ever.
func (e *Events) expires() time.Time {
	if e.identity == nil {
		return time.Time{}
	}
	return expiry(e.identity, e.channel.Value())
}

// Control does what the server API asks of the connection, if it concerns it, and reports whether it did. An identity is immutable,
// so a token's new end is not taken: the client comes back with a token of its own.
func (e *Events) Control(c proto.Control) bool {
	switch {
	case c.Kind == proto.ControlDisconnect:
		how := proto.CloseForced
		if c.Code != 0 {
			how = proto.Close{Code: c.Code, Reason: c.Reason}
		}
		e.End(how)
	case c.Kind == proto.ControlUnsubscribe && (c.Channel == "" || c.Channel == e.channel.Value()):
		e.End(unsubscribed(c))
	case c.Kind == proto.ControlRefresh && c.Expired:
		e.End(proto.CloseExpired)
	default:
		return false
	}
	return true
}

// Info describes the connection.
func (e *Events) Info() proto.ConnectionInfo {
	info := proto.ConnectionInfo{
		Node: e.conn.Server().Node, Client: e.id(), User: e.User(), Protocol: "sse", Channels: []string{e.channel.Value()},
	}
	if e.identity != nil {
		info.Info = e.identity.Info
	}
	return info
}

// Expire ends a stream whose token has expired, and returns how long to wait until that must be looked at again; 0 for as long as
// one likes.
func (e *Events) Expire(now time.Time) (after time.Duration) {
	expires := e.expires()
	if expires.IsZero() || e.ended.Load() {
		return 0
	}
	if after = expires.Sub(now); after > 0 {
		return after
	}
	e.End(proto.CloseExpired.With("the token has expired; connect again with a new one"))
	return 0
}

// String names the session in logs.
func (e *Events) String() string {
	return fmt.Sprintf("client %s of the event stream of %q", e.id(), e.channel.Value())
}

// LogValue keeps a logger from looking into the session.
func (e *Events) LogValue() slog.Value { return slog.StringValue(e.String()) }

// eventCodec writes a message line as an event whose id is the message's position. It has none in a live channel.
type eventCodec struct{}

// AppendFrameAt implements channel.PositionCodec.
func (eventCodec) AppendFrameAt(dst []byte, _ string, epoch proto.Epoch, m *proto.Message) []byte {
	at := &proto.Position{Epoch: epoch, Offset: m.Offset}
	if m.Offset == 0 {
		at = nil
	}
	return proto.AppendEvent(dst, "", at, func(b []byte) []byte { return proto.AppendMessage(b, m) })
}

// AppendFrame implements channel.Codec: a message of an epoch that is not known.
func (c eventCodec) AppendFrame(dst []byte, name string, m *proto.Message) []byte {
	return c.AppendFrameAt(dst, name, "", m)
}

func (eventCodec) Reset(_ string, p proto.Position, reason string) fanout.Notice {
	return fanout.Notice{Frames: proto.AppendEvent(nil, "reset", &p, func(b []byte) []byte {
		return proto.AppendReset(b, proto.Reset{Epoch: p.Epoch, Offset: p.Offset, Reason: reason})
	})}
}

func (eventCodec) Skipped(_ string, n uint64) fanout.Notice {
	return fanout.Notice{Frames: proto.AppendEvent(nil, "skipped", nil, func(b []byte) []byte {
		return proto.AppendSkipped(b, proto.Skipped{Count: n})
	})}
}
