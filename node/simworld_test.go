package node_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"barrage/broker"
	"barrage/broker/brokertest"
	"barrage/channel"
	"barrage/fanout"
	"barrage/journal"
	"barrage/journal/memory"
	"barrage/node"
	"barrage/proto"
	"barrage/session"
	"barrage/ws"
)

// world is a cluster in one process, in fake time: real nodes, sessions and fan-out; a journal that can go away, a broker that
// loses, repeats, delays and reorders, sockets that stall, and clients that move.
type world struct {
	t       *testing.T
	seed    uint64
	journal *memory.Journal
	hub     *brokertest.Hub

	mu     sync.Mutex
	rnd    *rand.Rand          // owner: mu
	away   bool                // owner: mu; the journal
	nodes  []*simNode          // owner: mu; nil while crashed
	failed []string            // owner: mu; broken promises
	born   int                 // owner: mu
	stored map[string][]string // owner: mu; by channel, the keys of the messages by offset

	keep   int64         // how many messages retention keeps; 0 for all
	resets *atomic.Int64 // counts the readers that were reset; nil where none may be
}

type simNode struct {
	*node.Node
	name  string
	id    string
	disk  *disk
	mu    sync.Mutex
	socks map[*simSocket]struct{}
}

func newWorld(t *testing.T, seed uint64, nodes int) *world {
	w := &world{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 7)), journal: memory.New(),
		hub: brokertest.NewHub(seed, brokertest.Faults{}), nodes: make([]*simNode, nodes),
		stored: map[string][]string{},
	}
	for i := range nodes {
		w.boot(i)
	}
	return w
}

func (w *world) int(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.int(int(d))) }

// broken records a broken promise.
func (w *world) broken(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failed) < 10 {
		w.failed = append(w.failed, fmt.Sprintf(format, args...))
	}
}

