package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"barrage/client"
	"barrage/internal/trace"
	"barrage/proto"
)

// maxUnderWay bounds the messages that are sent and not answered; at the bound the next message waits, which is
// counted, because the timing is not that of the trace any more.
const maxUnderWay = 8192

// player sends the messages of a trace at their times, whatever the answers do.
type player struct {
	entries []trace.Entry
	speed   float64
	seed    uint64
	slots   chan struct{}

	// What the progress bar reads while the player runs.
	sent, acked, failed atomic.Int64

	// began is when the first message was due; set before the first is sent.
	began atomic.Pointer[time.Time]
	ended time.Time

	// mu guards what the goroutines that wait for answers write.
	mu         sync.Mutex
	latencies  []time.Duration
	firstError error

	// The goroutine of play owns these.
	late     []time.Duration
	bytes    int64
	heldBack int64
	underWay int
}

func newPlayer(entries []trace.Entry, speed float64, seed uint64) *player {
	return &player{entries: entries, speed: speed, seed: seed, slots: make(chan struct{}, maxUnderWay)}
}

// length is how long it takes from the first message to the last.
func (p *player) length() time.Duration { return p.due(len(p.entries) - 1) }

// due is when message i is sent, after the first.
func (p *player) due(i int) time.Duration {
	d := float64(p.entries[i].At-p.entries[0].At) / p.speed
	return time.Duration(min(d, math.MaxInt64/2))
}

// job is a message on its way to its connection.
type job struct {
	data []byte
	at   time.Time
}

// play sends all messages over pool and waits for the answers, after the last message at most grace (0: for ever). It
// returns the cause when ctx ended first; messages without an answer count as failed.
func (p *player) play(ctx context.Context, pool []*client.Client, grace time.Duration) error {
	answers, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var waiting, senders sync.WaitGroup
	queues := make([]chan job, len(pool))
	for i, c := range pool {
		queues[i] = make(chan job, maxUnderWay) // never full: the slots bound all of them
		senders.Go(func() { p.sender(answers, c, queues[i], &waiting) })
	}
	start := time.Now()
	p.began.Store(&start)
	err := p.schedule(ctx, queues, start)
	for _, q := range queues {
		close(q)
	}
	if grace > 0 {
		timer := time.AfterFunc(grace, func() { giveUp(errNoAnswer) })
		defer timer.Stop()
	}
	senders.Wait()
	waiting.Wait()
	p.ended = time.Now()
	return err
}

var errNoAnswer = errors.New("no answer came in time")

// schedule puts each message into the queue of its author's connection when it is due.
func (p *player) schedule(ctx context.Context, queues []chan job, start time.Time) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, e := range p.entries {
		data := proto.RawToData([]byte(trace.Text(p.seed, uint64(i), e.Bytes)))
		due := start.Add(p.due(i))
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case p.slots <- struct{}{}:
		default:
			p.heldBack++
			select {
			case p.slots <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		now := time.Now()
		p.late = append(p.late, now.Sub(due))
		p.bytes += int64(e.Bytes)
		p.sent.Add(1)
		p.underWay = max(p.underWay, len(p.slots))
		queues[e.Author%len(queues)] <- job{data, now}
	}
	return nil
}

// sender publishes the messages of one connection in their order.
func (p *player) sender(ctx context.Context, c *client.Client, queue <-chan job, waiting *sync.WaitGroup) {
	for j := range queue {
		call, err := c.Start(ctx, j.data, "")
		if err != nil {
			p.done(j, err)
			continue
		}
		waiting.Go(func() {
			_, err := call.Wait()
			p.done(j, err)
		})
	}
}

func (p *player) done(j job, err error) {
	latency := time.Since(j.at)
	<-p.slots
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed.Add(1)
		if p.firstError == nil {
			p.firstError = err
		}
		return
	}
	p.acked.Add(1)
	p.latencies = append(p.latencies, latency)
}

// quantiles are in milliseconds.
type quantiles struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func quantilesOf(d []time.Duration) quantiles {
	if len(d) == 0 {
		return quantiles{}
	}
	d = slices.Clone(d)
	slices.Sort(d)
	at := func(q float64) float64 {
		i := int(math.Ceil(q*float64(len(d)))) - 1
		return float64(d[max(0, i)].Microseconds()) / 1000
	}
	return quantiles{at(0.5), at(0.9), at(0.99), at(1)}
}

// result is the outcome of a replay, as --json prints it.
type result struct {
	// Sent counts messages; each of them is then acked (stored) or failed.
	Sent   int64 `json:"sent"`
	Acked  int64 `json:"acked"`
	Failed int64 `json:"failed"`
	// Error is the first failure.
	Error string `json:"error,omitempty"`
	// Retried counts publishes that were sent again.
	Retried     int64   `json:"retried"`
	Connections int     `json:"connections"`
	Reconnects  int64   `json:"reconnects"`
	Bytes       int64   `json:"bytes"`
	Seconds     float64 `json:"seconds"`
	// Rate is messages sent in a second, on average.
	Rate float64 `json:"rate"`
	// Ack is the time from sending to the acknowledgement, Late how much later than in the trace messages were sent.
	Ack  quantiles `json:"ack"`
	Late quantiles `json:"lateness"`
	// UnderWay is the most messages that were sent and not answered at one time, HeldBack how many had to wait
	// because of the bound.
	UnderWay int   `json:"under_way_max"`
	HeldBack int64 `json:"held_back"`
}

// result sums up after play.
func (p *player) result(pool []*client.Client) result {
	r := result{
		Sent: p.sent.Load(), Acked: p.acked.Load(), Failed: p.failed.Load(), Connections: len(pool), Bytes: p.bytes,
		Seconds: p.ended.Sub(*p.began.Load()).Seconds(), Ack: quantilesOf(p.latencies), Late: quantilesOf(p.late),
		UnderWay: p.underWay, HeldBack: p.heldBack,
	}
	if r.Seconds > 0 {
		r.Rate = float64(r.Sent) / r.Seconds
	}
	if p.firstError != nil {
		r.Error = p.firstError.Error()
	}
	for _, c := range pool {
		s := c.Stats()
		r.Retried += s.Resent
		r.Reconnects += max(0, s.Connects-1)
	}
	return r
}
