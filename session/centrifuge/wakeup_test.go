package centrifuge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"barrage/fanout"
	"barrage/node"
	"barrage/proto"
)

// trickle is a fanout.Socket that takes a random number of bytes, and more some time after it was armed.
type trickle struct {
	mu   sync.Mutex
	r    *rand.Rand
	got  []byte
	out  *fanout.Outlet
	last bool
}

func (s *trickle) TryWrite(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(b), s.r.IntN(60<<10))
	s.got = append(s.got, b[:n]...)
	return n, nil
}

func (s *trickle) ArmWrite() {
	s.mu.Lock()
	after := time.Duration(s.r.IntN(3000)) * time.Microsecond
	s.mu.Unlock()
	time.AfterFunc(after, s.out.Writable)
}

func (s *trickle) Abort(error) {}
func (s *trickle) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = true
}

// dawdling is a backend whose answers come later, in any order.
type dawdling struct {
	*backend
	mu    sync.Mutex
	r     *rand.Rand
	large []byte
}

func (b *dawdling) later(fn func()) {
	b.mu.Lock()
	after := time.Duration(b.r.IntN(2000)) * time.Microsecond
	now := b.r.IntN(3) == 0
	b.mu.Unlock()
	if now {
		fn()
		return
	}
	time.AfterFunc(after, fn)
}

func (b *dawdling) History(_ string, _ node.HistoryQuery, done func(proto.History, *proto.Error)) {
	b.mu.Lock()
	fails := b.r.IntN(10) == 0
	b.mu.Unlock()
	b.later(func() {
		if fails {
			done(proto.History{}, proto.ErrUnavailable)
			return
		}
		done(proto.History{Epoch: "e", Offset: 1, Messages: []proto.Message{{Offset: 1, Data: b.large}}}, nil)
	})
}

func (b *dawdling) Presence(_ string, done func(proto.Roster, *proto.Error)) {
	b.later(func() { done(proto.Roster{Members: []proto.MemberInfo{{User: "u", Client: "c2", Info: b.large}}}, nil) })
}

func (b *dawdling) Publish(_ node.Publication, done func(node.Published, *proto.Error)) {
	b.later(func() { done(node.Published{Offset: 8}, nil) })
}

// reading is a client whose connection reads on as soon as it is told to.
type reading struct {
	*client
	resume chan struct{}
	sock   *trickle
	out    *fanout.Outlet
}

func (c *reading) Outlet() *fanout.Outlet { return c.out }
func (c *reading) Resume() {
	select {
	case c.resume <- struct{}{}:
	default:
	}
}

// openReading is a session on a socket that trickles, whose questions are answered later.
func openReading(t *testing.T, seed uint64, large int) (*reading, *Session) {
	inner := open(t, Server{}, JSON)
	d := &dawdling{backend: inner.backend, r: rand.New(rand.NewPCG(seed, 2)), large: []byte(`"` + strings.Repeat("x", large) + `"`)}
	small := []byte(`"` + strings.Repeat("y", smallCall-10) + `"`)
	inner.shared.Backend, inner.shared.RPC = d, func(c Call) { d.later(func() { c.Done(small, nil) }) }
	c := &reading{client: inner, resume: make(chan struct{}, 1), sock: &trickle{r: rand.New(rand.NewPCG(seed, 3))}}
	c.out = fanout.NewOutlet(inner.backend.writers, c.sock, 64<<10)
	c.sock.out = c.out
	s := &Session{}
	s.Init(Options{Connection: c, Client: "c1", Format: JSON})
	return c, s
}

// say gives s a message as a connection does; false when it is never taken.
func (c *reading) say(s *Session, message []byte) bool {
	for first := true; first || len(message) > 0; first = false {
		for s.Full() {
			select {
			case <-c.resume:
			case <-time.After(time.Hour):
				return false
			}
		}
		message = s.Message(message)
	}
	return true
}

// answers is how many have come.
func (c *reading) answers() int {
	c.sock.mu.Lock()
	defer c.sock.mu.Unlock()
	return strings.Count(string(c.sock.got), `{"id":`)
}

// TestWhateverAClientAsksForItIsReadOnAndAnswered has clients that ask much and read slowly, in fake time.
func TestWhateverAClientAsksForItIsReadOnAndAnswered(t *testing.T) {
	questions := []string{
		`"history":{"channel":"a","limit":1}`, `"presence":{"channel":"a"}`, `"rpc":{}`, `"publish":{"channel":"a","data":1}`, `"ping":{}`,
		`"subscribe":{"channel":"a"}`, `"unsubscribe":{"channel":"a"}`, `"presence_stats":{"channel":"a"}`,
	}
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			c, s := openReading(t, seed, 1+r.IntN(90<<10))
			defer s.Gone()
			defer c.out.Close()
			asked := 1
			message := `{"id":1,"connect":{}}`
			for range 30 + r.IntN(60) {
				if !c.say(s, []byte(message)) {
					t.Fatalf("seed %d: a client is not read on for ever", seed)
				}
				message = ""
				for range 1 + r.IntN(8) {
					asked++
					message += fmt.Sprintf(`{"id":%d,%s}`+"\n", asked, questions[r.IntN(len(questions))])
				}
				time.Sleep(time.Duration(max(r.IntN(20)-15, 0)) * time.Millisecond)
			}
			if !c.say(s, []byte(message)) {
				t.Fatalf("seed %d: a client is not read on for ever at last", seed)
			}
			time.Sleep(time.Hour)
			s.mu.Lock()
			underway, histories, edge := s.underway, s.histories, s.edge
			s.mu.Unlock()
			if n := c.answers(); underway != 0 || histories != 0 || edge != nil || s.Full() || s.ended.Load() || n != asked || c.out.Pending() != 0 {
				t.Fatalf("seed %d: each of %d commands has its answer: %d have; %d are under way, ended %t", seed, asked, n, underway, s.ended.Load())
			}
		})
		if t.Failed() {
			return
		}
	}
}
