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

// peer is another node.
type peer struct {
	heartbeat
	heard time.Time // the last heartbeat, or when the broker came up after it
	gone  bool      // it said goodbye: a heartbeat that is late must not bring it back
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
	if json.Unmarshal(f.body, &h) != nil {
		c.stats.Bad.Add(1)
		return
	}
	c.mu.Lock()
	p := c.peers[f.from]
	known := p != nil
	switch {
	case known && p.gone, !known && len(c.peers) >= maxPeers:
		c.mu.Unlock()
		return
	case !known:
		p = &peer{}
		c.peers[f.from] = p
	}
	p.heartbeat, p.heard = h, time.Now()
	c.mu.Unlock()
	if !known {
		c.log.Info("another node is here", "node", h.Name, "id", f.from)
	}
	if h.Hello {
		c.guest(func() { c.beat(nodePrefix+f.from, false) })
	}
}

func (c *Cluster) hearGoodbye(id string) {
	c.mu.Lock()
	p := c.peers[id]
	if p == nil || p.gone {
		c.mu.Unlock()
		return
	}
	p.gone, p.heard = true, time.Now()
	for _, a := range c.asks {
		c.miss(a, id)
	}
	c.mu.Unlock()
	c.log.Info("another node has left", "node", p.Name, "id", id)
}

// awake begins all leases anew: this program stood still, and has not read yet what the others said meanwhile. The caller holds mu.
func (c *Cluster) awake(now time.Time) {
	for _, p := range c.peers {
		if !p.gone {
			p.heard = now
		}
	}
}

// alive says whether another node is alive, as far as is known here.
func (c *Cluster) alive(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[id]
	return p != nil && !p.gone
}

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
	var gone []string
	for id, p := range c.peers {
		ends := p.heard.Add(c.o.Lease)
		switch {
		case !c.up && !p.gone:
		case now.Before(ends):
			if ends.Before(next) {
				next = ends
			}
		default:
			delete(c.peers, id)
			if !p.gone {
				gone = append(gone, p.Name)
				for _, a := range c.asks {
					c.miss(a, id)
				}
			}
		}
	}
	if due {
		c.forgetSenders(now)
	}
	c.tickAt = next
	c.mu.Unlock()
	for _, name := range gone {
		c.log.Warn("another node is not heard of any more", "node", name)
	}
	if due {
		c.beat(everyone, false)
	}
	return next
}
