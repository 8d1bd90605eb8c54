package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"barrage/broker"
)

// Setup is a broker to be checked by Run.
type Setup struct {
	// Join opens one more node's broker; Run closes it.
	Join func(t *testing.T, h broker.Handler) broker.Broker
	// Limit is how long anything may take, recovery included.
	Limit time.Duration
	// Interrupt takes the connections of all nodes away, or of those to one server, and lets them come back. Nil skips
	// what needs it.
	Interrupt func(t *testing.T)
}

// member is one node in a test.
type member struct {
	*Recorder
	broker.Broker
}

// Both parts of a member have a State; what the broker says is meant.
func (m member) State() broker.State { return m.Broker.State() }

// join opens n nodes and waits until they are up.
func (s Setup) join(t *testing.T, n int) []member {
	t.Helper()
	list := make([]member, n)
	for i := range list {
		r := NewRecorder()
		list[i] = member{r, s.Join(t, r)}
		t.Cleanup(func() { closeSoon(t, list[i]) })
	}
	for i := range list {
		s.await(t, fmt.Sprintf("node %d comes up and says so", i), func() bool {
			return list[i].State().Up && list[i].Recorder.State().Up
		})
	}
	return list
}

func closeSoon(t *testing.T, b broker.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Errorf("Close returns promptly; it gave %v", err)
	}
}

// await fails the test unless ok becomes true in time; what is the sentence that is being checked.
func (s Setup) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !waitFor(s.Limit, ok) {
		t.Fatalf("within %s it did not come true that %s", s.Limit, what)
	}
}

// subscribe subscribes m and waits for the confirmations.
func (s Setup) subscribe(t *testing.T, m member, channels ...string) {
	t.Helper()
	m.Subscribe(channels...)
	s.await(t, fmt.Sprintf("%d channels are confirmed", len(channels)), func() bool {
		return !slices.ContainsFunc(channels, func(c string) bool { return m.Confirmed(c) == 0 })
	})
}

// Run checks a broker that connects nodes against what package broker promises.
func Run(t *testing.T, s Setup) {
	t.Run("a payload reaches every other node and not its publisher", s.testReach)
	t.Run("a node hears only channels it has subscribed", s.testOnlySubscribed)
	t.Run("payloads of a channel arrive in order", s.testOrder)
	t.Run("the last of rapid changes holds and is confirmed", s.testChurn)
	t.Run("payloads are bytes", s.testBytes)
	t.Run("nothing is heard after Close", s.testClose)
	if s.Interrupt != nil {
		t.Run("after an interruption everything is subscribed again", s.testInterrupt)
	}
}

