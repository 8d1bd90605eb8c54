package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"barrage/broker"
)

// A pipelined batch has at most so many payloads and, unless it is one payload, bytes.
const (
	batchPayloads = 256
	batchBytes    = 1 << 20
)

// errClosed is why a publisher that was ended does not work.
var errClosed = errors.New("the connection was closed")

// publisher sends one partition's payloads and probes. Batches go one after the other, which keeps the order.
type publisher struct {
	b         *Broker
	partition int
	prefix    string // of channel names
	probe     string // the channel of probes
	limit     int    // payloads, queued and being sent
	limitSize int    // their bytes
	wake      chan struct{}

	mu       sync.Mutex
	up       bool // the last batch was taken by Redis
	probeDue bool
	queue    []parcel
	first    int // queue[:first] has been taken
	count    int // payloads queued and being sent
	size     int // their bytes
}

// parcel is one payload on its way.
type parcel struct {
	channel string
	payload []byte
}

func newPublisher(b *Broker, partition int, probe string) *publisher {
	return &publisher{
		b: b, partition: partition, probe: probe,
		prefix:    channelPrefix(b.o.Prefix, partition),
		limit:     max(1, b.o.QueuePayloads/b.o.Partitions),
		limitSize: max(1, b.o.QueueBytes/b.o.Partitions),
		wake:      make(chan struct{}, 1),
	}
}

// add queues a payload or refuses it.
func (p *publisher) add(channel string, payload []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.up {
		p.b.count.droppedDown.Add(1)
		return broker.ErrDown
	}
	if p.count >= p.limit || p.size+len(payload) > p.limitSize {
		p.b.count.droppedFull.Add(1)
		return broker.ErrFull
	}
	p.queue = append(p.queue, parcel{channel, payload})
	p.count++
	p.size += len(payload)
	signal(p.wake)
	return nil
}

// signal makes a channel of capacity 1 ready.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *publisher) queued() (payloads, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count, p.size
}

// probeSoon sends a probe before its time.
func (p *publisher) probeSoon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probeDue = true
	signal(p.wake)
}

// run sends what is queued, and a probe every ProbeEvery, until ctx ends.
func (p *publisher) run(ctx context.Context, client rueidis.Client) {
	tick := time.NewTicker(p.b.o.ProbeEvery)
	defer tick.Stop()
	p.probeSoon()
	for {
		select {
		case <-ctx.Done():
			p.fail(errClosed)
			return
		case <-tick.C:
			p.probeSoon()
		case <-p.wake:
		}
		for ctx.Err() == nil {
			batch, probe := p.take()
			if len(batch) == 0 && !probe {
				break
			}
			if err := p.send(ctx, client, batch, probe); err != nil {
				p.fail(err)
			} else {
				p.done(batch)
			}
		}
	}
}

// take returns the next batch, valid until the next call of take, and whether a probe must follow it.
func (p *publisher) take() (batch []parcel, probe bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	probe, p.probeDue = p.probeDue, false
	if p.first == len(p.queue) {
		return nil, probe
	}
	if p.first >= len(p.queue)/2 && p.first > 0 { // so that a queue that never empties does not grow
		p.queue, p.first = slices.Clone(p.queue[p.first:]), 0
	}
	end, size := p.first, 0
	for end < len(p.queue) && end-p.first < batchPayloads && (size == 0 || size+len(p.queue[end].payload) <= batchBytes) {
		size += len(p.queue[end].payload)
		end++
	}
	batch = p.queue[p.first:end:end]
	if p.first = end; end == len(p.queue) {
		p.queue, p.first = nil, 0
	}
	return batch, probe
}

// send publishes a batch in one pipeline and returns the first error.
func (p *publisher) send(ctx context.Context, client rueidis.Client, batch []parcel, probe bool) error {
	ctx, cancel := context.WithTimeout(ctx, p.b.o.ProbeTimeout)
	defer cancel()
	size := 0
	for i := range batch {
		size += instanceBytes + len(batch[i].payload)
	}
	// Neither is reused: after a timeout the client may still hold them.
	text := make([]byte, 0, size)
	commands := make([]rueidis.Completed, 0, len(batch)+1)
	for i := range batch {
		start := len(text)
		text = append(append(text, p.b.instance...), batch[i].payload...)
		commands = append(commands, p.command(client, p.prefix+batch[i].channel, rueidis.BinaryString(text[start:])))
	}
	if probe {
		commands = append(commands, p.command(client, p.probe, p.b.instance))
	}
	var first error
	failed := 0
	for i, r := range client.DoMulti(ctx, commands...) {
		if err := r.Error(); err != nil {
			first = cmp.Or(first, err)
			if i < len(batch) {
				failed++
			}
		}
	}
	p.b.count.published.Add(uint64(len(batch) - failed))
	p.b.count.droppedFailed.Add(uint64(failed))
	if errors.Is(first, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", p.b.o.ProbeTimeout)
	}
	return first
}

func (p *publisher) command(client rueidis.Client, channel, message string) rueidis.Completed {
	if p.b.target.kind == cluster {
		return client.B().Spublish().Channel(channel).Message(message).Build()
	}
	return client.B().Publish().Channel(channel).Message(message).Build()
}

// done takes a batch that was sent out of the account.
func (p *publisher) done(batch []parcel) {
	p.mu.Lock()
	p.count -= len(batch)
	for i := range batch {
		p.size -= len(batch[i].payload)
	}
	was := p.up
	p.up = true
	p.mu.Unlock()
	if !was {
		p.b.health.report(p.partition, publishing, nil)
	}
}

// fail refuses payloads from now on, and throws away what is queued: by the time the connection is back the journal
// has told the other nodes.
func (p *publisher) fail(err error) {
	p.mu.Lock()
	p.up = false
	p.b.count.droppedDown.Add(uint64(len(p.queue) - p.first))
	p.queue, p.first, p.count, p.size = nil, 0, 0, 0
	p.mu.Unlock()
	p.b.health.report(p.partition, publishing, err)
}
