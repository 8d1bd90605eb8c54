package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// payload is what publishers send: the key again, so that subscribers know which message they see, and when it was
// first sent.
type payload struct {
	Key  string `json:"key"`
	Sent int64  `json:"sent"` // Unix microseconds
}

// Subscriber follows a channel through faults, as PROTOCOL.md says a client should: it comes back by itself from offset
// and epoch, and writes all that it sees into its book.
type Subscriber struct {
	base, channel string
	book          *Seen
	account       *Account
	epoch         string

	mu         sync.Mutex
	reconnects int
	nodes      map[string]int // welcomes by node
	longest    time.Duration  // between the loss of a connection and the next welcome
}

// NewSubscriber prepares a subscriber that starts after offset after. Follow does the work.
func NewSubscriber(a *Account, name, base, channel string, after uint64) *Subscriber {
	return &Subscriber{base: base, channel: channel, account: a, book: a.Subscriber(name, after), nodes: map[string]int{}}
}

// Book is what the subscriber saw.
func (s *Subscriber) Book() *Seen { return s.book }

// Reconnects returns how often the subscriber came back, the longest time that took, and how many nodes it has met.
func (s *Subscriber) Reconnects() (times int, longest time.Duration, nodes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reconnects, s.longest, len(s.nodes)
}

// Follow runs until ctx ends.
func (s *Subscriber) Follow(ctx context.Context) {
	var lost time.Time // when the last connection ended; zero before the first
	for attempt := 0; ctx.Err() == nil; {
		welcomed := s.connection(ctx, lost)
		if welcomed {
			attempt, lost = 0, time.Now()
		}
		attempt++
		pause(ctx, backoff(attempt))
	}
}

// backoff is the pause before an attempt: from about 20 ms to about a second.
func backoff(attempt int) time.Duration {
	d := min(time.Second, 10*time.Millisecond<<min(attempt, 10))
	return d + rand.N(d)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// connection is one connection from dial to loss. It says whether there was a welcome.
func (s *Subscriber) connection(ctx context.Context, lost time.Time) (welcomed bool) {
	query := []string{fmt.Sprintf("since=%d", s.book.Position())}
	if s.epoch != "" {
		query = append(query, "epoch="+s.epoch)
	}
	c, err := Dial(s.base, Channel("ws", s.channel, query...), nil)
	if err != nil {
		return false
	}
	defer context.AfterFunc(ctx, c.Close)()
	defer c.Close()
	for {
		line, err := c.Next(40 * time.Second) // a node pings every 25 s, which the library answers inside
		if err != nil {
			if ctx.Err() == nil {
				s.judgeLoss(err)
			}
			return welcomed
		}
		welcomed = welcomed || line.Welcome != nil
		s.take(line, lost)
	}
}

// judgeLoss complains when a connection ended in a way that a client need not put up with.
func (s *Subscriber) judgeLoss(err error) {
	if code := CloseCode(err); code != 0 && code != 1000 && code != 1001 && code != 1006 && (code < 3000 || code > 3499) {
		s.account.Wrong("%s was closed with a code that does not invite it back: %v", s.book.name, err)
	}
}

func (s *Subscriber) take(line Line, lost time.Time) {
	switch {
	case line.Message != nil:
		key, sent := readPayload(line.Message.Data)
		s.book.Got(line.Message.Offset, key, sent)
	case line.Welcome != nil:
		s.epoch = line.Welcome.Epoch
		s.mu.Lock()
		s.nodes[line.Welcome.Node]++
		if !lost.IsZero() {
			s.reconnects++
			s.longest = max(s.longest, time.Since(lost))
		}
		s.mu.Unlock()
	case line.Reset != nil:
		s.account.Wrong("%s was reset at offset %d: %s", s.book.name, s.book.Position(), line.Text)
	case line.Error != nil:
		s.account.Wrong("%s was told of an error although it asked for nothing: %s", s.book.name, line.Text)
	}
}

func readPayload(data json.RawMessage) (key string, sent time.Time) {
	var p payload
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Sprintf("unreadable %.60s", data), time.Time{}
	}
	return p.Key, time.UnixMicro(p.Sent)
}

// Publisher publishes at a steady rate with idempotency keys, and sends again what was not acknowledged: after a
// retryable error, and over a new connection when it lost the old one. Acknowledgements go into the account.
type Publisher struct {
	account             *Account
	name, base, channel string
	every               time.Duration

	mu       sync.Mutex
	waiting  []waiting // sent or to be sent, in order, not acknowledged
	made     int
	retried  int
	slowest  time.Duration // from the first send to the acknowledgement
	finished bool          // makes no new messages
}

// waiting is a message without an acknowledgement.
type waiting struct {
	key  string
	sent time.Time
}

