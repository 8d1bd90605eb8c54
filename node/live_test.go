package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/broker/brokertest"
	"barrage/journal"
	"barrage/proto"
)

// Live messages reach every node in their order while the journal is away, acknowledged at once, and leave no trace.
func TestLiveMessagesNeedNoJournal(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		c.journal.set(journal.ErrUnavailable)
		here, there := c.join(t, c.a, "live:x"), c.join(t, c.b, "live:x")
		rest(time.Second)
		for range 3 {
			acked := false
			c.a.Publish(Publication{Channel: "live:x", Key: "same", Data: []byte("1")}, func(p Published, err *proto.Error) {
				acked = p == Published{Live: true} && err == nil
			})
			if !acked {
				t.Fatal("a live publish must be acknowledged when Publish returns, without an offset")
			}
		}
		rest(10 * time.Millisecond)
		for _, l := range []*listener{here, there} {
			if got := l.heard(); got != "0 0 0" {
				t.Errorf("a member heard %q, want three messages without offsets", got)
			}
		}
		var refused *proto.Error
		c.a.History("live:x", HistoryQuery{Limit: 10}, func(_ proto.History, err *proto.Error) { refused = err })
		if refused == nil || refused.Code != proto.ErrNotAvailable.Code || refused.Retry || !strings.Contains(refused.Message, "live") {
			t.Errorf("history of a live channel must be refused for good, saying that it is live, but the answer is %v", refused)
		}
	})
}

// What queues up while the broker's payload is being written goes in one payload for each channel, in order, each a bounded one.
func TestLiveMessagesShareAPayload(t *testing.T) {
	c := newCourier()
	for i := range maxLiveBatch + 2 {
		c.add("a", &proto.Message{Data: fmt.Append(nil, i)})
		c.add("b", &proto.Message{Data: fmt.Append(nil, i)})
	}
	var got []string
	next := map[string]int{}
	for b := c.take(); b != nil; b = c.take() {
		got = append(got, fmt.Sprint(b.channel, len(b.messages)))
		for _, m := range b.messages {
			if string(m.Data) != fmt.Sprint(next[b.channel]) {
				t.Fatalf("message %d of %s is %s", next[b.channel], b.channel, m.Data)
			}
			next[b.channel]++
		}
	}
	if want := fmt.Sprintf("a%d b%[1]d a2 b2", maxLiveBatch); strings.Join(got, " ") != want {
		t.Errorf("the payloads are %v, want %s", got, want)
	}
	if c.count != 0 || c.bytes != 0 || len(c.open) != 0 {
		t.Errorf("an empty courier counts %d messages, %d bytes and %d channels", c.count, c.bytes, len(c.open))
	}
	large := &proto.Message{Data: make([]byte, 1<<20)}
	taken := 0
	for channel := range 20 {
		before := taken
		for c.add(fmt.Sprint("c", channel), large) {
			taken++
		}
		if n := taken - before; channel == 0 && n != 3 { // and what each counts besides
			t.Errorf("the courier took %d messages of 1 MiB for one channel, its bound is 4 MiB", n)
		}
	}
	if taken < 16 || taken > 32 {
		t.Errorf("the courier took %d messages of 1 MiB, its bound is 32 MiB", taken)
	}
}

// Messages that other nodes are not given are counted.
func TestLiveMessagesThatTheBrokerRefusesAreCounted(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		here, there := c.join(t, c.a, "live:x"), c.join(t, c.b, "live:x")
		c.hub.SetFaults(brokertest.Faults{})
		c.hub.SetDown(c.aID, true)
		rest(time.Second)
		publish(c.a, Publication{Channel: "live:x", Data: []byte("1")})
		rest(time.Second)
		c.hub.SetDown(c.aID, false)
		rest(time.Minute)
		if here.heard() != "0" || there.heard() != "" || c.a.Stats().LiveDropped.Load() != 1 {
			t.Errorf("members heard %q and %q, and %d drops were counted; want the message here only, and 1", here.heard(), there.heard(), c.a.Stats().LiveDropped.Load())
		}
	})
}
