package session

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"unique"

	"barrage/channel"
	"barrage/fanout"
	"barrage/proto"
)

// Events is one client of /sse, who only reads: a member of a channel that is written to as an event stream. Its methods may be
// called from any goroutine.
type Events struct {
	conn    Connection
	client  [16]byte // filled up with zeros
	channel unique.Handle[string]
	ended   atomic.Bool // the last bytes were sent

	mu       sync.Mutex
	greeting []byte // owner: mu; what goes out before anything else; nil once it was sent
}

// Init makes e a session that is not a member yet: Format, User and Deflated of o do not matter. A session is not to be copied.
func (e *Events) Init(o Options) {
	e.conn = o.Connection
	copy(e.client[:], o.Client)
	e.channel = unique.Make(o.Channel)
}

// Start joins the channel as q asks. greeting, which must not be empty, goes out before anything else, when the channel is
// ready or the session ends: the head of the answer. It is called once, before all others.
func (e *Events) Start(q *proto.JoinQuery, greeting []byte) {
	e.greeting = greeting
	e.conn.Server().Backend.Join(e.channel.Value(), channel.JoinRequest{
		Start:  channel.Start{Since: q.Since, Epoch: q.Epoch, Last: q.Last},
		Format: SSE, Outlet: e.conn.Outlet(), Ready: e.ready,
	})
}

// How long an EventSource waits before it connects again, in milliseconds: each stream is told a value between these, so that
// those who lost their node do not all come back at once. While the journal is away it is unavailableRetry times as long.
const (
	minRetry, maxRetry = 1000, 4000
	unavailableRetry   = 4
)

func retry() int { return minRetry + rand.IntN(maxRetry-minRetry) }

func (e *Events) ready(j channel.Joined) bool {
	if j.Err != nil {
		last := proto.AppendRetry(nil, unavailableRetry*retry())
		e.end(proto.AppendComment(last, proto.CloseUnavailable.Reason))
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.greeting; first != nil {
		e.greeting = nil
		e.conn.Outlet().Send(e.appendWelcome(proto.AppendRetry(first, retry()), j))
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
	return proto.AppendEvent(dst, "welcome", at, func(b []byte) []byte {
		return proto.AppendWelcome(b, proto.Welcome{
			Node: e.conn.Server().Node, Client: e.id(), Channel: e.channel.Value(), Epoch: j.Epoch, Offset: j.Offset, Live: j.Live,
		})
	})
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
	greeting := e.greeting
	e.greeting = nil
	e.conn.Outlet().End(append(greeting, last...))
	return true
}

// Leave is End: nothing is ever under way.
func (e *Events) Leave(c proto.Close) { e.End(c) }

// Gone says that the connection has ended. Nothing is called after it.
func (e *Events) Gone() {}

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
