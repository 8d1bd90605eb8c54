package channel

import (
	"time"

	"barrage/proto"
)

// memberLease is how long another node's word about its members counts, unless it is known to be gone.
const memberLease = 25 * time.Second

// Count is how many members a channel has.
type Count struct {
	// Members on all nodes, as far as this one has heard.
	Members int
	// Nodes with members.
	Nodes int
}

// Members counts the members of a channel: its own exactly, others' by what they last told.
func (h *Hub) Members(name string) (n Count) {
	c := h.lookup(name)
	if c == nil {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.Members = c.local(); n.Members > 0 {
		n.Nodes = 1
	}
	for node, l := range c.remote {
		if l.members > 0 && h.now().Before(l.until) && (h.gone == nil || !h.gone(node)) {
			n.Members += l.members
			n.Nodes++
		}
	}
	return n
}

// RemoteMembers takes another node's word about its members of a channel.
func (h *Hub) RemoteMembers(name, node string, members int) {
	c := h.lookup(name)
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remote == nil {
		c.remote = map[string]lease{}
	}
	c.remote[node] = lease{members, h.now().Add(memberLease)}
}

// Local lists the channels of this node with their numbers of members here.
func (h *Hub) Local() map[string]int {
	counts := map[string]int{}
	for _, c := range h.all() {
		c.mu.Lock()
		counts[c.name] = c.local()
		c.mu.Unlock()
	}
	return counts
}

// Tail returns messages of a channel that are in memory. pick is told the oldest offset in memory and the head, and says which
// range it wants, [from, to), within those bounds; ok is false when it wants none or the channel is not open here.
func (h *Hub) Tail(name string, pick func(first proto.Offset, head proto.Position) (from, to proto.Offset, ok bool)) (messages []proto.Message, head proto.Position, ok bool) {
	c := h.lookup(name)
	if c == nil {
		return nil, head, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seq.IsOpen() {
		return nil, head, false
	}
	first := c.tail.first()
	from, to, ok := pick(first, c.seq.Position())
	if !ok || from < first || to > c.tail.next || from > to {
		return nil, head, false
	}
	return append([]proto.Message(nil), c.tail.messages[from-first:to-first]...), c.seq.Position(), true
}

// Channels is the number of channels in use.
func (h *Hub) Channels() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.channels)
}
