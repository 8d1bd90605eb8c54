package cluster

import (
	"context"
	"encoding/json"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of Usage, in users. Those beyond are not counted across nodes; UsageDropped says how often.
const (
	maxUsers = 65_536
	// maxReportBytes is how much is in one report, before its encoding, which can make it six times as large; the rest waits for
	// the next.
	maxReportBytes = 150_000
)

const (
	reportEvery = 500 * time.Millisecond
	// retellAfter is when a number of connections is told again, though it has not changed.
	retellAfter = 10 * time.Second
	// connectionLease is how long another node's word about connections counts, while it is alive.
	connectionLease = 25 * time.Second
	// halfLife is how fast what others used is forgotten.
	halfLife = time.Second
	// minUsed and minConnections are what makes a user worth telling of.
	minUsed        = 2
	minConnections = 2
)

// breath is how many users are looked at before whoever waits for mu gets it.
const breath = 512

const kindUsage = "usage"

// Usage tells nodes what users use on the others, for limits that hold across nodes. It is gossip, and as exact as that: what
// another node saw is known here about 500 ms later, or, when the broker lost it, not at all; what it said of connections counts
// for 25 s, unless it dies or leaves before. A node does not tell of a user who
// used only 1 in the last 500 ms there, or has only 1 connection there, so that of those at most 2 a second and 1 connection for
// each other node are overlooked. Users without an id are never counted. At most 65,536 users are followed.
type Usage struct {
	cluster *Cluster
	// Dropped counts users who were not followed for want of room.
	Dropped atomic.Int64

	mu     sync.Mutex
	own    map[string]*ownUse            // owner: mu
	users  int                           // owner: mu; of them, those with a connection
	used   map[string]remoteUse          // owner: mu; what others reported
	remote map[string]map[string]heldUse // owner: mu; connections by user and node
}

// ownUse is what a user does on this node.
type ownUse struct {
	used        int // since the last report
	connections int
	told        int       // connections that others know of
	toldAt      time.Time // when they were told; zero when told is
}

// remoteUse is a sum that halves every halfLife.
type remoteUse struct {
	sum float64
	at  time.Time
}

func (r remoteUse) now(t time.Time) float64 {
	return r.sum * math.Exp2(-float64(t.Sub(r.at))/float64(halfLife))
}

// heldUse is what a node said of a user's connections there.
type heldUse struct {
	connections int
	until       time.Time
}

// usageReport is what a node tells.
type usageReport struct {
	Used        map[string]int `json:"used,omitempty"`
	Connections map[string]int `json:"connections,omitempty"`
}

// NewUsage makes the Usage of a node. Run must be called for others to hear of it.
func NewUsage(c *Cluster) *Usage {
	u := &Usage{cluster: c, own: map[string]*ownUse{}, used: map[string]remoteUse{}, remote: map[string]map[string]heldUse{}}
	c.Handle(kindUsage, u.hear)
	return u
}

// Add counts n, of whatever is limited, for a user on this node.
func (u *Usage) Add(user string, n int) {
	u.change(user, maxUsers, func(o *ownUse) { o.used += n })
}

// Connected counts a connection of a user on this node; Disconnected ends what Connected began.
func (u *Usage) Connected(user string) {
	// There are no more of them than the node has connections.
	u.change(user, math.MaxInt, func(o *ownUse) { o.connections++ })
}

// Disconnected ends what Connected began.
func (u *Usage) Disconnected(user string) {
	u.change(user, math.MaxInt, func(o *ownUse) { o.connections = max(0, o.connections-1) })
}

// change follows a user, unless limit others are followed already.
func (u *Usage) change(user string, limit int, fn func(*ownUse)) {
	if user == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	o := u.own[user]
	if o == nil {
		if len(u.own) >= limit {
			u.Dropped.Add(1)
			return
		}
		o = &ownUse{}
		u.own[user] = o
	}
	before := o.connections
	fn(o)
	switch {
	case before == 0 && o.connections > 0:
		u.users++
	case before > 0 && o.connections == 0:
		u.users--
	}
	if *o == (ownUse{}) {
		delete(u.own, user)
	}
}

// Remote is what the user used on other nodes, per second, of late: it follows a change within about two seconds.
func (u *Usage) Remote(user string) float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.used[user].now(time.Now()) * math.Ln2 / halfLife.Seconds()
}

