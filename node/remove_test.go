package node

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"barrage/broker/brokertest"
	"barrage/channel"
	"barrage/journal"
	"barrage/proto"
)

// publish publishes n messages and waits for them.
func (c *pair) publish(t *testing.T, n int) {
	t.Helper()
	for range n {
		c.a.Publish(Publication{Channel: "room", Data: []byte("1")}, func(_ Published, err *proto.Error) {
			if err != nil {
				t.Errorf("a publish must succeed, but got %v", err)
			}
		})
	}
	rest(100 * time.Millisecond)
}

// removeHistory removes and returns what done heard.
func removeHistory(t *testing.T, n *Node, name string) (result *proto.Error) {
	t.Helper()
	heard := make(chan *proto.Error, 2)
	n.RemoveHistory(name, func(err *proto.Error) { heard <- err })
	synctest.Wait()
	if len(heard) != 1 {
		t.Fatalf("a removal must be answered once, but was answered %d times", len(heard))
	}
	return <-heard
}

func wantHistory(t *testing.T, n *Node, want string) {
	t.Helper()
	n.History("room", HistoryQuery{Limit: 100}, func(h proto.History, err *proto.Error) {
		if got := fmt.Sprint(offsetsOf(h), h.Offset); err != nil || got != want {
			t.Errorf("node %s must give the offsets and head %s, not %s, %v", n.id, want, got, err)
		}
	})
	synctest.Wait()
}

func TestHistoryIsRemovedOnEveryNode(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		here, there := c.join(t, c.a, "room"), c.join(t, c.b, "room")
		rest(time.Second)
		c.publish(t, 5)
		wantHistory(t, c.b, "[1 2 3 4 5] 5")
		if err := removeHistory(t, c.a, "room"); err != nil {
			t.Fatalf("a removal must succeed, but got %v", err)
		}
		wantHistory(t, c.a, "[] 5") // as soon as it is answered
		rest(100 * time.Millisecond)
		wantHistory(t, c.b, "[] 5")
		c.publish(t, 2)
		wantHistory(t, c.a, "[6 7] 7")
		wantHistory(t, c.b, "[6 7] 7")
		for _, l := range []*listener{here, there} {
			if got := l.heard(); got != "1 2 3 4 5 6 7" {
				t.Errorf("members must be given every message once, got %q", got)
			}
		}
	})
}

func TestARemovalIsToldAgain(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		c.join(t, c.a, "room")
		c.join(t, c.b, "room")
		rest(time.Second)
		c.publish(t, 5)
		c.hub.SetFaults(brokertest.Faults{Lose: 1})
		if err := removeHistory(t, c.a, "room"); err != nil {
			t.Fatalf("a removal must succeed, but got %v", err)
		}
		rest(100 * time.Millisecond)
		c.hub.SetFaults(brokertest.Faults{})
		rest(2 * time.Second)
		wantHistory(t, c.b, "[] 5")
	})
}

func TestRemovalsThatCannotBe(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		if err := removeHistory(t, c.a, "live:x"); !errors.Is(err, proto.ErrNotAvailable) {
			t.Errorf("a live channel has no history to remove, but got %v", err)
		}
		c.journal.set(journal.ErrUnavailable)
		if err := removeHistory(t, c.a, "room"); !errors.Is(err, proto.ErrUnavailable) {
			t.Errorf("while the journal is away a removal must be refused for now, but got %v", err)
		}
		c.journal.set(nil)
		c.a.removing.Store(maxRemovalsWaiting)
		if err := removeHistory(t, c.a, "room"); !errors.Is(err, proto.ErrTooMany) {
			t.Errorf("removals must be bounded, but got %v", err)
		}
		c.a.removing.Store(0)
	})
}

func TestAttributesReachHistoryAndOtherNodes(t *testing.T) {
	twoNodes(t, func(t *testing.T, c *pair) {
		c.join(t, c.a, "room")
		c.join(t, c.b, "room")
		rest(time.Second)
		for _, info := range []string{`{"info":1}`, `{"info":2}`, ""} { // the second repeats the first
			key := "k"
			if info == "" {
				key = ""
			}
			c.a.Publish(Publication{Channel: "room", Key: key, Data: []byte("1"), Attributes: []byte(info)}, func(Published, *proto.Error) {})
			rest(100 * time.Millisecond)
		}
		for _, n := range []*Node{c.a, c.b} {
			n.History("room", HistoryQuery{Limit: 10}, func(h proto.History, _ *proto.Error) {
				if len(h.Messages) != 2 || string(h.Messages[0].Attributes) != `{"info":1}` || len(h.Messages[1].Attributes) != 0 {
					t.Errorf("every node must have the attributes of the first publish, got %+v", h.Messages)
				}
			})
			synctest.Wait()
		}
		for _, name := range []string{"room", "live:x"} {
			var refused *proto.Error
			c.a.Publish(Publication{Channel: name, Attributes: make([]byte, proto.MaxAttributesBytes+1)}, func(_ Published, err *proto.Error) { refused = err })
			if !errors.Is(refused, proto.ErrBadRequest) {
				t.Errorf("attributes that are too large must be refused in %s, but got %v", name, refused)
			}
		}
	})
}

func TestLiveNamespacesAreNotTrimmed(t *testing.T) {
	one, two := journal.Retention{Count: 1}, journal.Retention{Count: 2}
	p := stored(journal.Policy{Default: one, Named: map[string]journal.Retention{"a": two, "live": two, "unknown": two}},
		channel.Namespaces{Default: channel.Namespace{Live: true}, Named: map[string]channel.Namespace{"a": {}, "b": {}, "live": {Live: true}}})
	for name, want := range map[string]journal.Retention{
		"x": {}, "a:x": two, "b:x": one, "live:x": {}, "unknown:x": two, "other:x": {},
	} {
		if got := p.Of(name); got != want {
			t.Errorf("channel %s must keep %+v, not %+v", name, want, got)
		}
	}
}
