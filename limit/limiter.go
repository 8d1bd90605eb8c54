package limit

import (
	"net/netip"
	"sync/atomic"
	"time"

	"barrage/proto"
)

// Usage is what users use on all nodes. It is told what they use here, and tells what is reported of the others. Its methods must
// not block and may be called from any goroutine.
type Usage interface {
	// Add counts n publishes of a user here.
	Add(user string, n int)
	// Connected counts a connection of a user here; Disconnected ends what Connected began.
	Connected(user string)
	Disconnected(user string)
	// Remote is what the user publishes on other nodes, a second.
	Remote(user string) float64
	// Connections is how many connections the user has on all nodes.
	Connections(user string) int
}

// Options of a Limiter. What is zero is not limited.
type Options struct {
	// Commands and Publishes are those of one connection. A publish is a command too.
	Commands, Publishes Rate
	// UserConnections is how many connections a user may have at once, UserPublishes what all of them may publish, on all nodes
	// as far as Usage knows.
	UserConnections int
	UserPublishes   Rate
	// ChannelPublishes is what all clients of this node together may publish into a channel.
	ChannelPublishes Rate
	// AddressConnects is how often one address, or one /64 of IPv6, may connect. Loopback addresses are exempt.
	AddressConnects Rate
	// Usage knows of other nodes; nil when there are none.
	Usage Usage
}

// Stats counts refusals by what was too much.
type Stats struct {
	Commands         atomic.Int64
	Publishes        atomic.Int64
	UserPublishes    atomic.Int64
	ChannelPublishes atomic.Int64
	UserConnections  atomic.Int64
	AddressConnects  atomic.Int64
	// Closed are the connections that went on after Patience refusals.
	Closed atomic.Int64
}

// Patience is how many refusals in a row a connection may bring upon itself before it is closed.
const Patience = 100

// maxKeys bounds each table of a Limiter: some megabytes when it is full.
const maxKeys = 1 << 16

// Limiter holds the limits of one node. All methods may be called from any goroutine; those of a nil one limit nothing.
type Limiter struct {
	options   Options
	began     time.Time
	users     *Table[string]
	channels  *Table[string]
	addresses *Table[netip.Addr]
	stats     Stats
}

// New makes a Limiter.
func New(o Options) *Limiter {
	return &Limiter{
		options: o, began: time.Now(),
		users: NewTable[string](maxKeys), channels: NewTable[string](maxKeys), addresses: NewTable[netip.Addr](maxKeys),
	}
}

// Connection is the state of one connection's limits. Owner: the goroutine that takes its commands.
type Connection struct {
	commands, publishes Bucket
	refused             int // in a row
}

// Stats are the counters of refusals.
func (l *Limiter) Stats() *Stats {
	if l == nil {
		return new(Stats) // they stay at 0
	}
	return &l.stats
}

// OfCommands says whether a Connection is needed for a user, empty for an anonymous client: where nothing is limited nothing is
// counted.
func (l *Limiter) OfCommands(user string) bool {
	if l == nil {
		return false
	}
	o := &l.options
	return o.Commands.Limited() || o.Publishes.Limited() || o.ChannelPublishes.Limited() || user != "" && o.UserPublishes.Limited()
}

// Command asks for a command. The error, when there is one, says how long to wait.
func (l *Limiter) Command(c *Connection, now time.Time) *proto.Error {
	if wait := c.commands.Take(l.options.Commands, now.Sub(l.began)); wait > 0 {
		return l.refuse(c, &l.stats.Commands, wait, "this connection sends too many commands; at most %g a second are allowed", l.options.Commands)
	}
	return nil
}

