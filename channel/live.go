package channel

import (
	"time"

	"barrage/fanout"
	"barrage/proto"
)

// IsLive says whether a channel stores nothing.
func (h *Hub) IsLive(name string) bool { return h.namespaces.Of(name).Live }

// DeliverLive gives messages to the members of a live channel: published here, or heard from the broker. They must be in the
// order in which each publisher gave them. Messages of channels without members are ignored.
func (h *Hub) DeliverLive(name string, messages []proto.Message) {
	h.HearLive(name, "", 0, messages)
}

// HearLive is DeliverLive for a payload of another node: one with the number of an earlier one, or a smaller one, was repeated or
// is late, and is dropped.
func (h *Hub) HearLive(name, node string, number uint64, messages []proto.Message) {
	c := h.lookup(name)
	switch {
	case c == nil:
	case !c.live:
		h.stats.Strays.Add(int64(len(messages)))
	case c.pass(node, number, messages):
		h.stats.Live.Add(int64(len(messages)))
	default:
		h.stats.Dropped.Add(int64(len(messages)))
	}
}

// pass appends messages to the byte logs, unless they are another node's and not new.
func (c *Channel) pass(node string, number uint64, messages []proto.Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if node != "" && !c.isNew(node, number) {
		return false
	}
	for format, f := range c.feeds {
		if f != nil && f.Members() > 0 {
			c.scratch.encode(c.hub.codecs[format], c.name, "", messages)
			f.Append(c.scratch.entries...)
		}
	}
	c.scratch.release()
	return true
}

// hearing is what a live channel has last heard of another node.
type hearing struct {
	number uint64
	at     time.Time
}

// isNew says whether number is above what the node sent before. The channel is locked.
func (c *Channel) isNew(node string, number uint64) bool {
	if number <= c.heard[node].number {
		return false
	}
	if c.heard == nil {
		c.heard = map[string]hearing{}
	}
	c.heard[node] = hearing{number, c.hub.now()}
	return true
}

// forgetAfter is longer than any payload is under way.
const forgetAfter = 5 * time.Minute

// forgetNodes forgets the nodes that have not been heard of for long. The channel is locked.
func (c *Channel) forgetNodes(now time.Time) {
	for node, h := range c.heard {
		if now.Sub(h.at) > forgetAfter {
			delete(c.heard, node)
		}
	}
}

// attach makes a member of a live channel, which begins with the next message. The channel is locked.
func (c *Channel) attach(r JoinRequest) {
	if !r.Ready(Joined{Live: true}) {
		return
	}
	f := c.feeds[r.Format]
	if f == nil {
		f = fanout.NewLiveFeed(c.hub.writers, &skipper{c.hub, c.name, r.Format}, 1)
		f.Merge(c.merge)
		c.feeds[r.Format] = f
	}
	_, next := f.Bounds()
	r.join(f, next)
}

// skipper tells members of one wire format what they will not be given.
type skipper struct {
	hub    *Hub
	name   string
	format int
}

// Skipped implements fanout.Skipper.
func (s *skipper) Skipped(n uint64) fanout.Notice {
	s.hub.stats.SkippedMembers.Add(1)
	s.hub.stats.SkippedMessages.Add(int64(n))
	return s.hub.codecs[s.format].Skipped(s.name, n)
}

// maxScratch bounds what a channel keeps between publishes, in bytes.
const maxScratch = 4 << 10

// scratch is where messages are encoded before a byte log copies them. Owner: its channel.
type scratch struct {
	buf     []byte
	entries []fanout.Entry
}

// encode writes messages of an epoch as entries, valid until the next call.
func (s *scratch) encode(codec Codec, name string, epoch proto.Epoch, messages []proto.Message) {
	s.buf, s.entries = s.buf[:0], s.entries[:0]
	at, positioned := codec.(PositionCodec)
	for i := range messages {
		start := len(s.buf)
		if positioned {
			s.buf = at.AppendFrameAt(s.buf, name, epoch, &messages[i])
		} else {
			s.buf = codec.AppendFrame(s.buf, name, &messages[i])
		}
		s.entries = append(s.entries, fanout.Entry{Frame: s.buf[start:len(s.buf):len(s.buf)], Sender: SenderOf(messages[i].Client)})
	}
}

// release lets go what a large batch needed.
func (s *scratch) release() {
	clear(s.entries)
	if cap(s.buf) > maxScratch || cap(s.entries) > maxScratch/64 {
		*s = scratch{}
	}
}
