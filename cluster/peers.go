package cluster

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// Load is how much there is on a node.
type Load struct {
	Connections int `json:"connections"`
	Channels    int `json:"channels"`
	// Users is the number of distinct users with a user id.
	Users int `json:"users"`
}

// NodeInfo is a live node.
type NodeInfo struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Uptime  time.Duration `json:"uptime"`
	Load
	// Heard is how long ago the node said this; 0 for the node itself.
	Heard time.Duration `json:"heard"`
}

// heartbeat is the body of a heartbeat.
type heartbeat struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Uptime  int64  `json:"uptime_ms"`
	Load
	// Hello asks for a heartbeat in return.
	Hello bool `json:"hello,omitempty"`
}

// maxUptime is longer than any node runs, and short enough to be counted in nanoseconds.
const maxUptime = 100 * 365 * 24 * time.Hour

// valid says whether a heartbeat can be one.
func (h *heartbeat) valid() bool {
	return len(h.Name) <= maxTextBytes && len(h.Version) <= maxTextBytes && h.Uptime >= 0 && h.Uptime <= maxUptime.Milliseconds()
}

// peer is another node.
type peer struct {
	heartbeat
	id    string
	begun time.Time // when it started, by this node's clock: the earliest time that its heartbeats tell
	since time.Time // when it was first heard of
	spoke time.Time // the last heartbeat
	heard time.Time // the last heartbeat, or when the broker came up after it, or when it went
	gone  bool      // it said goodbye, or was replaced: a heartbeat that is late must not bring it back

	heir     *peer // the one with the same name that started last, after this one; nil for none
	replaced bool  // it is gone because its heir is taken for the same node, started again
	told     bool  // the log says that it has another node's name
}

// Nodes lists the live nodes by name and id, this one among them.
func (c *Cluster) Nodes() []NodeInfo {
	now := time.Now()
	list := []NodeInfo{{ID: c.o.ID, Name: c.o.Name, Version: c.o.Version, Uptime: now.Sub(c.started), Load: c.o.Load()}}
	c.mu.Lock()
	for id, p := range c.peers {
		if p.gone {
			continue
		}
		list = append(list, NodeInfo{
			ID: id, Name: p.Name, Version: p.Version, Load: p.Load, Heard: now.Sub(p.heard),
			Uptime: time.Duration(p.Uptime)*time.Millisecond + now.Sub(p.heard),
		})
	}
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b NodeInfo) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return list
}

// Find returns the id of the live node with this id or name. Of several with one name it is the one that started last.
func (c *Cluster) Find(idOrName string) (id string, ok bool) {
	if idOrName == c.o.ID {
		return c.o.ID, true
	}
	var best *NodeInfo
	for _, n := range c.Nodes() {
		if n.ID == idOrName {
			return n.ID, true
		}
		if n.Name == idOrName && (best == nil || n.Uptime < best.Uptime) {
			best = &n
		}
	}
	if best == nil {
		return "", false
	}
	return best.ID, true
}

// beat tells one or all nodes that this one is alive.
func (c *Cluster) beat(channel string, hello bool) {
	body, err := json.Marshal(heartbeat{
		Name: c.o.Name, Version: c.o.Version, Uptime: time.Since(c.started).Milliseconds(), Load: c.o.Load(), Hello: hello,
	})
	if err == nil {
		_ = c.send(channel, frame{kind: frameHeartbeat, body: body}) // the next one comes soon
	}
}

func (c *Cluster) hearHeartbeat(f frame) {
	var h heartbeat
	if json.Unmarshal(f.body, &h) != nil || !h.valid() {
		c.stats.Bad.Add(1)
		return
	}
	now := time.Now()
	c.mu.Lock()
	p := c.peers[f.from]
	known := p != nil
	if known && p.gone && !p.replaced || !known && len(c.peers) >= maxPeers {
		c.mu.Unlock()
		return
	}
	if !known {
		p = &peer{id: f.from, begun: now, since: now}
		c.peers[f.from] = p
	}
	back := p.listen(h, known, now)
	if !known {
		c.introduce(p)
	}
	other, twins := c.namesake(p, now)
	namesake := !known || p.heir != nil
	c.mu.Unlock()
	if !known {
		c.log.Info("another node is here", "other", h.Name, "id", f.from)
	}
	if back {
		c.log.Warn("a node that was taken for replaced by another one with its name is alive", "other", h.Name, "id", f.from)
	}
	if twins {
		c.log.Warn("two live nodes have the same name; every node needs a name of its own", "other", h.Name, "id", f.from, "other_id", other)
	}
	c.answerHeartbeat(f.from, h, known)
	if namesake {
		c.stir() // there may be one to replace soon
	}
}