// Connections is how many connections a user has on all nodes, as far as is known here.
func (u *Usage) Connections(user string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o := u.own[user]; o != nil {
		n = o.connections
	}
	now := time.Now()
	for node, h := range u.remote[user] {
		if now.Before(h.until) && u.cluster.alive(node) {
			n += h.connections
		}
	}
	return n
}

// Users is how many users with a user id have a connection here.
func (u *Usage) Users() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.users
}

// Run tells the others until ctx ends.
func (u *Usage) Run(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		report := u.report(time.Now())
		if len(report.Used)+len(report.Connections) > 0 {
			if b, err := json.Marshal(report); err == nil {
				_ = u.cluster.Tell(kindUsage, "", b) // lost like any gossip
			}
		}
		u.forget(time.Now())
	}
}

// pause lets others have mu after every breath. The caller holds mu, and ranges over the keys of a map: that may change meanwhile, so
// it looks up what it finds only afterwards.
func (u *Usage) pause(n int) {
	if n%breath == breath-1 {
		u.mu.Unlock()
		runtime.Gosched()
		u.mu.Lock()
	}
}

// report takes what there is to tell: the connections that others know of already too, when they were told long ago.
func (u *Usage) report(now time.Time) usageReport {
	r := usageReport{Used: map[string]int{}, Connections: map[string]int{}}
	u.mu.Lock()
	defer u.mu.Unlock()
	size, n := 0, 0
	for user := range u.own {
		if size > maxReportBytes {
			break // the rest keeps what it has, and is told next
		}
		u.pause(n)
		n++
		o := u.own[user]
		if o == nil {
			continue
		}
		if o.used >= minUsed {
			r.Used[user] = o.used
			size += len(user) + 16
		}
		o.used = 0
		told := o.connections
		if told < minConnections {
			told = 0
		}
		if told != o.told || told > 0 && now.Sub(o.toldAt) >= retellAfter {
			r.Connections[user], o.told, o.toldAt = told, told, now
			size += len(user) + 16
		}
		if o.told == 0 {
			o.toldAt = time.Time{}
		}
		if *o == (ownUse{}) {
			delete(u.own, user)
		}
	}
	return r
}

// hear takes the report of another node.
func (u *Usage) hear(q Request) ([]byte, error) {
	var r usageReport
	if err := json.Unmarshal(q.Payload, &r); err != nil {
		return nil, err
	}
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	for user, n := range r.Used {
		old, known := u.used[user]
		if n <= 0 || !known && len(u.used) >= maxUsers {
			u.Dropped.Add(1)
			continue
		}
		u.used[user] = remoteUse{old.now(now) + float64(n), now}
	}
	for user, n := range r.Connections {
		u.hold(user, q.From, heldUse{n, now.Add(connectionLease)})
	}
	return nil, nil
}

// hold keeps what a node said. The caller holds mu.
func (u *Usage) hold(user, node string, h heldUse) {
	nodes := u.remote[user]
	switch {
	case h.connections <= 0:
		if delete(nodes, node); len(nodes) == 0 {
			delete(u.remote, user)
		}
		return
	case nodes == nil && len(u.remote) >= maxUsers, len(nodes) >= maxPeers:
		u.Dropped.Add(1)
		return
	case nodes == nil:
		nodes = map[string]heldUse{}
		u.remote[user] = nodes
	}
	nodes[node] = h
}

// forget drops what counts no more.
func (u *Usage) forget(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for user := range u.used {
		u.pause(n)
		n++
		if u.used[user].now(now) < 0.1 {
			delete(u.used, user)
		}
	}
	for user := range u.remote {
		u.pause(n)
		n++
		nodes := u.remote[user]
		for node, h := range nodes {
			if !now.Before(h.until) {
				delete(nodes, node)
			}
		}
		if len(nodes) == 0 {
			delete(u.remote, user)
		}
	}
}
