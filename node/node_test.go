package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"barrage/broker/brokertest"
	"barrage/channel"
	"barrage/journal"
	"barrage/journal/memory"
	"barrage/proto"
)

// twoNodes runs a story of two nodes on one journal, in fake time.
func twoNodes(t *testing.T, story func(t *testing.T, c *pair)) {
	synctest.Test(t, func(t *testing.T) {
		c := &pair{journal: &moody{Journal: memory.New()}, hub: brokertest.NewHub(1, brokertest.Faults{})}
		c.a, c.aID = start(t, c.journal, c.hub)
		c.b, c.bID = start(t, c.journal, c.hub)
		defer func() {
			for _, l := range c.listeners {
				l.out.Close()
			}
			stop(t, c.a)
			stop(t, c.b)
		}()
		story(t, c)
	})
}

type pair struct {
	journal   *moody
	hub       *brokertest.Hub
	a, b      *Node
	aID, bID  string
	listeners []*listener
}

func (c *pair) join(t *testing.T, n *Node, name string) *listener {
	l := joined(t, n, name)
	c.listeners = append(c.listeners, l)
	return l
}

// moody is a journal that fails when it is told to.
type moody struct {
	journal.Journal
	mu  sync.Mutex
	err error
}

func (m *moody) set(err error) { m.mu.Lock(); m.err = err; m.mu.Unlock() }
func (m *moody) fails() error  { m.mu.Lock(); defer m.mu.Unlock(); return m.err }

func (m *moody) Append(ctx context.Context, d []journal.Draft) (journal.Appended, error) {
	if err := m.fails(); err != nil {
		return journal.Appended{}, err
	}
	return m.Journal.Append(ctx, d)
}

func (m *moody) Heads(ctx context.Context, names []string) (journal.Heads, error) {
	if err := m.fails(); err != nil {
		return journal.Heads{}, err
	}
	return m.Journal.Heads(ctx, names)
}

// publish waits until a publication is acknowledged or refused.
func publish(n *Node, p Publication) (Published, *proto.Error) {
	type outcome struct {
		p   Published
		err *proto.Error
	}
	heard := make(chan outcome, 1)
	n.Publish(p, func(p Published, err *proto.Error) { heard <- outcome{p, err} })
	o := <-heard
	return o.p, o.err
}

func rest(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestAPublishReachesEveryNode(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		here, there := c.join(t, c.a, "room"), c.join(t, c.b, "room")
		rest(time.Second)
		for i := range 3 {
			if p, err := publish(c.a, Publication{Channel: "room", Data: []byte("1")}); err != nil || p.Offset != proto.Offset(i+1) || p.Epoch == "" {
				t.Fatalf("publish %d was answered %+v, %v", i+1, p, err)
			}
		}
		rest(10 * time.Millisecond)
		for _, l := range []*listener{here, there} {
			if got := l.heard(); got != "1 2 3" {
				t.Errorf("a member heard %q, want all three", got)
			}
		}
	})
}

