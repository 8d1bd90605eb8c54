// Package cluster knows which nodes are alive, and lets them ask and tell each other things. It has no part in the path of a
// message.
//
// Everything travels by the broker, on two channels that no client can name. A broker may lose, repeat, reorder and delay, so
// this is what is promised:
//
//   - A node is alive from its first heartbeat until it says goodbye, or was not heard of for a lease (8 s). While this node's
//     own connection to the broker is down nobody's lease ends: who was alive before counts as missing. When this program stood
//     still for more than half a lease, all leases begin anew.
//   - An Ask is answered once: when all nodes that were alive when it began have answered, at the latest after its timeout (1 s).
//     Those that did not answer, or refused, are named. What a node asks or tells is done at most once by each other.
//   - Nothing blocks. Handlers, and the functions that hear answers, run one after the other on one goroutine of the Cluster;
//     they must return quickly and may call the Cluster.
//   - Everything is bounded. Too many requests are refused to who asks (ErrBusy) or, from other nodes, dropped and counted; an
//     answer larger than MaxAnswer is refused: whoever answers has to cut, and to say so.
//   - A node of another version refuses what it does not know, at once, and so is named as missing.
package cluster

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"barrage/broker"
)

// Carrier carries payloads to other nodes: a broker.Broker.
type Carrier interface {
	Publish(channel string, payload []byte) error
	Subscribe(channels ...string)
	State() broker.State
	Shared() bool
}

// Channels of the broker. They begin with a control character, which no client's channel has.
const (
	everyone   = "\x01cluster"
	nodePrefix = "\x01node:"
)

// Reserved says that a broker's channel carries what nodes say to each other, and is not a channel of clients.
func Reserved(channel string) bool { return strings.HasPrefix(channel, "\x01") }

// Bounds.
const (
	// MaxAnswer is the largest payload of a question or an answer, in bytes.
	MaxAnswer = 1 << 20
	// maxAsks bounds the asks of this node under way, maxJobs what waits to be answered to others.
	maxAsks = 1024
	maxJobs = 1024
	// maxPeers bounds the nodes that are known; more are passed over.
	maxPeers = 1024
)

// Errors of Ask and Tell.
var (
	// ErrBusy: too many asks are under way.
	ErrBusy = errors.New("too many questions to other nodes are under way")
	// ErrUnknownNode: no live node has this id.
	ErrUnknownNode = errors.New("no live node has this id")
	// ErrTooLarge: the payload is larger than MaxAnswer.
	ErrTooLarge = errors.New("the payload is too large for other nodes")
	// ErrClosed: the node is going away.
	ErrClosed = errors.New("the node is closed")
)

// Options of a Cluster. ID and Name are needed; the zero value of the others means their default.
type Options struct {
	// ID is unique in the cluster and in time; Name is what people call the node, and is no other's; Version is that of its program. Of each
	// up to 1,024 bytes are used.
	ID, Name, Version string
	// Load tells how much there is on this node; it is asked with every heartbeat, and by Nodes.
	Load func() Load
	// Heartbeat is the time between two heartbeats, 2 s by default; Lease is after which silence a node is gone, 8 s by default.
	// All nodes need about the same.
	Heartbeat, Lease time.Duration
	// Timeout is how long an Ask waits that does not say otherwise; 1 s by default.
	Timeout time.Duration
	Log     *slog.Logger
}

// Stats counts since the start.
type Stats struct {
	Asks    atomic.Int64 // questions of this node
	Missing atomic.Int64 // answers to them that did not come in time, or were refusals
	Late    atomic.Int64 // answers that came too late, or again
	Refused atomic.Int64 // questions of this node refused because too many were under way
	Heard   atomic.Int64 // questions and tellings of others that were done here
	Dropped atomic.Int64 // questions and tellings of others that found no room, or came again
	Bad     atomic.Int64 // payloads that could not be read
}

// Cluster is what one node knows of the others. All methods may be called from any goroutine.
type Cluster struct {
	o       Options
	log     *slog.Logger
	started time.Time
	stats   Stats
	wake    chan struct{} // one token: there is something to do
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when run has ended
	self    *peer         // this node as an heir of others; immutable

	mu       sync.Mutex
	carrier  Carrier            // owner: mu; nil before Start
	handlers map[string]Handler // owner: mu; by kind
	up       bool               // owner: mu; the broker works
	closed   bool               // owner: mu
	peers    map[string]*peer   // owner: mu; by id, without this node
	senders  map[string]*sender // owner: mu; who asked or told something, by id
	asks     map[uint64]*ask    // owner: mu; under way
	lastID   uint64             // owner: mu; of a question or a telling
	beatAt   time.Time          // owner: mu; when the next heartbeat is due
	tickAt   time.Time          // owner: mu; when tickPeers said it was to be called
	jobs     []func()           // owner: mu; what run does next
	guests   int                // owner: mu; of the jobs, those for other nodes
}

