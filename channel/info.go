package channel

import (
	"time"

	"barrage/proto"
)

// memberLease is how long another node's word about its members counts.
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
	for _, l := range c.remote {
		if l.members > 0 && h.now().Before(l.until) {
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

// Tail returns the newest messages of a channel from offset from on, if they are in memory, with the position they lead to.
func (h *Hub) Tail(name string, from proto.Offset) (messages []proto.Message, p proto.Position, ok bool) {
	c := h.lookup(name)
	if c == nil {
		return nil, p, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seq.IsOpen() {
		return nil, p, false
	}
	messages, ok = c.tail.from(from)
	return append([]proto.Message(nil), messages...), c.seq.Position(), ok
}
