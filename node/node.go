// Package node holds the use-cases of one server of the cluster: publish, join, history, counts. It ties together the journal
// (which gives offsets), the broker (which tells other nodes) and the channels with members here.
//
// What it promises:
//
//   - A publish is acknowledged after the journal has committed it. Publishes of one client into one channel are stored in
//     the order in which they were given.
//   - One payload per committed batch and channel goes to the other nodes. Whether it arrives changes latency, not content: heads
//     are announced again after 1 s and 5 s, and compared with the journal every 10 s, every second while the broker is away.
//   - A publish into a live channel is acknowledged when it was handed to the members here and queued for the other nodes, as far as
//     there is room; the journal has no part in it. It is delivered at most once, and messages of one client arrive in their order.
//   - Nothing here blocks on a client.
package node

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"barrage/broker"
	"barrage/channel"
	"barrage/cluster"
	"barrage/fanout"
	"barrage/internal/every"
	"barrage/journal"
	"barrage/proto"
)

// Options of a node. Name, Journal, OpenBroker and Codecs are needed.
type Options struct {
	// Name is the node's name in welcomes and logs.
	Name string
	// Journal stores the messages. The node does not close it.
	Journal journal.Journal
	// OpenBroker connects the node to others. The node closes the broker.
	OpenBroker func(nodeID string, h broker.Handler) (broker.Broker, error)
	// Codecs by wire format.
	Codecs []channel.Codec
	// Namespaces say how channels behave. All nodes of a cluster need the same.
	Namespaces channel.Namespaces
	// Retention is what channels keep; it is applied every Trim (1 min), never when that is negative. Live channels are left
	// alone: they store nothing, and what one stored before it was live stays.
	Retention journal.Policy
	Trim      time.Duration
	// Writers is how many goroutines send; 0 means one per processor.
	Writers int
	// Linger is how long a channel without members stays in memory; 0 means 30 s.
	Linger time.Duration
	// Version is that of the program, for Cluster.
	Version string
	// Presence says how rosters are made; its zero value is good.
	Presence PresenceOptions
	Log      *slog.Logger
	// Observe, when set, hears of every append to the journal.
	Observe func(n int, took time.Duration, err error)
}

