package channel

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"barrage/fanout"
	"barrage/journal"
	"barrage/proto"
)

// ErrNotOpen: the journal did not answer in time, so the channel could not be opened or the position not be looked up.
var ErrNotOpen = errors.New("the channel cannot be opened: the journal does not answer")

// Store is what a hub reads from: the journal.
type Store interface {
	Read(ctx context.Context, channel string, r journal.Range) (journal.Page, error)
	Heads(ctx context.Context, names []string) (journal.Heads, error)
}

// Subscriber is told which channels have members here: the broker.
type Subscriber interface {
	Subscribe(channels ...string)
	Unsubscribe(channels ...string)
}

// Codec writes the messages of one wire format as ready frames.
type Codec interface {
	// AppendFrame appends the frame of one message of a channel; name may be that of a channel's events, see proto.EventsOf.
	AppendFrame(dst []byte, name string, m *proto.Message) []byte
	// Reset tells a member that its position is void and that the stream goes on after p; a format that cannot say
	// so ends the membership or the connection.
	Reset(name string, p proto.Position, reason string) fanout.Notice
	// Skipped tells a member of a live channel that it will not be given n messages, because it is too slow; empty for a
	// format that cannot say so.
	Skipped(name string, n uint64) fanout.Notice
}

// PositionCodec is a Codec whose frames name the epoch of a message beside its offset.
type PositionCodec interface {
	Codec
	// AppendFrameAt is AppendFrame, and is called in its place. epoch is what the message's offset belongs to; empty for a
	// live message.
	AppendFrameAt(dst []byte, name string, epoch proto.Epoch, m *proto.Message) []byte
}

// Options of a hub. Store, Subscriber, Writers and Codecs are needed; 0 means the default elsewhere.
type Options struct {
	Store      Store
	Subscriber Subscriber
	Writers    *fanout.Writers
	// Codecs by format: the index is what JoinRequest.Format says.
	Codecs []Codec
	// Namespaces say how channels behave.
	Namespaces Namespaces
	Log        *slog.Logger
	// Linger is how long a channel without members is kept up to date for the next one (30 s). One in which nothing is in memory is
	// kept for about a second at most.
	Linger time.Duration
	// Patience is how long a member waits to be placed while the journal is away (10 s).
	Patience time.Duration
	// AuditUp and AuditDown are how often the heads of all channels are compared with the journal while the broker
	// works (10 s) and while it does not (1 s).
	AuditUp, AuditDown time.Duration
	// Gone, when set, says whether another node is known to be gone, so that the members it told of do not count any more. It is called
	// with a channel locked, and must not block.
	Gone func(node string) bool
}

// Stats counts what a hub did since the start.
type Stats struct {
	Delivered atomic.Int64 // messages given to members' byte logs
	Dropped   atomic.Int64 // messages that were known already
	Overflow  atomic.Int64 // early messages that found no room to wait; they are read from the journal
	Fetches   atomic.Int64 // reads that repaired a gap
	PageReads atomic.Int64 // reads for members that were behind memory
	Opens     atomic.Int64
	Resets    atomic.Int64 // channels whose epoch changed
	Skips     atomic.Int64 // gaps that retention had removed
	Missed    atomic.Int64 // members that were told that messages are no longer kept
	Checks    atomic.Int64 // reads of heads
	Live      atomic.Int64 // messages given to members' byte logs of live channels
	// SkippedMembers counts how often a member of a live channel skipped ahead, SkippedMessages what it was not given.
	SkippedMembers, SkippedMessages atomic.Int64
	// Strays are messages of one class for a channel of the other, from a node with other namespaces; they are dropped.
	Strays atomic.Int64
}

// Hub is the table of channels with members on this node. All methods may be called from any goroutine; none blocks.
type Hub struct {
	store       Store
	subscriber  Subscriber
	writers     *fanout.Writers
	codecs      []Codec
	namespaces  Namespaces
	log         *slog.Logger
	gone        func(node string) bool // nil: none is
	linger      time.Duration
	patience    time.Duration
	audit       [2]time.Duration // down, up
	readTimeout time.Duration
	retryPages  time.Duration
	stats       Stats
	pages       *pages

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	reads  chan struct{} // a place for each read of a channel under way
	up     atomic.Bool   // the broker works
	lives  atomic.Uint64 // of channels, so far

	mu       sync.Mutex
	channels map[string]*Channel // owner: mu
	closed   bool                // owner: mu

	suspectMu sync.Mutex          // taken last
	suspects  map[string]struct{} // owner: suspectMu; channels whose head is to be compared soon
	wake      chan struct{}       // one token: suspects is not empty
}

// maxReads is how many channels are opened or repaired at a time.
const maxReads = 16