func (s Setup) testReach(t *testing.T) {
	nodes := s.join(t, 3)
	for _, n := range nodes {
		if !n.Shared() {
			t.Fatal("a broker that connects nodes is shared")
		}
		s.subscribe(t, n, "reach")
	}
	for i, n := range nodes {
		if err := n.Publish("reach", fmt.Appendf(nil, "from %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range nodes {
		var want []string
		for j := range nodes {
			if i != j {
				want = append(want, fmt.Sprintf("from %d", j))
			}
		}
		s.await(t, fmt.Sprintf("node %d hears exactly %q", i, want), func() bool {
			got := n.Payloads("reach")
			slices.Sort(got)
			return slices.Equal(got, want)
		})
	}
}

func (s Setup) testOnlySubscribed(t *testing.T) {
	nodes := s.join(t, 2)
	a, b := nodes[0], nodes[1]
	s.subscribe(t, b, "mine", "given up", "marker")
	b.Unsubscribe("given up")
	b.Unsubscribe("never had")
	s.subscribe(t, b, "later") // its confirmation follows what Unsubscribe did, at least in its partition
	s.await(t, "a channel that was given up falls silent", func() bool {
		before := len(b.Payloads("given up"))
		for _, c := range []string{"given up", "not mine", "marker"} {
			if err := a.Publish(c, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		return waitFor(200*time.Millisecond, func() bool { return len(b.Payloads("marker")) > 0 }) &&
			!waitFor(50*time.Millisecond, func() bool { return len(b.Payloads("given up")) > before })
	})
	if got := b.Payloads("not mine"); len(got) != 0 {
		t.Errorf("a channel that was never subscribed was heard: %q", got)
	}
	s.subscribe(t, b, "other")
	if err := a.Publish("mine", []byte("y")); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the channels that are left are heard", func() bool { return len(b.Payloads("mine")) == 1 })
}

func (s Setup) testOrder(t *testing.T) {
	nodes := s.join(t, 2)
	a, b := nodes[0], nodes[1]
	channels := []string{"order 1", "order 2", "order 3"}
	s.subscribe(t, b, channels...)
	var sent []string
	for i := range 2000 {
		sent = append(sent, fmt.Sprint(i))
		for _, c := range channels {
			if err := a.Publish(c, []byte(sent[i])); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range channels {
		s.await(t, "all payloads arrive", func() bool { return len(b.Payloads(c)) >= len(sent) })
		if !slices.Equal(b.Payloads(c), sent) {
			t.Errorf("the payloads of %s arrived in another order", c)
		}
	}
}

func (s Setup) testChurn(t *testing.T) {
	nodes := s.join(t, 2)
	a, b := nodes[0], nodes[1]
	for range 50 {
		b.Subscribe("kept", "dropped")
		b.Unsubscribe("kept", "dropped")
	}
	before := b.Confirmed("kept")
	b.Subscribe("kept")
	s.await(t, "the last Subscribe is confirmed", func() bool { return b.Confirmed("kept") > before })
	s.subscribe(t, b, "twice")
	b.Subscribe("twice")
	s.await(t, "a Subscribe of what is wanted already is confirmed too", func() bool { return b.Confirmed("twice") > 1 })
	s.await(t, "the channel wanted last is heard, the one dropped last is not", func() bool {
		dropped, kept := len(b.Payloads("dropped")), len(b.Payloads("kept"))
		for _, c := range []string{"dropped", "kept"} {
			if err := a.Publish(c, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		return waitFor(200*time.Millisecond, func() bool { return len(b.Payloads("kept")) > kept }) &&
			!waitFor(50*time.Millisecond, func() bool { return len(b.Payloads("dropped")) > dropped })
	})
}

func (s Setup) testBytes(t *testing.T) {
	nodes := s.join(t, 2)
	a, b := nodes[0], nodes[1]
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	large := slices.Repeat(every, 1<<12)
	channel := "名前 with \"quotes\" {braces} and spaces"
	s.subscribe(t, b, channel)
	want := []string{"", string(every), string(large), "end"}
	for _, p := range want {
		if err := a.Publish(channel, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	s.await(t, "all payloads arrive", func() bool { return len(b.Payloads(channel)) == len(want) })
	if !slices.Equal(b.Payloads(channel), want) {
		t.Error("a payload changed on its way")
	}
}

func (s Setup) testClose(t *testing.T) {
	nodes := s.join(t, 3)
	a, b, c := nodes[0], nodes[1], nodes[2]
	s.subscribe(t, b, "close")
	s.subscribe(t, c, "close")
	closeSoon(t, b)
	if b.State().Up {
		t.Error("a closed broker is not up")
	}
	if err := b.Publish("close", []byte("x")); !errors.Is(err, broker.ErrDown) {
		t.Errorf("publishing on a closed broker gives %v, want ErrDown", err)
	}
	heard := len(b.Payloads("close"))
	if err := a.Publish("close", []byte("x")); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the other nodes go on", func() bool { return len(c.Payloads("close")) > 0 })
	if len(b.Payloads("close")) != heard {
		t.Error("the handler was called after Close returned")
	}
	closeSoon(t, b) // twice does no harm
}

func (s Setup) testInterrupt(t *testing.T) {
	nodes := s.join(t, 2)
	a, b := nodes[0], nodes[1]
	channels := make([]string, 700) // several commands' worth
	for i := range channels {
		channels[i] = fmt.Sprint("interrupted ", i)
	}
	s.subscribe(t, b, channels...)
	before := len(b.States())
	s.Interrupt(t)
	s.await(t, "both nodes are up again", func() bool { return a.State().Up && b.State().Up })
	s.await(t, "every channel is heard again", func() bool {
		missing := false
		for _, c := range channels {
			if len(b.Payloads(c)) == 0 {
				missing = true
				_ = a.Publish(c, []byte("x"))
			}
		}
		return !missing
	})
	states := b.States()[before:]
	if len(states) < 2 || states[0].Up || !states[len(states)-1].Up {
		t.Errorf("an interruption is announced as down and then up, not as %+v", states)
	}
	if !slices.ContainsFunc(channels, func(c string) bool { return b.Confirmed(c) > 1 }) {
		t.Error("no channel was confirmed again after the interruption")
	}
}
