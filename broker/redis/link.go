package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// chunkChannels is how many channels one SUBSCRIBE names at most.
const chunkChannels = 256

// Why a subscription ends although its connection stands.
var (
	errSilent = errors.New("no probe came back in time")
	errMoved  = errors.New("the slot has moved to another server")
)

// link keeps one partition subscribed to what is wanted: it builds connections, one after the other, and brings each
// to the wanted set.
//
// Each connection is a rueidis DedicatedClient with hooks, not Client.Receive. Receive subscribes to a fixed list, puts
// a goroutine and a channel of 16 payloads behind each call, retries by itself, and tells neither which connection a
// confirmation belongs to nor that it has reconnected; and it may share the connection that publishes. A dedicated
// connection belongs to one session, dies once and for all, and its hooks run one after the other in the order in
// which Redis sent: what is confirmed and what was heard are known exactly.
type link struct {
	b         *Broker
	partition int
	prefix    string // of channel names
	probe     string // the channel of probes
	wake      chan struct{}

	mu     sync.Mutex
	wanted map[string]uint64 // by channel, the number of the Subscribe that wanted it
	number uint64            // of the last Subscribe
}

func newLink(b *Broker, partition int, probe string) *link {
	return &link{
		b: b, partition: partition, probe: probe,
		prefix: channelPrefix(b.o.Prefix, partition),
		wanted: map[string]uint64{}, wake: make(chan struct{}, 1),
	}
}

func (l *link) subscribe(channels []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	for _, c := range channels {
		l.wanted[c] = l.number
	}
	signal(l.wake)
}

func (l *link) unsubscribe(channels []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range channels {
		delete(l.wanted, c)
	}
	signal(l.wake)
}

func (l *link) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.wanted)
}

// keep removes the channels that are not wanted from a list.
func (l *link) keep(channels []string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := channels[:0]
	for _, c := range channels {
		if _, wanted := l.wanted[c]; wanted {
			kept = append(kept, c)
		}
	}
	return kept
}

// run builds sessions until ctx ends.
func (l *link) run(ctx context.Context, client rueidis.Client) {
	pause := l.b.o.backoff()
	for {
		live, err := l.session(ctx, client)
		if ctx.Err() != nil {
			return
		}
		l.b.health.report(l.partition, subscribed, err)
		if live {
			pause.reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause.next()):
		}
		l.b.count.reconnects.Add(1)
	}
}

// session is the life of one connection. live says whether a probe ever came back.
func (l *link) session(ctx context.Context, client rueidis.Client) (live bool, err error) {
	conn, _ := client.Dedicate() // dials, at most for ProbeTimeout
	s := &session{link: l, conn: conn, sent: map[string]uint64{}, beat: make(chan struct{}, 1), moved: make(chan struct{}, 1)}
	closed := conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: s.message, OnSubscription: s.subscription})
	defer s.end()
	if err := s.send(ctx, true, []string{l.probe}); err != nil {
		return false, err
	}
	if err := s.follow(ctx); err != nil {
		return false, err
	}
	l.b.pubs[l.partition].probeSoon()
	silence := time.NewTimer(l.b.o.ProbeTimeout)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return live, ctx.Err()
		case err := <-closed:
			if err == nil {
				err = errClosed
			}
			return live, err
		case <-s.moved:
			return live, errMoved
		case <-silence.C:
			if len(s.beat) == 0 { // it may have come while follow was waiting for Redis
				return live, errSilent
			}
		case <-s.beat:
			silence.Reset(l.b.o.ProbeTimeout)
			if !live {
				live = true
				l.b.health.report(l.partition, subscribed, nil)
			}
		case <-l.wake:
			if err := s.follow(ctx); err != nil {
				return live, err
			}
		}
	}
}

// session is one connection of a link. The goroutine of link.session writes commands; the client's reading goroutine
// runs the hooks.
type session struct {
	link  *link
	conn  rueidis.DedicatedClient
	sent  map[string]uint64 // what this connection has been told, as in link.wanted; owned by link.session
	beat  chan struct{}     // a probe came back
	moved chan struct{}     // Redis ended the subscription of the probe

	mu        sync.Mutex // held during each hook, so that none runs after end
	ended     bool
	chunks    []int    // how many channels each SUBSCRIBE under way names, oldest first
	confirmed []string // of the oldest chunk
	payload   []byte   // lent to Handler.Receive
}