// Node is one server. All methods may be called from any goroutine.
type Node struct {
	name    string
	id      string // unique in the cluster and in time: a restarted node is another one
	log     *slog.Logger
	journal journal.Journal
	writer  *journal.Writer
	broker  broker.Broker
	hub     *channel.Hub
	writers *fanout.Writers
	cluster *cluster.Cluster
	usage   *cluster.Usage
	rosters rosters
	rolls   rolls
	moves   moves

	announcer announcer
	courier   courier
	histories chan struct{} // a place for each read of history under way
	recents   chan struct{} // a place for each answer from memory under way
	removals  chan struct{} // a place for each removal of history under way
	removing  atomic.Int64  // removals that wait, run, or are told again
	waiting   atomic.Int64  // reads of history that wait or run
	health    atomic.Pointer[Health]
	stats     Stats
	badSaid   every.Seldom // of bad
	control   atomic.Pointer[Connections]

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Stats counts what a node did since the start.
type Stats struct {
	Published     atomic.Int64 // publishes acknowledged
	Refused       atomic.Int64 // publishes refused, mostly because the journal is away or its queue is full
	BrokerSent    atomic.Int64 // payloads handed to the broker
	BrokerDropped atomic.Int64 // payloads the broker did not take
	BrokerHeard   atomic.Int64 // payloads from other nodes
	BrokerBad     atomic.Int64 // payloads that could not be read
	LiveDropped   atomic.Int64 // live messages that other nodes were not given: their queue was full, or the broker away
	Rosters       atomic.Int64 // rosters and counts that other nodes were asked for
	RostersShared atomic.Int64 // those that were answered by what another one had just asked
	Joins         atomic.Int64 // joins told to members
	Leaves        atomic.Int64 // leaves told to members
	MovesUntold   atomic.Int64 // joins and leaves not told, because the user was there all the time, or came back
	MovesDropped  atomic.Int64 // joins and leaves not told, because too many waited
}

// New starts a node.
func New(o Options) (*Node, error) {
	n := &Node{
		name: o.Name, id: strings.ToLower(rand.Text()[:16]), log: o.Log, journal: o.Journal,
		courier: newCourier(), writers: fanout.NewWriters(o.Writers), histories: make(chan struct{}, maxHistories), recents: make(chan struct{}, maxRecent),
		removals: make(chan struct{}, maxRemovals),
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.announcer.heads = map[string]*announcement{}
	n.prepareCluster(o)
	sub := &subscriber{}
	n.hub = channel.NewHub(channel.Options{
		Store: o.Journal, Subscriber: sub, Writers: n.writers, Codecs: o.Codecs, Namespaces: o.Namespaces, Log: n.log,
		Linger: o.Linger, Gone: n.cluster.Gone,
	})
	n.writer = journal.NewWriter(o.Journal, journal.WriterOptions{Committed: n.committed, Observe: o.Observe})
	var err error
	if n.broker, err = o.OpenBroker(n.id, n); err != nil {
		n.cancel()
		n.hub.Close()
		n.writers.Close()
		return nil, errors.Join(err, n.writer.Close(context.Background()))
	}
	n.cluster.Start(n.broker)
	sub.connect(n.broker)
	n.hub.SetBrokerUp(n.broker.State().Up)
	n.start(o)
	return n, nil
}

func (n *Node) start(o Options) {
	ctx := n.ctx
	n.health.Store(&Health{Journal: "not asked yet", Broker: n.broker.State()})
	n.wg.Go(func() { n.watchJournal(ctx) })
	n.wg.Go(func() { n.movesLoop(ctx) })
	if n.broker.Shared() {
		n.wg.Go(func() { n.announceLoop(ctx) })
		n.wg.Go(func() { n.membersLoop(ctx) })
		n.wg.Go(func() { n.liveLoop(ctx) })
		n.wg.Go(func() { n.usage.Run(ctx) })
	}
	if o.Trim >= 0 && !o.Retention.Everything() {
		every := o.Trim
		if every == 0 {
			every = time.Minute
		}
		n.wg.Go(func() { journal.RunTrim(ctx, o.Journal, stored(o.Retention, o.Namespaces), every, n.log) })
	}
}

// Close ends the node: publishes that were accepted are stored and told to other nodes as far as ctx allows, then everything
// stops. Connections must be closed before.
func (n *Node) Close(ctx context.Context) error {
	err := n.writer.Close(ctx)
	n.cancel()
	n.wg.Wait()
	n.handOver()
	n.cluster.Close()
	n.rolls.wg.Wait()
	err = errors.Join(err, n.broker.Close(ctx))
	n.hub.Close()
	n.writers.Close()
	return err
}

// Name is the node's name.
func (n *Node) Name() string { return n.name }

// Hub gives access to the channels' counters.
func (n *Node) Hub() *channel.Hub { return n.hub }

// Writers is the pool that sends to this node's connections.
func (n *Node) Writers() *fanout.Writers { return n.writers }

// Stats are the node's counters.
func (n *Node) Stats() *Stats { return &n.stats }

// Queue tells how full the journal's queue is.
func (n *Node) Queue() journal.Stats { return n.writer.Stats() }

// Publication is a message on its way to the journal, or to the members of a live channel.
type Publication struct {
	Channel string
	// Key is the idempotency key; empty for none. A live channel passes over it.
	Key    string
	User   string
	Client string
	// Data belongs to the node from then on.
	Data []byte
	// Attributes are what else receivers are told: see proto.Attributes. They belong to the node too, and are
	// at most proto.MaxAttributesBytes.
	Attributes []byte
}

// Published is where a publication was stored.
type Published struct {
	Offset   proto.Offset
	Epoch    proto.Epoch
	Repeated bool
	// Live says that it was not stored: it was handed to the members here and is on its way to the other nodes.
	Live bool
}

// Publish queues a publication. done hears once how it ended, from another goroutine and in the order of the calls for one
// channel; it must return quickly. It never blocks: a full queue is an error for done, at once. Into a live channel it is
// published when Publish returns, whatever the journal does, and done has been called.
func (n *Node) Publish(p Publication, done func(Published, *proto.Error)) {
	if size := len(p.Attributes); size > proto.MaxAttributesBytes {
		n.stats.Refused.Add(1)
		done(Published{}, proto.ErrBadRequest.With("info and tags have %d bytes; at most %d are allowed", size, proto.MaxAttributesBytes))
		return
	}
	if n.hub.IsLive(p.Channel) {
		n.publishLive(p)
		done(Published{Live: true}, nil)
		return
	}
	d := journal.Draft{Channel: p.Channel, Key: p.Key, User: p.User, Client: p.Client, Data: p.Data, Attributes: p.Attributes}
	err := n.writer.Publish(d, func(s journal.Stored, epoch proto.Epoch, err error) {
		if err != nil {
			done(Published{}, n.refused(p.Channel, err))
			return
		}
		n.stats.Published.Add(1)
		done(Published{Offset: s.Offset, Epoch: epoch, Repeated: s.Repeated}, nil)
	})
	if err != nil {
		done(Published{}, n.refused(p.Channel, err))
	}
}

// refused turns an error of the journal into what a client is told.
func (n *Node) refused(name string, err error) *proto.Error {
	n.stats.Refused.Add(1)
	switch {
	case errors.Is(err, journal.ErrQueueFull):
		return proto.ErrTooMany.With("the journal is behind; slow down and send this again")
	case errors.Is(err, journal.ErrUncertain):
		n.hub.Check(name)
		return proto.ErrUnavailable.With("the connection to the journal broke while this was stored; send it again with the same id")
	case errors.Is(err, journal.ErrUnavailable), errors.Is(err, journal.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return proto.ErrUnavailable
	case errors.Is(err, journal.ErrDraft):
		n.log.Warn("a message cannot be stored", "channel", name, "error", err)
		return proto.ErrBadRequest.With("the journal cannot store this message; sending it again does not help")
	}
	n.log.Error("storing a message failed", "channel", name, "error", err)
	return proto.ErrInternal
}

// committed passes on what a batch added: to other nodes by the broker, to members here directly.
func (n *Node) committed(b journal.Batch) {
	for _, g := range b.Groups() {
		if n.broker.Shared() {
			n.tell(g.Channel, &proto.Envelope{Kind: proto.EnvelopeEntries, Epoch: b.Epoch, Messages: g.Messages})
			n.announcer.note(g.Channel, proto.Position{Epoch: b.Epoch, Offset: g.Messages[len(g.Messages)-1].Offset}, time.Now())
		}
		n.hub.Deliver(g.Channel, b.Epoch, g.Messages)
	}
	for i, s := range b.Stored {
		if s.Repeated {
			// The first time may have been stored without anyone being told.
			n.hub.Announced(b.Drafts[i].Channel, proto.Position{Epoch: b.Epoch, Offset: s.Offset})
		}
	}
}

// tell hands an envelope about a channel to the broker, and reports whether that took it.
func (n *Node) tell(name string, e *proto.Envelope) bool {
	e.Node = n.id
	size := 64
	for i := range e.Messages {
		size += e.Messages[i].Size()
	}
	if err := n.broker.Publish(name, proto.AppendEnvelope(make([]byte, 0, size), e)); err != nil {
		n.stats.BrokerDropped.Add(1)
		return false
	}
	n.stats.BrokerSent.Add(1)
	return true
}

// Join makes a connection a member of a channel; see channel.Hub.
func (n *Node) Join(name string, r channel.JoinRequest) { n.hub.Join(name, r) }

// Info counts a channel's members.
func (n *Node) Info(name string) channel.Count { return n.hub.Members(name) }

// Receive takes a payload from another node; see broker.Handler.
func (n *Node) Receive(name string, payload []byte) {
	if cluster.Reserved(name) {
		n.cluster.Receive(name, payload)
		return
	}
	n.stats.BrokerHeard.Add(1)
	e, err := proto.ParseEnvelope(payload)
	if err != nil {
		n.bad(name, err)
		return
	}
	switch e.Kind {
	case proto.EnvelopeEntries:
		n.hub.Deliver(name, e.Epoch, e.Messages)
	case proto.EnvelopeLive:
		n.hub.HearLive(name, e.Node, e.Number, e.Messages)
	case proto.EnvelopeHead:
		n.hub.Announced(name, proto.Position{Epoch: e.Epoch, Offset: e.Head})
	case proto.EnvelopeRemoved:
		n.hub.Removed(name, proto.Position{Epoch: e.Epoch, Offset: e.Head})
	case proto.EnvelopeMembers:
		n.hub.RemoteMembers(name, e.Node, int(e.Members))
	}
}

// badEvery is the time between two warnings of payloads that cannot be read: while another version of the program is started node by
// node, there may be very many.
const badEvery = time.Second

// bad counts a payload that cannot be read, and warns of it once a second.
func (n *Node) bad(name string, err error) {
	count := n.stats.BrokerBad.Add(1)
	if _, ok := n.badSaid.May(badEvery); ok {
		n.log.Warn("a payload from the broker cannot be read; the journal has what it carried", "channel", name, "error", err, "so_far", count)
	}
}

// Subscribed compares the heads of channels that were deaf until now; see broker.Handler.
func (n *Node) Subscribed(channels []string) {
	n.cluster.Subscribed(channels)
	n.hub.Check(slices.DeleteFunc(slices.Clone(channels), cluster.Reserved)...)
}

// StateChanged switches between hearing and following the journal; see broker.Handler.
func (n *Node) StateChanged(s broker.State) {
	n.cluster.StateChanged(s)
	n.hub.SetBrokerUp(s.Up)
}

// subscriber passes a hub's wishes to the broker, which is opened after the hub.
type subscriber struct {
	mu     sync.Mutex
	broker broker.Broker
	early  []string
}

func (s *subscriber) connect(b broker.Broker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broker = b
	b.Subscribe(s.early...)
	s.early = nil
}

func (s *subscriber) Subscribe(channels ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broker == nil {
		s.early = append(s.early, channels...)
		return
	}
	s.broker.Subscribe(channels...)
}

func (s *subscriber) Unsubscribe(channels ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broker != nil {
		s.broker.Unsubscribe(channels...)
	}
}
