package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Request is what a node asks or tells.
type Request struct {
	// From is the id of the node that asks; it can be this one.
	From string
	// Payload belongs to the handler.
	Payload []byte
}

// Handler does what a node asks or tells, and returns the answer, which nobody hears who only told. An error is a refusal: the
// node counts as missing.
type Handler func(Request) ([]byte, error)

// Handle says who does the requests of a kind; a later call for the same kind replaces the earlier.
func (c *Cluster) Handle(kind string, h Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handlers[kind] = h
}

// Query is a question to other nodes.
type Query struct {
	Kind string
	// Payload must not be changed any more.
	Payload []byte
	// To is the id of the only node to ask; empty for all live ones, this one among them unless Others is set.
	To     string
	Others bool
	// Timeout is how long to wait for answers; 0 means Options.Timeout.
	Timeout time.Duration
	// Done hears once what came.
	Done func(Answers)
}

// Answer is what one node says.
type Answer struct {
	Node    string // its id
	Name    string
	Payload []byte
}

// Answers are what was heard until an Ask ended.
type Answers struct {
	List []Answer // in the order in which they came
	// Missing are the names of the nodes that did not answer in time, or refused, sorted.
	Missing []string
}

// ask is a question under way.
type ask struct {
	id      uint64
	done    func(Answers)
	until   time.Time
	waiting map[string]string // owner: Cluster.mu; who has not answered: names by id
	answers Answers           // owner: Cluster.mu
}

// Ask asks; Done hears the end of it from the Cluster's goroutine, unless an error is returned.
func (c *Cluster) Ask(q Query) error {
	if len(q.Payload) > MaxAnswer {
		return ErrTooLarge
	}
	if q.Timeout <= 0 {
		q.Timeout = c.o.Timeout
	}
	c.mu.Lock()
	a, err := c.begin(&q)
	if err != nil {
		c.mu.Unlock()
		return err
	}
	_, own := a.waiting[c.o.ID]
	others := len(a.waiting)
	if own {
		others--
		c.jobs = append(c.jobs, func() { c.answerSelf(a.id, q) })
	}
	c.endIfAnswered(a)
	c.mu.Unlock()
	c.stir()
	if others == 0 {
		return nil
	}
	channel := everyone
	if q.To != "" {
		channel = nodePrefix + q.To
	}
	if c.send(channel, frame{kind: frameQuestion, id: a.id, name: q.Kind, body: q.Payload}) != nil {
		c.missOthers(a)
	}
	return nil
}

// begin registers a question. The caller holds mu.
func (c *Cluster) begin(q *Query) (*ask, error) {
	switch {
	case c.closed || c.carrier == nil:
		return nil, ErrClosed
	case len(c.asks) >= maxAsks:
		c.stats.Refused.Add(1)
		return nil, ErrBusy
	}
	a := &ask{done: q.Done, until: time.Now().Add(q.Timeout), waiting: map[string]string{}}
	if q.To == c.o.ID || q.To == "" && !q.Others {
		a.waiting[c.o.ID] = c.o.Name
	}
	for id, p := range c.peers {
		if !p.gone && (q.To == "" || q.To == id) {
			a.waiting[id] = p.Name
		}
	}
	if q.To != "" && len(a.waiting) == 0 {
		return nil, ErrUnknownNode
	}
	c.lastID++
	a.id = c.lastID
	c.asks[a.id] = a
	c.stats.Asks.Add(1)
	return a, nil
}

// Tell says something to one node, or, with an empty one, to all others; whether it is heard is not known. It never blocks.
func (c *Cluster) Tell(kind, node string, payload []byte) error {
	if len(payload) > MaxAnswer {
		return ErrTooLarge
	}
	c.mu.Lock()
	c.lastID++
	id := c.lastID
	c.mu.Unlock()
	channel := everyone
	if node != "" {
		channel = nodePrefix + node
	}
	return c.send(channel, frame{kind: frameTelling, id: id, name: kind, body: payload})
}

// answerSelf answers a question of this node.
func (c *Cluster) answerSelf(id uint64, q Query) {
	answer, err := c.handle(q.Kind, Request{From: c.o.ID, Payload: q.Payload})
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.asks[id]; a != nil {
		c.note(a, c.o.ID, answer, err)
	}
}

