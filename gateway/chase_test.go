package gateway

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/protocol"

	"barrage/node"
	"barrage/proto"
	"barrage/session/centrifuge"
)

// A chase lasts so long at least, for each engine with and without TLS, and until there were so many lives and publications.
const (
	chaseTime  = 400 * time.Millisecond
	chaseLives = 10
)

// chaser is a client that subscribes, unsubscribes and recovers at random, and what it knows.
type chaser struct {
	*client
	seed  uint64
	rng   *rand.Rand
	id    uint32
	waits map[uint32]*proto.Position // by id of commands without an answer: from where a subscribe recovers, nil for none
	in    bool                       // as the last answer said
	want  bool                       // as the last command asked
	known bool                       // there is a position
	at    proto.Position
	took  int // publications
	lives int
}

// TestAClientThatComesAndGoesMissesNothing chases a channel into which somebody publishes all the time.
func TestAClientThatComesAndGoesMissesNothing(t *testing.T) {
	w := start(t, Options{Centrifuge: &centrifuge.Server{Channels: 10_000}}) // so many may be subscribed to at once, and twice as often
	stop := w.publishAllTheTime("room")
	defer stop()
	seed := uint64(time.Now().UnixNano())
	c := &chaser{client: w.dial("/connection/websocket"), seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), id: 1, waits: map[uint32]*proto.Position{}}
	c.send(`{"id":1,"connect":{}}`)
	c.line()
	for began := time.Now(); time.Since(began) < chaseTime || c.lives < chaseLives || c.took < chaseLives; {
		if time.Since(began) > patience {
			t.Fatalf("seed %d: in %s there are many lives and publications, not %d and %d", seed, patience, c.lives, c.took)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		c.toggle(1 + c.rng.IntN(4))
		for len(c.waits) > 0 {
			c.take(c.centrifuge())
		}
		if c.in != c.want {
			t.Fatalf("seed %d: the last command counts: subscribed %t, asked for %t", seed, c.in, c.want)
		}
		for n := c.rng.IntN(30); c.in && n > 0; n-- {
			c.take(c.centrifuge())
		}
	}
}

// publishAllTheTime publishes into a channel, one message after the other, until it is stopped.
func (w *world) publishAllTheTime(name string) (stop func()) {
	var wg sync.WaitGroup
	ended := make(chan struct{})
	wg.Go(func() {
		stored := make(chan *proto.Error, 1)
		for {
			w.node.Publish(node.Publication{Channel: name, Data: []byte("1")}, func(_ node.Published, err *proto.Error) { stored <- err })
			if err := <-stored; err != nil {
				w.t.Errorf("a publish must be stored: %v", err)
			}
			select {
			case <-ended:
				return
			default:
			}
		}
	})
	return func() {
		close(ended)
		wg.Wait()
	}
}

// toggle sends n commands in one frame, subscribes and unsubscribes in turn.
func (c *chaser) toggle(n int) {
	var lines []string
	for range n {
		c.id++
		c.waits[c.id] = nil
		c.want = !c.want
		if !c.want {
			lines = append(lines, fmt.Sprintf(`{"id":%d,"unsubscribe":{"channel":"room"}}`, c.id))
			continue
		}
		recover := ""
		if c.known && c.rng.IntN(4) > 0 {
			at := c.at
			c.waits[c.id] = &at
			recover = fmt.Sprintf(`,"recover":true,"epoch":"%s","offset":%d`, at.Epoch, at.Offset)
		}
		lines = append(lines, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"room"%s}}`, c.id, recover))
	}
	c.send(strings.Join(lines, "\n"))
}

// take takes a reply or a publication.
func (c *chaser) take(r *protocol.Reply) {
	c.t.Helper()
	if r.Push != nil {
		if p := r.Push.Pub; !c.in || p == nil || proto.Offset(p.Offset) != c.at.Offset+1 {
			c.t.Fatalf("seed %d: subscribed %t at offset %d: the client must not be given %v", c.seed, c.in, c.at.Offset, r)
		}
		c.at.Offset++
		c.took++
		return
	}
	from, waits := c.waits[r.Id]
	delete(c.waits, r.Id)
	switch {
	case !waits:
		c.t.Fatalf("seed %d: nothing waits for the answer %v", c.seed, r)
	case r.Unsubscribe != nil:
		c.in = false
	case r.Subscribe != nil:
		if c.in || from != nil && (!r.Subscribe.Recovered || proto.Offset(r.Subscribe.Offset) != from.Offset) {
			c.t.Fatalf("seed %d: subscribed %t, recovering from %v: the answer must not be %v", c.seed, c.in, from, r)
		}
		c.in, c.known, c.at = true, true, proto.Position{Epoch: proto.Epoch(r.Subscribe.Epoch), Offset: proto.Offset(r.Subscribe.Offset)}
		c.lives++
	case r.Error == nil || r.Error.Code != 108: // unsubscribed before it was subscribed
		c.t.Fatalf("seed %d: the answer must not be %v", c.seed, r)
	}
}
