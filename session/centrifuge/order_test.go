package centrifuge

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/centrifugal/protocol"

	"barrage/channel"
	"barrage/proto"
)

// steps carries out joins step by step: a member of one channel is placed before the next one's turn comes, as under the channel's lock.
type steps struct {
	*backend
	client  *client
	ready   []func()
	placing func() // what is between Ready and Placed
}

func (s *steps) Join(name string, r channel.JoinRequest) {
	if _, events := proto.EventsBase(name); events {
		s.backend.Join(name, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = append(s.ready, func() {
		if !r.Ready(channel.Joined{Position: proto.Position{Epoch: "e", Offset: head}, Next: head + 1}) {
			return
		}
		s.placing = func() { r.Placed(s.feed(name, r.Format).Join(r.Outlet, head+1, 0)) }
	})
}

// step carries out one step of one join; false when there is none.
func (s *steps) step(r *rand.Rand) bool {
	if fn := s.placing; fn != nil {
		s.placing = nil
		fn()
		return true
	}
	s.mu.Lock()
	if len(s.ready) == 0 {
		s.mu.Unlock()
		return false
	}
	i := r.IntN(len(s.ready))
	fn := s.ready[i]
	s.ready = append(s.ready[:i], s.ready[i+1:]...)
	s.mu.Unlock()
	fn()
	return true
}

// story is what happens to one subscription, and what the client is told.
type story struct {
	*steps
	r         *rand.Rand
	log       []string
	id        uint32
	wanted    bool            // what the last command asked for
	open      map[uint32]bool // commands without an answer
	told      bool            // the client was told that it is subscribed
	duplicate bool            // an answer came twice
}

// act lets one thing happen.
func (s *story) act() {
	c := s.client
	switch n := s.r.IntN(10); {
	case n < 3:
		s.say(`"subscribe":{"channel":"a"}`)
		s.wanted = true
	case n < 6:
		s.say(`"unsubscribe":{"channel":"a"}`)
		s.wanted = false
	case n == 6:
		s.log = append(s.log, "server subscribes")
		c.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "a"})
		s.wanted = true
	case n == 7:
		s.log = append(s.log, "server unsubscribes")
		c.Control(proto.Control{Kind: proto.ControlUnsubscribe, Channel: "a"})
		s.wanted = false
	default:
		s.log = append(s.log, "step")
		s.step(s.r)
	}
	synctest.Wait()
}

func (s *story) say(command string) {
	s.id++
	s.open[s.id] = true
	s.log = append(s.log, fmt.Sprintf("%d %s", s.id, command))
	s.client.Message(fmt.Appendf(nil, `{"id":%d,%s}`, s.id, command))
}

// hear takes what the client was sent, in order.
func (s *story) hear(t *testing.T) {
	for _, line := range s.client.frames() {
		s.log = append(s.log, "< "+line)
		var reply protocol.Reply
		if err := json.Unmarshal([]byte(line), &reply); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if reply.Id != 0 && !s.open[reply.Id] {
			s.duplicate = true
		}
		delete(s.open, reply.Id)
		switch {
		case reply.Subscribe != nil, reply.Push != nil && reply.Push.Subscribe != nil:
			s.told = true
		case reply.Unsubscribe != nil, reply.Push != nil && reply.Push.Unsubscribe != nil:
			s.told = false
		}
	}
}

func TestTheLastCommandWins(t *testing.T) {
	for seed := range uint64(2000) {
		synctest.Test(t, func(t *testing.T) {
			c := open(t, Server{}, JSON).connect()
			s := &story{steps: &steps{backend: c.backend, client: c}, r: rand.New(rand.NewPCG(seed, 0)), id: 1, open: map[uint32]bool{}}
			c.shared.Backend = s.steps
			for range 3 + s.r.IntN(20) {
				s.act()
				s.hear(t)
			}
			for s.step(s.r) {
				synctest.Wait()
			}
			s.hear(t)
			in := c.subscribedTo("a") != nil
			there, members := c.backend.isThere("a"), c.backend.feed("a", 0).Members()
			c.Session.mu.Lock()
			underway, count := c.underway, c.count
			c.Session.mu.Unlock()
			if in != s.wanted || s.told != in || there != in || members == 1 != in || members > 1 || count > 1 || len(s.open) > 0 || s.duplicate || underway != 0 {
				t.Fatalf("seed %d: the last command wins, %t, each has one answer, and the client knows: subscribed %t, told %t, present %t, %d members, open %v, twice %t, %d under way\n%s",
					seed, s.wanted, in, s.told, there, members, s.open, s.duplicate, underway, strings.Join(s.log, "\n"))
			}
		})
		if t.Failed() {
			return
		}
	}
}
