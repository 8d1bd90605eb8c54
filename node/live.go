package node

import (
	"context"
	"sync"
	"time"

	"barrage/proto"
)

// Bounds of live messages on their way to other nodes. A message beyond them is dropped and counted.
const (
	maxLiveMessages = 65_536
	maxLiveBytes    = 32 << 20
	// Of one channel, so that a flood there leaves room for the others.
	maxLiveChannelBytes = 4 << 20
	// One payload of one channel.
	maxLiveBatch      = 512
	maxLiveBatchBytes = 256 << 10
)

// publishLive hands a message to the members here and, in its turn, to the other nodes.
func (n *Node) publishLive(p Publication) {
	m := []proto.Message{{Time: time.Now().UnixMilli(), User: p.User, Client: p.Client, Data: p.Data, Attributes: p.Attributes}}
	if n.broker.Shared() && !n.courier.add(p.Channel, &m[0]) {
		n.stats.LiveDropped.Add(1)
	}
	n.hub.DeliverLive(p.Channel, m)
	n.stats.Published.Add(1)
}

// courier takes live messages from those who publish, so that they need not write payloads, and so that messages into one
// channel that come while it is at work go in one payload. It never waits for more.
type courier struct {
	wake chan struct{} // one token: batches is not empty

	mu      sync.Mutex
	batches []*liveBatch          // owner: mu; in the order in which they are sent
	open    map[string]*liveBatch // owner: mu; the last of each channel
	waiting map[string]int        // owner: mu; bytes in batches by channel
	count   int                   // owner: mu; messages in batches
	bytes   int                   // owner: mu
}

// liveBatch is what goes in one payload.
type liveBatch struct {
	channel  string
	messages []proto.Message
	bytes    int
}

func newCourier() courier {
	return courier{wake: make(chan struct{}, 1), open: map[string]*liveBatch{}, waiting: map[string]int{}}
}

// add takes a message, or reports false when there is no room.
func (c *courier) add(channel string, m *proto.Message) bool {
	c.mu.Lock()
	size := m.Size()
	if c.count >= maxLiveMessages || c.bytes+size > maxLiveBytes || c.waiting[channel]+size > max(maxLiveChannelBytes, size) {
		c.mu.Unlock()
		return false
	}
	b := c.open[channel]
	if b == nil || len(b.messages) >= maxLiveBatch || b.bytes+size > maxLiveBatchBytes {
		b = &liveBatch{channel: channel}
		c.open[channel] = b
		c.batches = append(c.batches, b)
	}
	b.messages = append(b.messages, *m)
	b.bytes += size
	c.count++
	c.bytes += size
	c.waiting[channel] += size
	first := c.count == 1
	c.mu.Unlock()
	if first {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// take returns the oldest batch; nil when there is none.
func (c *courier) take() *liveBatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.batches) == 0 {
		c.batches = nil
		return nil
	}
	b := c.batches[0]
	c.batches[0] = nil
	c.batches = c.batches[1:]
	if c.open[b.channel] == b {
		delete(c.open, b.channel)
	}
	c.count -= len(b.messages)
	c.bytes -= b.bytes
	if c.waiting[b.channel] -= b.bytes; c.waiting[b.channel] == 0 {
		delete(c.waiting, b.channel)
	}
	return b
}

// liveLoop sends what the courier has until ctx ends, and then what is left.
func (n *Node) liveLoop(ctx context.Context) {
	number := uint64(0)
	for ended := false; !ended; {
		select {
		case <-n.courier.wake:
		case <-ctx.Done():
			ended = true
		}
		for b := n.courier.take(); b != nil; b = n.courier.take() {
			number++
			if !n.tell(b.channel, &proto.Envelope{Kind: proto.EnvelopeLive, Number: number, Messages: b.messages}) {
				n.stats.LiveDropped.Add(int64(len(b.messages)))
			}
		}
	}
}

// IsLive says whether a channel stores nothing.
func (n *Node) IsLive(name string) bool { return n.hub.IsLive(name) }