// Publish asks for a publish into a channel; user is empty for an anonymous client. The error, when there is one, says how long to
// wait.
func (l *Limiter) Publish(c *Connection, user, channel string, now time.Time) *proto.Error {
	o, at := &l.options, now.Sub(l.began)
	if wait := c.publishes.Take(o.Publishes, at); wait > 0 {
		return l.refuse(c, &l.stats.Publishes, wait, "this connection publishes too much; at most %g messages a second are allowed", o.Publishes)
	}
	ofUser := Rate{}
	if user != "" && o.UserPublishes.Limited() {
		ofUser = l.share(o.UserPublishes, user)
		if wait := l.users.Take(user, ofUser, at); wait > 0 {
			c.publishes.Give(o.Publishes)
			return l.refuse(c, &l.stats.UserPublishes, wait, "you publish too much; at most %g messages a second are allowed, on all your connections", o.UserPublishes)
		}
	}
	if o.ChannelPublishes.Limited() {
		if wait := l.channels.Take(channel, o.ChannelPublishes, at); wait > 0 {
			c.publishes.Give(o.Publishes)
			l.users.Give(user, ofUser)
			return l.refuse(c, &l.stats.ChannelPublishes, wait, "too much is published into this channel; at most %g messages a second are allowed", o.ChannelPublishes)
		}
	}
	if o.Usage != nil && user != "" {
		o.Usage.Add(user, 1)
	}
	c.refused = 0
	return nil
}

// Taken says that a command other than a publish was let through.
func (c *Connection) Taken() { c.refused = 0 }

// Exhausted says whether the connection went on although it was refused Patience times in a row, and is to be closed.
func (l *Limiter) Exhausted(c *Connection) bool {
	if c.refused != Patience {
		return false
	}
	l.stats.Closed.Add(1)
	return true
}

func (l *Limiter) refuse(c *Connection, count *atomic.Int64, wait time.Duration, format string, r Rate) *proto.Error {
	c.refused++
	count.Add(1)
	return proto.ErrTooMany.With(format, r.PerSecond).After(wait)
}

// share is what other nodes leave of a rate: never less than a tenth, since what they report is a moment old. The burst shrinks with
// it, so that it lasts as long as before: a bucket that is empty at one rate must be so at the other.
func (l *Limiter) share(r Rate, user string) Rate {
	if l.options.Usage == nil {
		return r
	}
	left := max(1-l.options.Usage.Remote(user)/r.PerSecond, 0.1)
	r.PerSecond *= left
	r.Burst = int(float64(r.Burst) * left)
	return r
}

// retryConnection is after how long a connection may be tried again that other nodes leave no room for.
const retryConnection = 2 * time.Second

// Connected counts a connection of a user who has so many here already, if there may be one more; the error is for the client: it is
// final when those here are too many, and invites to try again when those that other nodes reported make them too many.
// Disconnected ends what it began.
func (l *Limiter) Connected(user string, here int) *proto.Error {
	if l == nil || user == "" {
		return nil
	}
	if most := l.options.UserConnections; most > 0 {
		switch {
		case here >= most:
			l.stats.UserConnections.Add(1)
			return proto.ErrLimit.With("this user has reached the limit of %d connections; close some", most)
		case l.options.Usage != nil && l.options.Usage.Connections(user) >= most:
			// Some of them may have ended with another node, and come here.
			l.stats.UserConnections.Add(1)
			return proto.ErrTooMany.With("this user has reached the limit of %d connections on all nodes; close some, or try again", most).After(retryConnection)
		}
	}
	if l.options.Usage != nil {
		l.options.Usage.Connected(user)
	}
	return nil
}

// Disconnected ends what Connected began.
func (l *Limiter) Disconnected(user string) {
	if l != nil && l.options.Usage != nil && user != "" {
		l.options.Usage.Disconnected(user)
	}
}

// Connect asks for a connection from an address. wait is 0 when it was let through.
func (l *Limiter) Connect(a netip.Addr, now time.Time) (wait time.Duration) {
	if l == nil || a.IsLoopback() || !l.options.AddressConnects.Limited() {
		return 0
	}
	if wait = l.addresses.Take(Network(a), l.options.AddressConnects, now.Sub(l.began)); wait > 0 {
		l.stats.AddressConnects.Add(1)
	}
	return wait
}

// Network is what an address is counted by: itself, and the first one of its /64 for IPv6, of which one customer has at least
// that many.
func Network(a netip.Addr) netip.Addr {
	if a = a.Unmap(); !a.Is6() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