// listen takes what a heartbeat says of p, unless it says nothing new: it was repeated, or overtaken by a later one. back
// reports that the node was taken for replaced. The caller holds mu.
func (p *peer) listen(h heartbeat, known bool, now time.Time) (back bool) {
	if known && h.Uptime <= p.Uptime {
		return false
	}
	back = p.replaced
	p.heartbeat, p.heard, p.spoke, p.gone, p.replaced = h, now, now, false, false
	if begun := now.Add(-time.Duration(h.Uptime) * time.Millisecond); begun.Before(p.begun) {
		p.begun = begun
	}
	return back
}

// answerHeartbeat says that this node is alive, to who asks, or, when a new node has its name, to all.
func (c *Cluster) answerHeartbeat(from string, h heartbeat, known bool) {
	switch {
	case !known && h.Name == c.o.Name:
		c.guest(func() { c.beat(everyone, false) })
	case h.Hello:
		c.guest(func() { c.beat(nodePrefix+from, false) })
	}
}

func (c *Cluster) hearGoodbye(id string) {
	c.mu.Lock()
	p := c.peers[id]
	if p == nil || p.gone {
		if p != nil {
			p.replaced = false // nothing brings it back any more
		}
		c.mu.Unlock()
		return
	}
	p.gone, p.heard = true, time.Now()
	for _, a := range c.asks {
		c.miss(a, id)
	}
	name := p.Name
	c.mu.Unlock()
	c.log.Info("another node has left", "other", name, "id", id)
}

// awake begins all leases anew: this program stood still, and has not read yet what the others said meanwhile. The caller holds mu.
func (c *Cluster) awake(now time.Time) {
	for _, p := range c.peers {
		if !p.gone {
			p.heard = now
		}
	}
}

// Gone says whether another node is known to have left, or to have been replaced, within the last half minute. It never blocks.
func (c *Cluster) Gone(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[id]
	return p != nil && p.gone
}

// alive says whether another node is alive, as far as is known here.
func (c *Cluster) alive(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[id]
	return p != nil && !p.gone
}

// replacement is what the log says of a node that was replaced.
type replacement struct{ name, old, id string }

// tickPeers ends leases and returns when to look again; every heartbeat it sends one.
func (c *Cluster) tickPeers(now time.Time) (next time.Time) {
	c.mu.Lock()
	if !c.tickAt.IsZero() && now.Sub(c.tickAt) > c.o.Lease/2 {
		c.awake(now)
	}
	due := c.carrier.Shared() && !now.Before(c.beatAt) && !c.closed
	if due {
		c.beatAt = now.Add(c.o.Heartbeat)
	}
	next = c.beatAt
	if !c.carrier.Shared() {
		next = now.Add(time.Minute)
	}
	var silent []*peer
	var replaced []replacement
	for _, p := range c.peers {
		if !c.up && !p.gone {
			continue
		}
		if at, ok := c.replacedAt(p); ok && !p.gone {
			if !now.Before(at) {
				c.replace(p, now)
				replaced = append(replaced, replacement{p.Name, p.id, p.heir.id})
			} else if at.Before(next) {
				next = at
			}
		}
		if ends := c.ends(p); now.Before(ends) {
			if ends.Before(next) {
				next = ends
			}
			continue
		}
		if !p.gone {
			silent = append(silent, p)
		}
		c.forget(p)
	}
	if due {
		c.forgetSenders(now)
	}
	c.tickAt = next
	c.mu.Unlock()
	for _, p := range silent { // nobody else has them any more
		c.log.Warn("another node is not heard of any more", "other", p.Name, "id", p.id)
	}
	for _, r := range replaced {
		c.log.Info("another node was started again", "other", r.name, "old_id", r.old, "id", r.id)
	}
	if due {
		c.beat(everyone, false)
	}
	return next
}

// remembered is how long it is known that a node is gone: longer than what it told others counts for.
const remembered = 30 * time.Second

// ends is when a node that is not heard of before is to be forgotten. The caller holds mu.
func (c *Cluster) ends(p *peer) time.Time {
	if p.gone {
		return p.heard.Add(max(c.o.Lease, remembered))
	}
	return p.heard.Add(c.o.Lease)
}

// forget ends a node whose lease is over, or that was gone for as long. The caller holds mu.
func (c *Cluster) forget(p *peer) {
	delete(c.peers, p.id)
	if p.gone {
		return
	}
	p.gone = true
	for _, a := range c.asks {
		c.miss(a, p.id)
	}
}