// NewHub starts a hub.
func NewHub(o Options) *Hub {
	h := &Hub{
		store: o.Store, subscriber: o.Subscriber, writers: o.Writers, codecs: o.Codecs, namespaces: o.Namespaces, log: o.Log, gone: o.Gone,
		linger: or(o.Linger, 30*time.Second), patience: or(o.Patience, 10*time.Second),
		audit:       [2]time.Duration{or(o.AuditDown, time.Second), or(o.AuditUp, 10*time.Second)},
		readTimeout: 10 * time.Second, retryPages: 250 * time.Millisecond,
		reads:    make(chan struct{}, maxReads),
		channels: map[string]*Channel{}, suspects: map[string]struct{}{}, wake: make(chan struct{}, 1),
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.pages = newPages(h)
	h.wg.Go(h.sweepLoop)
	h.wg.Go(h.checkLoop)
	return h
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Close ends all goroutines of the hub. Nothing is delivered afterwards.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	for _, c := range h.channels {
		c.mu.Lock()
		c.stop()
		c.mu.Unlock()
	}
	h.mu.Unlock()
	h.cancel()
	h.pages.close()
	h.wg.Wait()
}

// Stats are the hub's counters.
func (h *Hub) Stats() *Stats { return &h.stats }

func (h *Hub) now() time.Time { return time.Now() }

// JoinRequest is a connection that wants to become a member.
type JoinRequest struct {
	Start
	// Format is the index of the codec.
	Format int
	Outlet *fanout.Outlet
	// Skip is whose messages the member does not want; 0 for nobody's.
	Skip fanout.Sender
	// Ready is called exactly once, before the first message is given and with the channel locked: it may send on the
	// outlet, and must not call the hub. It reports whether the connection still wants to be a member.
	Ready func(Joined) bool
	// Placed, when set, is called after Ready has reported true, with the channel locked: member is what to leave by.
	Placed func(member *fanout.Member)
}

// Joined is where a member begins.
type Joined struct {
	// Position is the channel's head on this node.
	proto.Position
	// Next is the first offset that the member will be given.
	Next proto.Offset
	// Reset says that the start asked for cannot be; Reason why.
	Reset  bool
	Reason string
	// Live says that the channel stores nothing: Position and Next mean nothing, and a Start was passed over.
	Live bool
	// Err is ErrNotOpen when the member could not be placed; it is no member then.
	Err error
}

// Join makes a connection a member of a channel, at once or when the journal has answered. To leave, leave by what Placed was
// given, or close the outlet.
func (h *Hub) Join(name string, r JoinRequest) {
	for {
		c := h.channel(name)
		if c == nil {
			r.Ready(Joined{Err: ErrNotOpen})
			return
		}
		if c.join(r) {
			return
		}
	}
}

// channel returns the channel and takes it into use if need be; nil after Close.
func (h *Hub) channel(name string) *Channel {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	if c := h.channels[name]; c != nil {
		return c
	}
	c := &Channel{hub: h, name: name, waiting: map[*joining]struct{}{}, feeds: make([]*fanout.Feed, len(h.codecs))}
	c.life.Store(h.lives.Add(1))
	ns := h.namespaces.Of(name)
	c.live, c.merge = ns.Live, ns.Merge
	h.channels[name] = c
	// Subscribe first, then read: what is published in between is held and not missed.
	h.subscriber.Subscribe(name)
	if c.live {
		return c // there is nothing to read
	}
	h.wg.Go(func() { h.open(c) })
	return c
}

func (h *Hub) lookup(name string) *Channel {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.channels[name]
}

// Deliver takes messages that are committed: published here, or heard from the broker. Messages of channels without
// members are ignored.
func (h *Hub) Deliver(name string, epoch proto.Epoch, messages []proto.Message) {
	if c := h.lookup(name); c != nil {
		c.entries(epoch, messages)
	}
}

// Announced takes another node's word about a channel's head.
func (h *Hub) Announced(name string, p proto.Position) {
	if c := h.lookup(name); c != nil {
		c.headIs(p)
	}
}

// Check compares the heads of channels with the journal as soon as possible: after a subscription became live, or
// after an append with unknown outcome.
func (h *Hub) Check(names ...string) {
	for _, name := range names {
		if c := h.lookup(name); c != nil && !c.live {
			h.check(name)
		}
	}
}

// check is Check for a channel that is known to be in use.
func (h *Hub) check(name string) {
	h.suspectMu.Lock()
	h.suspects[name] = struct{}{}
	h.suspectMu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// SetBrokerUp tells whether the broker works. While it does not, all heads are compared every second.
func (h *Hub) SetBrokerUp(up bool) {
	if h.up.Swap(up) != up {
		h.checkAll()
	}
}

func (h *Hub) checkAll() {
	for _, c := range h.all() {
		if !c.live {
			h.check(c.name)
		}
	}
}

// encode writes messages of an epoch as entries of a format's log.
func (h *Hub) encode(format int, name string, epoch proto.Epoch, messages []proto.Message) []fanout.Entry {
	size := 0
	for i := range messages {
		size += messages[i].Size() + 64
	}
	fresh := scratch{buf: make([]byte, 0, size), entries: make([]fanout.Entry, 0, len(messages))}
	fresh.encode(h.codecs[format], name, epoch, messages)
	return fresh.entries
}

var senderSeed = maphash.MakeSeed()

// SenderOf names a client to the fan-out, in this process; 0 for no client.
func SenderOf(client string) fanout.Sender {
	if client == "" {
		return 0
	}
	return fanout.Sender(maphash.String(senderSeed, client) | 1)
}
