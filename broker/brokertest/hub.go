// Package brokertest checks brokers against what package broker promises, and has a Hub: a broker for several nodes in
// one process that can be made to fail in all the ways that are allowed.
package brokertest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"barrage/broker"
)

// Faults says how badly a Hub carries payloads. The zero value is a perfect network without latency.
type Faults struct {
	// Lose is the probability, 0 to 1, that a payload does not reach a node.
	Lose float64
	// Repeat is the probability that it arrives twice.
	Repeat float64
	// Delay is the longest time that a payload, or the confirmation of a subscription, takes; each takes a random
	// part of it.
	Delay time.Duration
	// Reorder is the probability that a payload may be overtaken by later ones; without Delay it has no effect.
	Reorder float64
}

// hubQueueLimit is how many events wait for one node of a Hub; more payloads are lost.
const hubQueueLimit = 1 << 16

// Hub connects nodes of one process. Its methods may be called from any goroutine, also from a Handler, except Close.
// It uses package time only, so in testing/synctest its time is fake. The random faults follow from the seed and the
// order of calls.
type Hub struct {
	mu     sync.Mutex
	random *rand.Rand
	faults Faults
	nodes  []*Node // joined, not crashed or closed, in the order of joining
	lost   uint64
}

// NewHub returns a Hub without nodes.
func NewHub(seed uint64, f Faults) *Hub {
	return &Hub{random: rand.New(rand.NewPCG(seed, 0)), faults: f}
}

// SetFaults changes the faults for payloads published from now on.
func (h *Hub) SetFaults(f Faults) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = f
}

// Lost is how many deliveries the hub has lost so far, to whatever fault.
func (h *Hub) Lost() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// Join connects a node. It panics when nodeID is connected already.
func (h *Hub) Join(nodeID string, handler broker.Handler) *Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.find(nodeID) != nil {
		panic(fmt.Sprintf("brokertest: node %q has joined already", nodeID))
	}
	n := &Node{
		hub: h, id: nodeID, handler: handler,
		wanted: map[string]bool{}, live: map[string]bool{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	h.nodes = append(h.nodes, n)
	n.setUp(true)
	go n.run()
	return n
}

// SetDown cuts a node off, or connects it again. What is on its way to it is lost.
func (h *Hub) SetDown(nodeID string, down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.find(nodeID); n != nil && n.state.Up == down {
		n.setUp(!down)
	}
}

// Crash removes a node as if its process had ended: its Handler is not called any more, except for a call that has
// begun. Its id can join again.
func (h *Hub) Crash(nodeID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.find(nodeID); n != nil {
		n.leave()
	}
}

// Close closes all nodes.
func (h *Hub) Close() {
	h.mu.Lock()
	nodes := slices.Clone(h.nodes)
	h.mu.Unlock()
	for _, n := range nodes {
		_ = n.Close(context.Background())
	}
}

func (h *Hub) find(nodeID string) *Node {
	for _, n := range h.nodes {
		if n.id == nodeID {
			return n
		}
	}
	return nil
}

// chance is true with probability p.
func (h *Hub) chance(p float64) bool { return p > 0 && h.random.Float64() < p }

// latency is how long something takes to arrive.
func (h *Hub) latency() time.Duration {
	if h.faults.Delay <= 0 {
		return 0
	}
	return time.Duration(h.random.Int64N(int64(h.faults.Delay) + 1))
}

// Node is one node's connection to a Hub. It implements broker.Broker.
type Node struct {
	hub     *Hub
	id      string
	handler broker.Handler
	wake    chan struct{} // the front of events changed
	quit    chan struct{} // closed by leave
	done    chan struct{} // closed when run ended

	// The rest is the hub's: read and written under hub.mu.
	state  broker.State
	left   bool
	wanted map[string]bool
	live   map[string]bool // subscriptions that have been confirmed
	events []event         // by due, then in the order of arrival
	last   time.Time       // due of the last event that may not be overtaken
}

// event is something that a node will hear.
type event struct {
	due     time.Time
	state   *broker.State // StateChanged, or
	confirm []string      // Subscribed, as far as still wanted, or
	channel string        // Receive
	payload []byte
}

// carries says whether e is a payload; those are lost with the connection.
func (e event) carries() bool { return e.state == nil && e.confirm == nil }

// Publish implements broker.Broker. It never returns ErrFull.
func (n *Node) Publish(channel string, payload []byte) error {
	h := n.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !n.state.Up {
		return broker.ErrDown
	}
	for _, to := range h.nodes {
		if to == n || !to.live[channel] {
			continue
		}
		copies := 1
		if h.chance(h.faults.Repeat) {
			copies = 2
		}
		for range copies {
			if h.chance(h.faults.Lose) || len(to.events) >= hubQueueLimit {
				h.lost++
				continue
			}
			to.add(event{channel: channel, payload: bytes.Clone(payload)}, h.chance(h.faults.Reorder))
		}
	}
	return nil
}

// Subscribe implements broker.Broker.
func (n *Node) Subscribe(channels ...string) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	for _, c := range channels {
		n.wanted[c] = true
	}
	if n.state.Up && len(channels) > 0 {
		n.add(event{confirm: slices.Clone(channels)}, false)
	}
}