// end closes the connection. After it no hook calls the handler.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.conn.Close()
}

// follow brings the connection to the wanted set.
func (s *session) follow(ctx context.Context) error {
	add, drop := s.changes()
	for len(drop) > 0 {
		n := min(len(drop), chunkChannels)
		if err := s.send(ctx, false, drop[:n]); err != nil {
			return err
		}
		drop = drop[n:]
	}
	for len(add) > 0 {
		n := min(len(add), chunkChannels)
		if err := s.send(ctx, true, add[:n]); err != nil {
			return err
		}
		add = add[n:]
	}
	return nil
}

// changes compares what is wanted with what was sent, and notes it as sent. A channel that was wanted again meanwhile
// is subscribed once more, for its confirmation.
func (s *session) changes() (add, drop []string) {
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for c, number := range l.wanted {
		if s.sent[c] != number {
			s.sent[c] = number
			add = append(add, l.prefix+c)
		}
	}
	if len(s.sent) == len(l.wanted) {
		return add, nil
	}
	for c := range s.sent {
		if _, wanted := l.wanted[c]; !wanted {
			delete(s.sent, c)
			drop = append(drop, l.prefix+c)
		}
	}
	return add, drop
}

// send subscribes to or unsubscribes from Redis channels, and waits for the first answer.
func (s *session) send(ctx context.Context, subscribe bool, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, s.link.b.o.ProbeTimeout)
	defer cancel()
	if subscribe {
		s.mu.Lock()
		s.chunks = append(s.chunks, len(names))
		s.mu.Unlock()
	}
	err := s.conn.Do(ctx, s.command(subscribe, names)).Error()
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", s.link.b.o.ProbeTimeout)
	}
	return err
}

func (s *session) command(subscribe bool, names []string) rueidis.Completed {
	b, sharded := s.conn.B(), s.link.b.target.kind == cluster
	switch {
	case sharded && subscribe:
		return b.Ssubscribe().Channel(names...).Build()
	case sharded:
		return b.Sunsubscribe().Channel(names...).Build()
	case subscribe:
		return b.Subscribe().Channel(names...).Build()
	default:
		return b.Unsubscribe().Channel(names...).Build()
	}
}

// message is the hook for what was published.
func (s *session) message(m rueidis.PubSubMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link
	switch {
	case s.ended:
	case m.Channel == l.probe:
		signal(s.beat)
	case len(m.Message) < instanceBytes || len(m.Channel) < len(l.prefix):
		l.b.count.damaged.Add(1)
	case m.Message[:instanceBytes] == l.b.instance:
	default:
		l.b.count.received.Add(1)
		s.payload = append(s.payload[:0], m.Message[instanceBytes:]...)
		l.b.o.Handler.Receive(m.Channel[len(l.prefix):], s.payload)
		if cap(s.payload) > batchBytes {
			s.payload = nil
		}
	}
}

// subscription is the hook for confirmations. Those of one SUBSCRIBE come in a row and are announced together.
func (s *session) subscription(e rueidis.PubSubSubscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	switch e.Kind {
	case "unsubscribe", "sunsubscribe":
		// The probe is never given up by us: Redis says so when the slot moves away, of all channels in it.
		if e.Channel == s.link.probe {
			signal(s.moved)
		}
		return
	}
	if e.Channel != s.link.probe {
		s.confirmed = append(s.confirmed, e.Channel[len(s.link.prefix):])
	}
	if !s.chunkEnds() {
		return
	}
	if live := s.link.keep(s.confirmed); len(live) > 0 {
		s.link.b.o.Handler.Subscribed(live)
	}
	s.confirmed = nil
}

// chunkEnds counts a confirmation and says whether it was the last of its SUBSCRIBE. The caller holds mu.
func (s *session) chunkEnds() bool {
	if len(s.chunks) == 0 {
		return true
	}
	s.chunks[0]--
	if s.chunks[0] > 0 {
		return false
	}
	s.chunks = s.chunks[1:]
	return true
}