// A message that was stored without anyone being told, because its node died, is revealed by the repeat of its publish.
func TestARepeatRevealsAMessageNobodyWasToldOf(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		l := c.join(t, c.a, "room")
		rest(time.Second)
		if _, err := c.journal.Append(context.Background(), []journal.Draft{{Channel: "room", Key: "k", Data: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
		p, err := publish(c.a, Publication{Channel: "room", Key: "k", Data: []byte("1")})
		if err != nil || p.Offset != 1 || !p.Repeated {
			t.Fatalf("the repeat was answered %+v, %v; want offset 1 and repeated", p, err)
		}
		rest(200 * time.Millisecond)
		if got := l.heard(); got != "1" {
			t.Errorf("a member heard %q, want the message", got)
		}
	})
}

// A message that the broker loses is found by the announcement after a second, though none comes after it.
func TestALostLastMessageIsFoundWithinSeconds(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		l := c.join(t, c.b, "room")
		rest(time.Second)
		c.hub.SetFaults(brokertest.Faults{Lose: 1})
		if _, err := publish(c.a, Publication{Channel: "room", Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		rest(500 * time.Millisecond)
		if got := l.heard(); got != "" {
			t.Fatalf("the message was lost, but a member heard %q", got)
		}
		c.hub.SetFaults(brokertest.Faults{})
		rest(time.Second)
		if got := l.heard(); got != "1" {
			t.Errorf("after the announcement a member heard %q, want the message", got)
		}
	})
}

func TestRefusalsTellWhetherToTryAgain(t *testing.T) {
	for _, row := range []struct {
		err  error
		want *proto.Error
	}{
		{journal.ErrQueueFull, proto.ErrTooMany},
		{journal.ErrUncertain, proto.ErrUnavailable},
		{journal.ErrUnavailable, proto.ErrUnavailable},
		{journal.ErrClosed, proto.ErrUnavailable},
		{context.DeadlineExceeded, proto.ErrUnavailable},
		{context.Canceled, proto.ErrUnavailable},
		{journal.ErrDraft, proto.ErrBadRequest},
		{errors.New("disk on fire"), proto.ErrInternal},
	} {
		twoNodes(t, func(t *testing.T, c *pair) {
			c.journal.set(fmt.Errorf("storing: %w", row.err))
			_, err := publish(c.a, Publication{Channel: "room", Data: []byte("1")})
			c.journal.set(nil)
			if err == nil || err.Code != row.want.Code || err.Retry != row.want.Retry || err.Message == "" {
				t.Errorf("%q is told as %+v, want code %d with retry %v", row.err, err, row.want.Code, row.want.Retry)
			}
			if got := c.a.Stats().Refused.Load(); got != 1 {
				t.Errorf("%q: %d refusals are counted, want 1", row.err, got)
			}
		})
	}
}

// A publish with unknown outcome that was stored after all is found by comparing heads, without a repeat.
func TestAPublishWithUnknownOutcomeIsFound(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		l := c.join(t, c.a, "room")
		rest(time.Second)
		if _, err := c.journal.Append(context.Background(), []journal.Draft{{Channel: "room", Data: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
		c.a.refused("room", journal.ErrUncertain)
		rest(200 * time.Millisecond)
		if got := l.heard(); got != "1" {
			t.Errorf("a member heard %q, want the message that was stored", got)
		}
	})
}

func TestPayloadsThatCannotBeReadAreCounted(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		l := c.join(t, c.a, "room")
		for _, payload := range [][]byte{nil, {0}, []byte("hello"), {99, 1, 0, 0, 0}, {1, 1, 0, 0, 200}} {
			c.a.Receive("room", payload)
		}
		if heard, bad := c.a.Stats().BrokerHeard.Load(), c.a.Stats().BrokerBad.Load(); heard != 5 || bad != 5 {
			t.Errorf("of 5 damaged payloads %d are counted as heard and %d as bad", heard, bad)
		}
		if _, err := publish(c.a, Publication{Channel: "room", Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		rest(time.Millisecond)
		if got := l.heard(); got != "1" {
			t.Errorf("after damaged payloads a member heard %q, want 1", got)
		}
	})
}

func TestMembersAreCountedOnAllNodes(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		c.join(t, c.a, "room")
		leaver := c.join(t, c.b, "room")
		c.join(t, c.b, "room")
		expect := func(when string, n *Node, members, nodes int) {
			t.Helper()
			if got, want := n.Info("room"), (channel.Count{Members: members, Nodes: nodes}); got != want {
				t.Errorf("%s: %+v are counted, want %+v", when, got, want)
			}
		}
		expect("before anything was told", c.a, 1, 1)
		rest(6 * time.Second)
		expect("after the first telling", c.a, 3, 2)
		expect("on the other node", c.b, 3, 2)
		leaver.out.Close()
		expect("a node counts its own exactly", c.b, 2, 2)
		rest(6 * time.Second)
		expect("a change is told within 5 s", c.a, 2, 2)
		rest(time.Minute)
		expect("members who stay are counted for ever", c.a, 2, 2)
		c.hub.SetDown(c.bID, true)
		rest(12 * time.Second)
		expect("a node that is silent for a moment is counted", c.a, 2, 2)
		rest(20 * time.Second)
		expect("a node that is silent for longer than its lease is not", c.a, 1, 1)
		if got := c.a.Info("nowhere"); got != (channel.Count{}) {
			t.Errorf("an unknown channel has %+v", got)
		}
	})
}

func TestHealthNamesTheMode(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		expect := func(when, mode string, ok bool) {
			t.Helper()
			h := c.a.Health()
			if h.Mode() != mode || h.JournalOK != ok || h.Journal == "" || h.Broker.Detail == "" {
				t.Errorf("%s the mode is %q (%+v), want %q", when, h.Mode(), h, mode)
			}
		}
		rest(1500 * time.Millisecond)
		expect("when all is well", "normal", true)
		c.hub.SetDown(c.aID, true)
		rest(time.Millisecond)
		expect("without the broker", "following the journal", true)
		c.journal.set(journal.ErrUnavailable)
		rest(1500 * time.Millisecond)
		expect("without both", "journal away", false)
		c.hub.SetDown(c.aID, false)
		c.journal.set(nil)
		rest(1500 * time.Millisecond)
		expect("when both are back", "normal", true)
	})
}

// While a node is cut off from the broker it follows the journal.
func TestANodeWithoutBrokerFollowsTheJournal(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		l := c.join(t, c.b, "room")
		rest(time.Second)
		c.hub.SetDown(c.bID, true)
		rest(time.Second)
		if _, err := publish(c.a, Publication{Channel: "room", Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		rest(1200 * time.Millisecond)
		if got := l.heard(); got != "1" {
			t.Errorf("a second after the publish a member heard %q, want 1", got)
		}
		if _, err := publish(c.b, Publication{Channel: "room", Data: []byte("2")}); err != nil {
			t.Errorf("publishing needs no broker, but was refused: %v", err)
		}
		if dropped := c.b.Stats().BrokerDropped.Load(); dropped == 0 {
			t.Error("a payload that the broker did not take must be counted")
		}
	})
}

// The node accepts as many reads of history as it says, and answers all of them when it closes.
func TestHistoryEndsWithTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &stuck{Journal: memory.New()}
		n, _ := start(t, j, nil)
		var mu sync.Mutex
		codes := map[int]int{}
		for range maxWaiting + 10 {
			n.History("room", HistoryQuery{Limit: 1}, func(_ proto.History, err *proto.Error) {
				mu.Lock()
				defer mu.Unlock()
				codes[err.Code]++
			})
		}
		stop(t, n)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if codes[proto.ErrTooMany.Code] != 10 || codes[proto.ErrUnavailable.Code] != maxWaiting {
			t.Errorf("of %d reads of a journal that does not answer these were refused, by code: %v", maxWaiting+10, codes)
		}
	})
}

// stuck is a journal whose reads do not answer.
type stuck struct{ journal.Journal }

func (s *stuck) Read(ctx context.Context, _ string, _ journal.Range) (journal.Page, error) {
	<-ctx.Done()
	return journal.Page{}, ctx.Err()
}