func (w *world) boot(i int) {
	w.mu.Lock()
	w.born++
	name := fmt.Sprintf("n%d-%d", i, w.born)
	w.mu.Unlock()
	n := &simNode{name: name, disk: &disk{Journal: w.journal, w: w}, socks: map[*simSocket]struct{}{}}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("BARRAGE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
	}
	made, err := node.New(node.Options{
		Name: name, Journal: n.disk, Codecs: session.Codecs(), Writers: 2, Log: log,
		Namespaces: channel.Namespaces{Named: map[string]channel.Namespace{
			"live": {Live: true}, "merged": {Merge: 100 * time.Millisecond}, "busy": {Live: true, Merge: 100 * time.Millisecond},
		}},
		OpenBroker: func(id string, h broker.Handler) (broker.Broker, error) {
			n.id = id
			return w.hub.Join(id, h), nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	n.Node = made
	w.mu.Lock()
	w.nodes[i] = n
	w.mu.Unlock()
}

// crash ends a node as kill -9 does: nothing more of it is heard; what it was storing may or may not have been stored.
func (w *world) crash(i int) {
	w.mu.Lock()
	n := w.nodes[i]
	w.nodes[i] = nil
	w.mu.Unlock()
	if n == nil {
		return
	}
	w.hub.Crash(n.id)
	n.disk.kill()
	n.mu.Lock()
	socks := n.socks
	n.socks = nil
	n.mu.Unlock()
	for s := range socks {
		s.cut()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.Close(ctx) // it is dead: its errors concern nobody
}

// pick returns a node that lives, or nil.
func (w *world) pick() *simNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	start := w.rnd.IntN(len(w.nodes))
	for i := range w.nodes {
		if n := w.nodes[(start+i)%len(w.nodes)]; n != nil {
			return n
		}
	}
	return nil
}

func (w *world) setAway(away bool) {
	w.mu.Lock()
	w.away = away
	w.mu.Unlock()
}

// disk is a node's way to the journal.
type disk struct {
	journal.Journal
	w    *world
	mu   sync.Mutex
	dead bool
}

func (d *disk) kill() { d.mu.Lock(); d.dead = true; d.mu.Unlock() }

// gone says whether the journal cannot be reached, after the time that a request takes.
func (d *disk) gone() bool {
	time.Sleep(time.Millisecond + d.w.upTo(4*time.Millisecond))
	d.mu.Lock()
	dead := d.dead
	d.mu.Unlock()
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return dead || d.w.away
}

func (d *disk) Append(ctx context.Context, drafts []journal.Draft) (journal.Appended, error) {
	if d.gone() {
		return journal.Appended{}, journal.ErrUnavailable
	}
	a, err := d.w.append(ctx, drafts)
	if err == nil && d.gone() {
		return journal.Appended{}, journal.ErrUncertain
	}
	return a, err
}

// append stores drafts and remembers what it was told, whether the node will hear of it or not.
func (w *world) append(ctx context.Context, drafts []journal.Draft) (journal.Appended, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, err := w.journal.Append(ctx, drafts)
	for i, s := range a.Stored {
		keys := w.stored[drafts[i].Channel]
		if !s.Repeated && int(s.Offset) != len(keys)+1 {
			w.failed = append(w.failed, fmt.Sprintf("after offset %d of %s the journal gave %d", len(keys), drafts[i].Channel, s.Offset))
		}
		if !s.Repeated {
			w.stored[drafts[i].Channel] = append(keys, keyOf(drafts[i].Data))
		}
	}
	return a, err
}

// history are the keys of all messages that a channel ever had, in order.
func (w *world) history(channel string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stored[channel]
}

// trim applies retention.
func (w *world) trim() {
	if w.keep > 0 {
		if _, err := w.journal.Trim(context.Background(), journal.Policy{Default: journal.Retention{Count: w.keep}}); err != nil {
			w.broken("trimming failed: %v", err)
		}
	}
}

// removed is the last message of a channel that retention has removed.
func (w *world) removed(channel string) proto.Offset {
	p, err := w.journal.Read(context.Background(), channel, journal.Range{Limit: 1})
	if err != nil {
		w.broken("reading the oldest message failed: %v", err)
		return 0
	}
	if len(p.Messages) == 0 {
		return p.Head
	}
	return p.Messages[0].Offset - 1
}

func (d *disk) Read(ctx context.Context, channel string, r journal.Range) (journal.Page, error) {
	if d.gone() {
		return journal.Page{}, journal.ErrUnavailable
	}
	return d.Journal.Read(ctx, channel, r)
}

func (d *disk) Heads(ctx context.Context, names []string) (journal.Heads, error) {
	if d.gone() {
		return journal.Heads{}, journal.ErrUnavailable
	}
	return d.Journal.Heads(ctx, names)
}

// simSocket is a connection: a fanout.Socket on the node's side, a stream of frames on the client's.
type simSocket struct {
	w     *world
	out   *fanout.Outlet
	node  *simNode
	lines func(proto.Reply)
	ended func()

	mu    sync.Mutex
	asm   ws.Assembler
	dead  bool
	stall time.Duration // how long it is full once it is full
}

var rules = ws.Rules{FromServer: true, MaxMessage: 32 << 20}

func (s *simSocket) TryWrite(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return 0, errors.New("connection reset by peer")
	}
	n := len(b)
	switch s.w.int(8) {
	case 0:
		n = s.w.int(n + 1)
	case 1:
		n = min(n, 100)
	}
	err := s.asm.Feed(append([]byte(nil), b[:n]...), func(ev ws.Event) error {
		if ev.Op == ws.OpClose {
			s.dead = true
			go s.ended()
			return nil
		}
		for line := range proto.SplitLines(ev.Payload) {
			r, err := proto.ParseReply(line)
			if err != nil {
				return err
			}
			s.lines(r)
		}
		return nil
	})
	if err != nil {
		s.w.broken("the server sent what a client cannot read: %v", err)
	}
	return n, nil
}

func (s *simSocket) ArmWrite() {
	time.AfterFunc(time.Millisecond+s.w.upTo(s.stall+time.Millisecond), s.out.Writable)
}

func (s *simSocket) Finish()     {}
func (s *simSocket) Abort(error) {}

// Resume, Slow, Outlet and Server implement session.Connection.
func (s *simSocket) Resume()                {}
func (s *simSocket) Slow()                  {}
func (s *simSocket) Outlet() *fanout.Outlet { return s.out }
func (s *simSocket) Server() *session.Server {
	return &session.Server{Node: s.node.name, Backend: s.node}
}

// cut ends the connection without a word.
func (s *simSocket) cut() {
	s.mu.Lock()
	was := s.dead
	s.dead = true
	s.mu.Unlock()
	s.out.Close()
	if !was {
		s.ended()
	}
}

// dial connects a client to n. lines hears what the server says, ended once when the connection is gone.
func (w *world) dial(n *simNode, client, channel string, q proto.JoinQuery, stall time.Duration, lines func(proto.Reply), ended func()) (*session.Session, *simSocket) {
	s := &simSocket{w: w, node: n, lines: lines, ended: ended, asm: ws.NewAssembler(&rules), stall: stall}
	s.out = fanout.NewOutlet(n.Writers(), s, 0)
	n.mu.Lock()
	alive := n.socks != nil
	if alive {
		n.socks[s] = struct{}{}
	}
	n.mu.Unlock()
	sess := session.New(session.Options{
		Connection: s,
		Client:     client, Channel: channel, Format: session.JSON, User: q.Name,
	})
	if alive {
		sess.Start(&q)
	} else {
		go s.cut()
	}
	return sess, s
}

// reader follows a channel, whatever happens, and checks that it misses nothing.
type reader struct {
	w       *world
	name    string
	channel string
	stall   time.Duration

	mu      sync.Mutex
	started bool
	from    proto.Offset // the first offset it is owed
	epoch   proto.Epoch
	last    proto.Offset
	got     []proto.Message
	sock    *simSocket
	moves   int
	stopped bool
}

func (r *reader) connect() {
	n := r.w.pick()
	r.mu.Lock()
	stopped := r.stopped
	q := proto.JoinQuery{Echo: true}
	if r.started {
		since := r.last
		q.Since, q.Epoch = &since, r.epoch
	}
	r.moves++
	turn := r.moves
	r.mu.Unlock()
	if stopped {
		return
	}
	if n == nil {
		time.AfterFunc(50*time.Millisecond, r.connect)
		return
	}
	// Unlocked: what the server sends comes back into r.line.
	_, sock := r.w.dial(n, fmt.Sprintf("%s.%d", r.name, turn), r.channel, q, r.stall,
		func(p proto.Reply) { r.line(n.name, turn, p) },
		func() { time.AfterFunc(time.Millisecond+r.w.upTo(500*time.Millisecond), r.connect) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if turn == r.moves {
		r.sock = sock
	}
}

func (r *reader) line(node string, turn int, p proto.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case turn != r.moves:
		return // the old connection speaks to nobody
	case p.Welcome != nil:
		if !r.started {
			r.started, r.last, r.from = true, p.Welcome.Offset, p.Welcome.Offset+1
		}
		r.epoch = p.Welcome.Epoch
	case p.Message != nil:
		if !r.started {
			r.w.broken("%s got message %d before the welcome", r.name, p.Message.Offset)
		}
		if p.Message.Offset != r.last+1 {
			r.w.broken("%s on %s got message %d of %s after %d", r.name, node, p.Message.Offset, r.channel, r.last)
		}
		r.last = p.Message.Offset
		r.got = append(r.got, *p.Message)
	case p.Reset != nil:
		if r.w.resets != nil {
			r.w.resets.Add(1)
		}
		if removed := r.w.removed(r.channel); p.Reset.Offset <= r.last || p.Reset.Offset > removed {
			r.w.broken("%s on %s was reset from %d to %d, although of %s only the messages up to %d were removed: %s",
				r.name, node, r.last, p.Reset.Offset, r.channel, removed, p.Reset.Reason)
		}
		r.last = p.Reset.Offset
	case p.Error != nil:
		r.w.broken("%s got an error: %v", r.name, p.Error.Message)
	}
}

// move leaves the node for another, without a word.
func (r *reader) move() {
	r.mu.Lock()
	s := r.sock
	r.mu.Unlock()
	if s != nil {
		s.cut()
	}
}

// writer publishes one message after the other, each with a key, until each is acknowledged.
type writer struct {
	w       *world
	name    string
	channel string

	mu     sync.Mutex
	acked  []ackedPublish
	queue  []string // keys not acknowledged, in order
	large  int      // bytes that are added to each text
	sess   *session.Session
	sock   *simSocket
	dials  int
	number int
	timer  *time.Timer
}

type ackedPublish struct {
	key    string
	offset proto.Offset
}

func (p *writer) publish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	key := fmt.Sprintf("%s-%d", p.name, p.number)
	p.queue = append(p.queue, key)
	if p.sess == nil {
		p.dial()
		return
	}
	p.send(key)
}

// padding makes texts large. It is of one letter because a thousand seeds of it must be quick to parse.
var padding = strings.Repeat("x", 40_000)

func (p *writer) send(key string) {
	data := []byte(`"` + key + "|" + padding[:p.large] + `"`)
	p.sess.Message(proto.AppendCommand(nil, proto.Command{Kind: proto.CommandPublish, ID: key, Data: data}))
}

// dial connects and sends again what is not acknowledged. The writer is locked.
func (p *writer) dial() {
	n := p.w.pick()
	if n == nil {
		p.again()
		return
	}
	p.dials++
	turn := p.dials
	p.sess, p.sock = p.w.dial(n, fmt.Sprintf("%s.%d", p.name, turn), p.channel, proto.JoinQuery{}, 0,
		func(r proto.Reply) { p.line(turn, r) },
		func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if turn == p.dials {
				p.sess = nil
				p.again()
			}
		})
	for _, key := range p.queue {
		p.send(key)
	}
}

func (p *writer) again() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = time.AfterFunc(20*time.Millisecond+p.w.upTo(300*time.Millisecond), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.sess == nil {
			p.dial()
			return
		}
		for _, key := range p.queue {
			p.send(key)
		}
	})
}

func (p *writer) line(turn int, r proto.Reply) {
	// Lines come from inside a send, which holds the lock, or from the node: do the work elsewhere.
	go func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case turn != p.dials:
		case r.Ack != nil:
			p.acked = append(p.acked, ackedPublish{r.Ack.ID, r.Ack.Offset})
			for i, key := range p.queue {
				if key == r.Ack.ID {
					p.queue = append(p.queue[:i], p.queue[i+1:]...)
					break
				}
			}
		case r.Error != nil && r.Error.Retry:
			p.again()
		case r.Error != nil:
			p.w.broken("%s was refused for good: %s", p.name, r.Error.Message)
		}
	}()
}