// Unsubscribe implements broker.Broker.
func (n *Node) Unsubscribe(channels ...string) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	for _, c := range channels {
		delete(n.wanted, c)
		delete(n.live, c)
	}
}

// State implements broker.Broker.
func (n *Node) State() broker.State {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	return n.state
}

// Shared implements broker.Broker.
func (n *Node) Shared() bool { return true }

// Close implements broker.Broker. It must not be called from the node's own Handler.
func (n *Node) Close(ctx context.Context) error {
	n.hub.mu.Lock()
	n.leave()
	n.hub.mu.Unlock()
	select {
	case <-n.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave takes n out of the hub. The caller holds hub.mu.
func (n *Node) leave() {
	if n.left {
		return
	}
	n.left = true
	n.state = broker.State{Since: time.Now(), Detail: "The broker is closed."}
	n.hub.nodes = slices.DeleteFunc(n.hub.nodes, func(o *Node) bool { return o == n })
	n.events = nil
	clear(n.live)
	close(n.quit)
}

// setUp changes the state and tells the handler. The caller holds hub.mu.
func (n *Node) setUp(up bool) {
	s := broker.State{Up: up, Since: time.Now(), Detail: "The hub is connected."}
	if !up {
		s.Detail = "The hub is cut off."
		before := len(n.events)
		n.events = slices.DeleteFunc(n.events, event.carries)
		n.hub.lost += uint64(before - len(n.events))
		clear(n.live)
	}
	n.state = s
	n.add(event{state: &s}, false)
	if up && len(n.wanted) > 0 {
		n.add(event{confirm: slices.Sorted(maps.Keys(n.wanted))}, false)
	}
}

// add queues e after a random latency; unless free, nothing queued later will be before it. The caller holds hub.mu.
func (n *Node) add(e event, free bool) {
	e.due = time.Now()
	if e.state == nil {
		e.due = e.due.Add(n.hub.latency())
	}
	if !free {
		if e.due.Before(n.last) {
			e.due = n.last
		}
		n.last = e.due
	}
	at, _ := slices.BinarySearchFunc(n.events, e.due, func(o event, due time.Time) int {
		if o.due.After(due) {
			return 1
		}
		return -1
	})
	n.events = slices.Insert(n.events, at, e)
	if at == 0 {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// run tells the handler what is due until the node leaves.
func (n *Node) run() {
	defer close(n.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-n.quit:
			return
		case <-n.wake:
		case <-timer.C:
		}
		for {
			e, wait, ok := n.next()
			if ok {
				n.tell(e)
				continue
			}
			if timer.Stop(); wait > 0 {
				timer.Reset(wait)
			}
			break
		}
	}
}

// next takes the first event that is due, or says how long to wait; a negative time means until something is added.
func (n *Node) next() (e event, wait time.Duration, ok bool) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if len(n.events) == 0 {
		return event{}, -1, false
	}
	if wait = time.Until(n.events[0].due); wait > 0 {
		return event{}, wait, false
	}
	e = n.events[0]
	n.events[0] = event{}
	n.events = n.events[1:]
	e.confirm = slices.DeleteFunc(e.confirm, func(c string) bool { return !n.wanted[c] || !n.state.Up })
	for _, c := range e.confirm {
		n.live[c] = true
	}
	return e, 0, true
}

func (n *Node) tell(e event) {
	switch {
	case e.carries():
		n.handler.Receive(e.channel, e.payload)
	case e.state != nil:
		n.handler.StateChanged(*e.state)
	case len(e.confirm) > 0:
		n.handler.Subscribed(e.confirm)
	}
}
