package channel

import (
	"barrage/fanout"
	"barrage/proto"
)

// Removed takes word that the history of a channel up to and including p was removed from the journal: from now on nothing of it
// is given from memory, to readers of history or to members. A member that has not been given all of it yet is told so, as if
// retention had removed it, and goes on after p. Messages after p are not affected. Channels without members have nothing in
// memory.
func (h *Hub) Removed(name string, p proto.Position) {
	c := h.lookup(name)
	if c == nil || c.live {
		return
	}
	if life := c.forget(p); life != 0 {
		h.pages.forget(map[uint64]bool{life: true})
	}
}

// forget gives up what is in memory up to p, and returns the life whose pages are not to be used any more; 0 for none.
func (c *Channel) forget(p proto.Position) (life uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := c.seq.IsOpen()
	if open && !p.Epoch.Matches(c.seq.epoch) || p.Offset <= c.removed.Offset && p.Epoch.Matches(c.removed.Epoch) {
		return 0
	}
	c.removed = p
	if !open {
		return 0
	}
	c.tail.forget(p.Offset)
	for _, f := range c.feeds {
		if f == nil {
			continue
		}
		if first, _ := f.Bounds(); first <= fanout.Seq(p.Offset) {
			f.Skip(fanout.Seq(c.tail.next)) // members that are behind are given pages of what is left
		}
	}
	return c.life.Swap(c.hub.lives.Add(1))
}