// maxWaiting bounds the messages that wait for an acknowledgement; PROTOCOL.md allows 64 per connection. A publisher at
// this limit makes no new ones.
const maxWaiting = 32

// NewPublisher prepares a publisher that makes one message every interval. Run does the work.
func NewPublisher(a *Account, name, base, channel string, every time.Duration) *Publisher {
	return &Publisher{account: a, name: name, base: base, channel: channel, every: every}
}

// Finish makes no more messages; Run ends when all are acknowledged.
func (p *Publisher) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished = true
}

// Retried returns how many sends were repetitions, and the longest wait for an acknowledgement.
func (p *Publisher) Retried() (times int, slowest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retried, p.slowest
}

// Run publishes until Finish was called and everything is acknowledged, or ctx ends, which is an error when something is
// still waiting.
func (p *Publisher) Run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil && !p.done(); attempt++ {
		if attempt > 0 {
			pause(ctx, backoff(min(attempt, 3)))
		}
		p.connection(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.waiting); n > 0 {
		return fmt.Errorf("%s still waits for %d acknowledgements, the first for %s", p.name, n, p.waiting[0].key)
	}
	return nil
}

func (p *Publisher) done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.finished && len(p.waiting) == 0
}

// connection is one connection: everything waiting is sent again first, then new messages come with the ticker.
func (p *Publisher) connection(ctx context.Context) {
	c, err := Dial(p.base, Channel("ws", p.channel), nil)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, c.Close)()
	defer c.Close()
	var reader sync.WaitGroup
	defer reader.Wait()
	defer c.Close()
	again := make(chan string, maxWaiting)
	ended := make(chan struct{})
	reader.Go(func() { defer close(ended); p.read(c, again) })
	for _, w := range p.snapshot() {
		if p.send(c, w, true) != nil {
			return
		}
	}
	p.write(ctx, c, again, ended)
}

func (p *Publisher) snapshot() []waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]waiting(nil), p.waiting...)
}

// write sends new messages, and those whose keys come through again, until the connection ends or all is done.
func (p *Publisher) write(ctx context.Context, c *Client, again <-chan string, ended <-chan struct{}) {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for !p.done() {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case key := <-again:
			pause(ctx, 50*time.Millisecond) // what is temporary is not over at once
			if w, ok := p.find(key); ok && p.send(c, w, true) != nil {
				return
			}
		case <-tick.C:
			if w, ok := p.create(); ok && p.send(c, w, false) != nil {
				return
			}
		}
	}
}

// create makes the next message, unless too many are waiting or the publisher is finished.
func (p *Publisher) create() (waiting, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished || len(p.waiting) >= maxWaiting {
		return waiting{}, false
	}
	p.made++
	w := waiting{key: fmt.Sprintf("%s-%d", p.name, p.made), sent: time.Now()}
	p.waiting = append(p.waiting, w)
	return w, true
}

func (p *Publisher) find(key string) (waiting, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.waiting {
		if w.key == key {
			return w, true
		}
	}
	return waiting{}, false
}

func (p *Publisher) send(c *Client, w waiting, repeated bool) error {
	p.account.Sent(w.key)
	if repeated {
		p.mu.Lock()
		p.retried++
		p.mu.Unlock()
	}
	return c.Publish(payload{Key: w.key, Sent: w.sent.UnixMicro()}, w.key)
}

// read takes acknowledgements and errors until the connection ends.
func (p *Publisher) read(c *Client, again chan<- string) {
	for {
		// Its own messages come back too, so a healthy connection is never silent for long while publishing.
		line, err := c.Next(15 * time.Second)
		if err != nil {
			p.judgeEnd(err)
			return
		}
		switch {
		case line.Ack != nil:
			p.acked(line.Ack.ID, line.Ack.Offset)
		case line.Error != nil && line.Error.Retry && line.Error.ID == "":
			return // whichever it was: a new connection sends everything again
		case line.Error != nil && line.Error.Retry:
			select {
			case again <- line.Error.ID:
			default:
				return // a new connection sends everything again
			}
		case line.Error != nil:
			p.account.Wrong("a publish of %s was refused for good: %s", p.name, line.Text)
		}
	}
}

func (p *Publisher) judgeEnd(err error) {
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return
	}
	if code := CloseCode(err); code >= 1002 && code <= 1009 && code != 1005 && code != 1006 {
		p.account.Wrong("the connection of %s was closed with %v", p.name, err)
	}
}

func (p *Publisher) acked(key string, offset uint64) {
	p.account.Acked(key, offset)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.waiting {
		if w.key == key {
			p.slowest = max(p.slowest, time.Since(w.sent))
			p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
			return
		}
	}
}