// New makes a Cluster of one node, which does nothing before Start.
func New(o Options) *Cluster {
	setDefault(&o.Heartbeat, 2*time.Second)
	setDefault(&o.Lease, 8*time.Second)
	setDefault(&o.Timeout, time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Name, o.Version = o.Name[:min(len(o.Name), maxTextBytes)], o.Version[:min(len(o.Version), maxTextBytes)]
	if o.Load == nil {
		o.Load = func() Load { return Load{} }
	}
	now := time.Now()
	return &Cluster{
		o: o, log: o.Log, started: now, self: &peer{id: o.ID, begun: now, since: now}, handlers: map[string]Handler{}, peers: map[string]*peer{}, senders: map[string]*sender{},
		asks: map[uint64]*ask{}, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

func setDefault(field *time.Duration, value time.Duration) {
	if *field <= 0 {
		*field = value
	}
}

// Start begins: carrier must stay open until Close has returned.
func (c *Cluster) Start(carrier Carrier) {
	c.mu.Lock()
	c.carrier = carrier
	c.up = carrier.State().Up
	c.mu.Unlock()
	if carrier.Shared() {
		carrier.Subscribe(everyone, nodePrefix+c.o.ID)
	}
	go c.run()
}

// Close says goodbye to the other nodes and ends: asks under way are answered with what came so far. It must be called once,
// after Start, and not from a Handler.
func (c *Cluster) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	_ = c.send(everyone, frame{kind: frameGoodbye}) // without it the others wait for the lease
	close(c.quit)
	<-c.done
}

// ID is this node's id, and Name its name.
func (c *Cluster) ID() string { return c.o.ID }

// Name is what people call this node.
func (c *Cluster) Name() string { return c.o.Name }

// Stats are the counters.
func (c *Cluster) Stats() *Stats { return &c.stats }

// StateChanged hears that the broker came up or went down; see broker.Handler.
func (c *Cluster) StateChanged(s broker.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Up && !c.up {
		now := time.Now()
		for _, p := range c.peers {
			p.heard = now // who is silent from now on is gone
		}
	}
	c.up = s.Up
}

// Subscribed greets the others when they can be heard; see broker.Handler.
func (c *Cluster) Subscribed(channels []string) {
	for _, name := range channels {
		if name == everyone || name == nodePrefix+c.o.ID {
			c.post(func() { c.beat(everyone, true) })
		}
	}
}

// Receive takes what another node said; see broker.Handler. channel is Reserved.
func (c *Cluster) Receive(_ string, payload []byte) {
	f, err := parseFrame(payload)
	if err != nil {
		c.stats.Bad.Add(1)
		return
	}
	if f.from == c.o.ID {
		return
	}
	switch f.kind {
	case frameHeartbeat:
		c.hearHeartbeat(f)
	case frameGoodbye:
		c.hearGoodbye(f.from)
	case frameQuestion, frameTelling:
		c.hearQuestion(f)
	case frameAnswer, frameRefusal:
		c.hearAnswer(f)
	}
}

// send hands a frame to the broker, which never blocks.
func (c *Cluster) send(channel string, f frame) error {
	c.mu.Lock()
	carrier := c.carrier
	c.mu.Unlock()
	if carrier == nil || !carrier.Shared() {
		return broker.ErrDown
	}
	f.from = c.o.ID
	return carrier.Publish(channel, appendFrame(make([]byte, 0, 64+len(f.name)+len(f.body)), f))
}

// post gives run something to do. It is never lost.
func (c *Cluster) post(job func()) {
	c.mu.Lock()
	c.jobs = append(c.jobs, job)
	c.mu.Unlock()
	c.stir()
}

func (c *Cluster) stir() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns the next job; nil when there is none.
func (c *Cluster) take() func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.jobs) == 0 {
		c.jobs = nil
		return nil
	}
	job := c.jobs[0]
	c.jobs[0] = nil
	c.jobs = c.jobs[1:]
	return job
}

// run does the jobs, and what is due, until Close.
func (c *Cluster) run() {
	defer close(c.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := time.Now()
	for {
		for job := c.take(); job != nil; job = c.take() {
			job()
			if !time.Now().Before(next) {
				next = c.tick(time.Now())
			}
		}
		next = c.tick(time.Now())
		timer.Reset(time.Until(next))
		select {
		case <-c.wake:
		case <-timer.C:
		case <-c.quit:
			c.finishAll()
			for job := c.take(); job != nil; job = c.take() {
				job()
			}
			return
		}
	}
}

// tick does what is due, and returns when something will be. The asks that expire become jobs.
func (c *Cluster) tick(now time.Time) time.Time {
	next := c.tickPeers(now)
	if at := c.expireAsks(now); at.Before(next) {
		next = at
	}
	return next
}
