// Package redis is a broker by the publish/subscribe of Redis or Valkey: a single server, a master behind Sentinel, or
// a Redis Cluster of version 7 or newer (sharded publish/subscribe).
//
// What it promises beyond package broker:
//
//   - Open needs no Redis; the broker connects when it can, and its State says what is wrong meanwhile.
//   - Every partition proves all the time that it works: the node publishes a probe to itself every ProbeEvery through
//     the same queue and connection as all payloads, and a subscription that hears none for ProbeTimeout is rebuilt.
//   - Payloads of one channel keep their order while the connection is healthy. Nothing is sent twice by this package.
//   - Nothing waits for Redis: a full queue and a missing connection drop, and every drop is counted in Stats.
//   - Passwords are in no error, log or State.
package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"barrage/broker"
)

// Options of a Broker. The zero value of each field means its default.
type Options struct {
	// NodeID names this node in Redis (CLIENT LIST). It need not be unique: nodes tell their own payloads by a random
	// id of each Open.
	NodeID string
	// Handler hears payloads and changes; nil means nobody does.
	Handler broker.Handler
	// Logger gets one line for each change of state; nil discards them.
	Logger *slog.Logger
	// Prefix stands before all channel names in Redis; "barrage" by default. The URL's parameter prefix wins.
	Prefix string
	// Partitions is how many connections share the subscriptions: 1 by default, 16 for a Redis Cluster. It must be the
	// same on all nodes. The URL's parameter partitions wins.
	Partitions int
	// ProbeEvery is the time between two probes; 1 s by default.
	ProbeEvery time.Duration
	// ProbeTimeout is how long a subscription may hear no probe and any command may wait for its answer; 3 s by
	// default, and at least twice ProbeEvery.
	ProbeTimeout time.Duration
	// QueuePayloads bounds the payloads that wait to be sent; 65,536 by default. Partitions share it evenly.
	QueuePayloads int
	// QueueBytes bounds their bytes; 64 MiB by default. Partitions share it evenly. A payload that is larger than a
	// partition's share is never accepted.
	QueueBytes int
	// BackoffMin and BackoffMax bound the time between attempts to connect: a random part of a time that begins with
	// BackoffMin (100 ms by default) and doubles up to BackoffMax (3 s by default).
	BackoffMin, BackoffMax time.Duration
}

// Defaults of Options.
const (
	DefaultPrefix            = "barrage"
	DefaultClusterPartitions = 16
	DefaultProbeEvery        = time.Second
	DefaultProbeTimeout      = 3 * time.Second
	DefaultQueuePayloads     = 1 << 16
	DefaultQueueBytes        = 64 << 20
	DefaultBackoffMin        = 100 * time.Millisecond
	DefaultBackoffMax        = 3 * time.Second
)