// errUnknownKind: a question that this node does not know, of another version.
var errUnknownKind = errors.New("unknown kind of request")

func (c *Cluster) handle(kind string, r Request) ([]byte, error) {
	c.mu.Lock()
	h := c.handlers[kind]
	c.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("%w: %.64q", errUnknownKind, kind)
	}
	answer, err := h(r)
	if err == nil && len(answer) > MaxAnswer {
		return nil, ErrTooLarge
	}
	return answer, err
}

// guest gives run something to do for another node, if there is room.
func (c *Cluster) guest(job func()) {
	c.mu.Lock()
	if c.guests >= maxJobs || c.closed {
		c.mu.Unlock()
		c.stats.Dropped.Add(1)
		return
	}
	c.guests++
	c.jobs = append(c.jobs, func() {
		c.mu.Lock()
		c.guests--
		c.mu.Unlock()
		job()
	})
	c.mu.Unlock()
	c.stir()
}

// hearQuestion does what another node asks or tells, once.
func (c *Cluster) hearQuestion(f frame) {
	c.mu.Lock()
	fresh := c.isNew(f.from, f.id)
	c.mu.Unlock()
	if !fresh || len(f.body) > MaxAnswer {
		c.stats.Dropped.Add(1)
		return
	}
	f.body = bytes.Clone(f.body)
	c.guest(func() {
		c.stats.Heard.Add(1)
		answer, err := c.handle(f.name, Request{From: f.from, Payload: f.body})
		if f.kind == frameTelling {
			return
		}
		reply := frame{kind: frameAnswer, id: f.id, body: answer}
		if err != nil {
			reply = frame{kind: frameRefusal, id: f.id, name: err.Error()}
		}
		_ = c.send(nodePrefix+f.from, reply) // who asked finds this node missing
	})
}

// errRefused is what another node said.
var errRefused = errors.New("the other node refused")

func (c *Cluster) hearAnswer(f frame) {
	var err error
	if f.kind == frameRefusal {
		err = fmt.Errorf("%w: %.200q", errRefused, f.name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.asks[f.id]
	if a == nil {
		c.stats.Late.Add(1)
		return
	}
	if _, waits := a.waiting[f.from]; !waits {
		c.stats.Late.Add(1)
		return
	}
	c.note(a, f.from, bytes.Clone(f.body), err)
}

// note takes the answer of a node. The caller holds mu.
func (c *Cluster) note(a *ask, node string, payload []byte, err error) {
	if err != nil {
		c.log.Debug("a node did not answer a question", "other", a.waiting[node], "error", err)
		c.miss(a, node)
		return
	}
	if name, waits := a.waiting[node]; waits {
		a.answers.List = append(a.answers.List, Answer{Node: node, Name: name, Payload: payload})
		delete(a.waiting, node)
	}
	c.endIfAnswered(a)
}

// miss waits for a node no longer. The caller holds mu.
func (c *Cluster) miss(a *ask, node string) {
	name, waits := a.waiting[node]
	if !waits {
		return
	}
	delete(a.waiting, node)
	a.answers.Missing = append(a.answers.Missing, name)
	c.stats.Missing.Add(1)
	c.endIfAnswered(a)
}

// missOthers waits for no node but this one.
func (c *Cluster) missOthers(a *ask) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node := range a.waiting {
		if node != c.o.ID {
			c.miss(a, node)
		}
	}
}

// endIfAnswered ends a question when nobody is waited for. The caller holds mu.
func (c *Cluster) endIfAnswered(a *ask) {
	if len(a.waiting) > 0 || c.asks[a.id] == nil {
		return
	}
	delete(c.asks, a.id)
	slices.Sort(a.answers.Missing)
	c.jobs = append(c.jobs, func() { a.done(a.answers) })
	c.stir()
}

// expireAsks ends the questions whose time is over, and returns when the next one's will be.
func (c *Cluster) expireAsks(now time.Time) (next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next = now.Add(time.Minute)
	for _, a := range c.asks {
		if now.Before(a.until) {
			if a.until.Before(next) {
				next = a.until
			}
			continue
		}
		for node := range a.waiting {
			c.miss(a, node)
		}
	}
	return next
}

// finishAll ends all questions with what came.
func (c *Cluster) finishAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.asks {
		for node := range a.waiting {
			c.miss(a, node)
		}
	}
}
