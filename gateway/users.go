package gateway

import (
	"slices"
	"time"

	"barrage/proto"
	"barrage/session"
	"barrage/session/centrifuge"
)

// known is a peer whose connection can be found by its user. Its methods may be called from any goroutine.
type known interface {
	// User is the id of its user, empty for an anonymous one. It never changes once the connection is enrolled.
	User() string
	// Control does what the server API asks of the connection, and reports whether that concerned it.
	Control(c proto.Control) bool
	// Info describes it.
	Info() proto.ConnectionInfo
}

// All that show who they are are found: one that did not fit would be passed over in silence, and its place never be given back.
var (
	_ known = (*session.Session)(nil)
	_ known = (*session.Events)(nil)
	_ known = (*centrifuge.Session)(nil)
)

// expiring is a peer that may have shown a token.
type expiring interface {
	// Expire ends a session whose token has expired, and returns how long to wait until that must be looked at again; 0 for as
	// long as one likes.
	Expire(now time.Time) (after time.Duration)
}

// begin joins the connection. It is found by its user before it is greeted: whoever has read the greeting is reached by what the server
// API asks next. That the greeting goes out first, even so, is the session's part. A client that is refused is greeted and closed: a
// page is told nothing of an answer by HTTP, and would take it for a failure of the network.
func (g *Gateway) begin(p *plainConn, a *admission) {
	user := p.session.User()
	if a.refused == nil {
		a.refused = g.reserve(user)
	}
	if a.refused != nil {
		g.stats.Denied.Add(1)
		p.denied = true
		p.session.End(session.CloseOf(a.refused))
		return
	}
	g.enroll(&p.conn, user)
	p.session.Start(&a.query)
}

// personal is what a user has on this node.
type personal struct {
	count int     // connections that are there or about to be
	conns []*conn // those that are there, each at conn.mine
}

// reserve makes room for one connection of a user; the error is for the client. withdraw gives it back.
func (g *Gateway) reserve(user string) *proto.Error {
	if user == "" {
		return nil
	}
	g.mu.Lock()
	p := g.users[user]
	if p == nil {
		p = &personal{}
		g.users[user] = p
	}
	here := p.count
	p.count++
	g.mu.Unlock()
	err := g.Limits.Connected(user, here) // not with everybody waiting for g.mu
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.giveBack(user, p)
	}
	return err
}

// giveBack gives back the room of one connection. The caller holds mu.
func (g *Gateway) giveBack(user string, p *personal) {
	if p.count--; p.count == 0 {
		delete(g.users, user)
	}
}

// enroll lets a connection be found by its user, for whom reserve has made room.
func (g *Gateway) enroll(c *conn, user string) {
	if user == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.users[user]
	c.mine = int32(len(p.conns))
	p.conns = append(p.conns, c)
}

// withdraw undoes reserve, and enroll if that was called.
func (g *Gateway) withdraw(c *conn, user string) {
	if user == "" {
		return
	}
	g.Limits.Disconnected(user)
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.users[user]
	if i := int(c.mine); i < len(p.conns) && p.conns[i] == c { // the last one takes its place
		last := len(p.conns) - 1
		p.conns[i], p.conns[last].mine = p.conns[last], c.mine
		p.conns[last] = nil
		p.conns = p.conns[:last]
	}
	g.giveBack(user, p)
}

// of returns the connections of a user.
func (g *Gateway) of(user string) (all []known) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.users[user]; p != nil && user != "" {
		for _, c := range p.conns {
			if k, ok := c.client.(known); ok {
				all = append(all, k)
			}
		}
	}
	return all
}

// Control does what the server API asks of a user's connections on this node, and returns how many that concerned. What is closed by it
// is closed once the commands under way have their answers.
func (g *Gateway) Control(c proto.Control) (n int) {
	for _, k := range g.of(c.User) {
		client := k.Info().Client
		if c.Client != "" && c.Client != client || slices.Contains(c.Except, client) {
			continue
		}
		if k.Control(c) {
			n++
		}
	}
	return n
}

// Connections describes the connections of a user on this node.
func (g *Gateway) Connections(user string) (list []proto.ConnectionInfo) {
	for _, k := range g.of(user) {
		list = append(list, k.Info())
	}
	return list
}