// setDefault puts value into field when it is not set.
func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// complete fills in defaults and what the URL says.
func (o *Options) complete(t *target) error {
	if t.prefix != "" {
		o.Prefix = t.prefix
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if t.partitions > 0 {
		o.Partitions = t.partitions
	}
	if t.kind == cluster {
		setDefault(&o.Partitions, DefaultClusterPartitions)
	}
	setDefault(&o.Partitions, 1)
	setDefault(&o.ProbeEvery, DefaultProbeEvery)
	setDefault(&o.ProbeTimeout, DefaultProbeTimeout)
	o.ProbeTimeout = max(o.ProbeTimeout, 2*o.ProbeEvery)
	setDefault(&o.QueuePayloads, DefaultQueuePayloads)
	setDefault(&o.QueueBytes, DefaultQueueBytes)
	setDefault(&o.BackoffMin, DefaultBackoffMin)
	setDefault(&o.BackoffMax, max(DefaultBackoffMax, o.BackoffMin))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Handler == nil {
		o.Handler = deaf{}
	}
	return checkPrefix(o.Prefix)
}

// deaf is the Handler of a broker without one.
type deaf struct{}

func (deaf) Receive(string, []byte)    {}
func (deaf) Subscribed([]string)       {}
func (deaf) StateChanged(broker.State) {}

// instanceBytes is the length of the random id that precedes every payload.
const instanceBytes = 8

// Broker implements broker.Broker.
type Broker struct {
	o        Options
	target   *target
	instance string // this broker's own random id, instanceBytes bytes
	links    []*link
	pubs     []*publisher
	health   *health
	count    counters

	cancel  context.CancelFunc
	running sync.WaitGroup
}

var _ broker.Broker = (*Broker)(nil)

// Open returns a broker that connects in the background to what url says. Its only error is broker.ErrURL, with a
// sentence that names what is wrong and holds no password.
func Open(url string, o Options) (*Broker, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if err := o.complete(t); err != nil {
		return nil, err
	}
	id := make([]byte, instanceBytes)
	_, _ = rand.Read(id) // never fails
	b := &Broker{o: o, target: t, instance: string(id)}
	b.health = newHealth(&b.o, t)
	for i := range o.Partitions {
		probe := probeName(o.Prefix, i, hex.EncodeToString(id))
		b.pubs = append(b.pubs, newPublisher(b, i, probe))
		b.links = append(b.links, newLink(b, i, probe))
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.running.Go(func() { b.run(ctx) })
	return b, nil
}

// Publish implements broker.Broker.
func (b *Broker) Publish(channel string, payload []byte) error {
	return b.pubs[partitionOf(channel, len(b.pubs))].add(channel, payload)
}

// Subscribe implements broker.Broker. A channel that is wanted already is confirmed again.
func (b *Broker) Subscribe(channels ...string) {
	for i, list := range b.split(channels) {
		b.links[i].subscribe(list)
	}
}

// Unsubscribe implements broker.Broker.
func (b *Broker) Unsubscribe(channels ...string) {
	for i, list := range b.split(channels) {
		b.links[i].unsubscribe(list)
	}
}

// split sorts channels by partition.
func (b *Broker) split(channels []string) map[int][]string {
	if len(b.links) == 1 {
		return map[int][]string{0: channels}
	}
	parts := make(map[int][]string)
	for _, c := range channels {
		i := partitionOf(c, len(b.links))
		parts[i] = append(parts[i], c)
	}
	return parts
}

// State implements broker.Broker.
func (b *Broker) State() broker.State { return b.health.state() }

// Shared implements broker.Broker.
func (b *Broker) Shared() bool { return true }

// Close implements broker.Broker. It waits up to 1 s, and not longer than ctx, for Redis to take what is queued; the rest is dropped
// and counted.
// With a Redis Cluster a goroutine of the client may sleep for up to a second longer; it does nothing when it wakes.
// It must not be called from the Handler.
func (b *Broker) Close(ctx context.Context) error {
	b.drain(ctx)
	b.health.close()
	b.cancel()
	done := make(chan struct{})
	go func() { b.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drainTime is how long Close waits for what is queued.
const drainTime = time.Second

// drain waits until what is queued was sent or thrown away: the last payloads of a node, a goodbye among them, are worth it.
func (b *Broker) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	for _, p := range b.pubs {
		for payloads, _ := p.queued(); payloads > 0; payloads, _ = p.queued() {
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}
}

// counters are what Stats shows; they only grow.
type counters struct {
	published, droppedFull, droppedDown, droppedFailed atomic.Uint64
	received, damaged, reconnects                      atomic.Uint64
}

// Stats counts what a Broker did since Open.
type Stats struct {
	// Published is how many payloads Redis has taken.
	Published uint64
	// DroppedFull is how many were refused because the queue was full, DroppedDown how many were refused or thrown
	// out of the queue while there was no connection, DroppedFailed how many were sent without an answer or refused
	// by Redis: those may have arrived.
	DroppedFull, DroppedDown, DroppedFailed uint64
	// Received is how many payloads of other nodes arrived, Damaged how many messages on our channels were not ours.
	Received, Damaged uint64
	// Reconnects is how often a partition's subscription was built again.
	Reconnects uint64
	// Queued and QueuedBytes are what waits to be sent now.
	Queued, QueuedBytes int
	// Channels is how many channels are wanted now.
	Channels int
}

// Stats returns the counts. Each is right by itself; together they are no snapshot.
func (b *Broker) Stats() Stats {
	s := Stats{
		Published:     b.count.published.Load(),
		DroppedFull:   b.count.droppedFull.Load(),
		DroppedDown:   b.count.droppedDown.Load(),
		DroppedFailed: b.count.droppedFailed.Load(),
		Received:      b.count.received.Load(),
		Damaged:       b.count.damaged.Load(),
		Reconnects:    b.count.reconnects.Load(),
	}
	for i := range b.pubs {
		payloads, bytes := b.pubs[i].queued()
		s.Queued += payloads
		s.QueuedBytes += bytes
		s.Channels += b.links[i].size()
	}
	return s
}
