package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"barrage/broker"
	"barrage/broker/brokertest"
	"barrage/broker/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler passes what a broker says to a Cluster.
type handler struct{ c *Cluster }

func (h handler) Receive(channel string, payload []byte) { h.c.Receive(channel, payload) }
func (h handler) Subscribed(channels []string)           { h.c.Subscribed(channels) }
func (h handler) StateChanged(s broker.State)            { h.c.StateChanged(s) }

// boot starts a node, which echoes what it is asked, with its name.
func boot(hub *brokertest.Hub, name string) *Cluster {
	c := New(Options{ID: "id-" + name, Name: name, Version: "1", Load: func() Load { return Load{Connections: len(name)} }})
	c.Handle("echo", func(r Request) ([]byte, error) { return fmt.Appendf(nil, "%s:%s", name, r.Payload), nil })
	c.Start(hub.Join("id-"+name, handler{c}))
	return c
}

func names(c *Cluster) string {
	var list []string
	for _, n := range c.Nodes() {
		list = append(list, n.Name)
	}
	return strings.Join(list, " ")
}

// said asks and waits.
func said(t *testing.T, c *Cluster, q Query) (payloads, missing string) {
	t.Helper()
	heard := make(chan Answers, 1)
	q.Done = func(a Answers) { heard <- a }
	if err := c.Ask(q); err != nil {
		t.Fatalf("a question is asked, but got %v", err)
	}
	a := <-heard
	var list []string
	for _, answer := range a.List {
		list = append(list, string(answer.Payload))
	}
	slices.Sort(list)
	return strings.Join(list, " "), strings.Join(a.Missing, " ")
}

func TestNodesFindEachOtherAndAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		a, b := boot(hub, "a"), boot(hub, "b")
		c := boot(hub, "c")
		time.Sleep(100 * time.Millisecond)
		if got := names(a) + "|" + names(b) + "|" + names(c); got != "a b c|a b c|a b c" {
			t.Errorf("nodes know each other at once, but they know %s", got)
		}
		began := time.Now()
		if p, m := said(t, a, Query{Kind: "echo", Payload: []byte("x")}); p != "a:x b:x c:x" || m != "" {
			t.Errorf("all answer, but %q did and %q are missing", p, m)
		}
		if p, m := said(t, a, Query{Kind: "echo", To: "id-c", Payload: []byte("y")}); p != "c:y" || m != "" {
			t.Errorf("one is asked alone, but %q answered and %q are missing", p, m)
		}
		if p, m := said(t, a, Query{Kind: "echo", Others: true}); p != "b: c:" || m != "" {
			t.Errorf("the others are asked, but %q answered and %q are missing", p, m)
		}
		if p, m := said(t, a, Query{Kind: "news of another version"}); p != "" || m != "a b c" {
			t.Errorf("an unknown question is refused by all, but %q answered and %q are missing", p, m)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("nobody is waited for who has answered, but it took %v", took)
		}
		if err := a.Ask(Query{Kind: "echo", To: "nobody"}); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("a node that is not there cannot be asked, but got %v", err)
		}
		if n := b.Nodes()[0]; n.Connections != 1 || n.Version != "1" || n.Uptime <= 0 {
			t.Errorf("a heartbeat tells of the node, but got %+v", n)
		}
		c.Close()
		time.Sleep(100 * time.Millisecond)
		if got := names(a); got != "a b" {
			t.Errorf("a node that said goodbye is gone, but the nodes are %s", got)
		}
		a.Close()
		b.Close()
		hub.Close()
	})
}

func TestADeadNodeIsMissingUntilItsLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		a, b := boot(hub, "a"), boot(hub, "b")
		time.Sleep(100 * time.Millisecond)
		hub.Crash("id-b")
		began := time.Now()
		if p, m := said(t, a, Query{Kind: "echo"}); p != "a:" || m != "b" || time.Since(began) != time.Second {
			t.Errorf("a dead node is named after a second, but %q answered and %q are missing after %v", p, m, time.Since(began))
		}
		time.Sleep(8 * time.Second)
		if got := names(a); got != "a" {
			t.Errorf("a dead node is forgotten when its lease ends, but the nodes are %s", got)
		}
		if p, m := said(t, a, Query{Kind: "echo"}); p != "a:" || m != "" {
			t.Errorf("then it is not missing any more, but %q answered and %q are missing", p, m)
		}
		a.Close()
		b.Close()
		hub.Close()
	})
}

func TestWhoIsCutOffNamesTheOthersAsLongAsItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		a, b := boot(hub, "a"), boot(hub, "b")
		time.Sleep(100 * time.Millisecond)
		hub.SetDown("id-a", true)
		time.Sleep(time.Minute)
		began := time.Now()
		if p, m := said(t, a, Query{Kind: "echo"}); p != "a:" || m != "b" || time.Since(began) > 0 {
			t.Errorf("without a broker the others are named at once, but %q answered and %q are missing after %v", p, m, time.Since(began))
		}
		if got := names(b); got != "b" {
			t.Errorf("the others forget who is cut off, but the nodes are %s", got)
		}
		hub.SetDown("id-a", false)
		time.Sleep(100 * time.Millisecond)
		if p, m := said(t, b, Query{Kind: "echo"}); p != "a: b:" || m != "" {
			t.Errorf("they are together again at once, but %q answered and %q are missing", p, m)
		}
		a.Close()
		b.Close()
		hub.Close()
	})
}

// A broker that loses, repeats and reorders makes nodes missing, and nothing else.
func TestRequestsAreDoneAtMostOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(7, brokertest.Faults{})
		a, b := boot(hub, "a"), boot(hub, "b")
		done := map[string]int{}
		b.Handle("once", func(r Request) ([]byte, error) { done[string(r.Payload)]++; return nil, nil })
		time.Sleep(100 * time.Millisecond)
		hub.SetFaults(brokertest.Faults{Lose: 0.2, Repeat: 0.5, Delay: 500 * time.Millisecond, Reorder: 0.5})
		answered, missing := 0, 0
		for i := range 300 {
			q := Query{Kind: "once", Payload: fmt.Appendf(nil, "%d", i), Others: true, Done: func(a Answers) {
				answered += len(a.List)
				missing += len(a.Missing)
			}}
			if err := a.Ask(q); err != nil {
				t.Fatal(err)
			}
			if i%10 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		hub.SetFaults(brokertest.Faults{})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for what, times := range done {
			if times != 1 {
				t.Errorf("question %s is done once, but was done %d times", what, times)
			}
		}
		if answered+missing < 200 || answered == 0 || missing == 0 || answered > len(done) {
			t.Errorf("every question ends, but of 300 %d were answered and %d not, and %d were done", answered, missing, len(done))
		}
		if n := len(a.asks) + a.guests; n != 0 {
			t.Errorf("nothing is left over, but %d are", n)
		}
		a.Close()
		b.Close()
		hub.Close()
	})
}

func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		a, b := boot(hub, "a"), boot(hub, "b")
		time.Sleep(100 * time.Millisecond)
		b.Handle("large", func(Request) ([]byte, error) { return make([]byte, MaxAnswer+1), nil })
		if _, m := said(t, a, Query{Kind: "large", To: "id-b"}); m != "b" {
			t.Errorf("an answer that is too large is none, but missing are %q", m)
		}
		if err := a.Ask(Query{Kind: "echo", Payload: make([]byte, MaxAnswer+1)}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a question that is too large is refused, but got %v", err)
		}
		hub.Crash("id-b")
		ended := 0
		for range maxAsks {
			if err := a.Ask(Query{Kind: "echo", To: "id-b", Done: func(Answers) { ended++ }}); err != nil {
				t.Fatalf("%d questions may be under way, but got %v", maxAsks, err)
			}
		}
		if err := a.Ask(Query{Kind: "echo"}); !errors.Is(err, ErrBusy) {
			t.Errorf("more than %d questions are refused, but got %v", maxAsks, err)
		}
		a.Close()
		if ended != maxAsks {
			t.Errorf("all questions end with the node, but %d of %d did", ended, maxAsks)
		}
		if err := a.Ask(Query{Kind: "echo"}); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed node asks nothing, but got %v", err)
		}
		b.Close()
		hub.Close()
	})
}

func TestANodeAloneAnswersItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{ID: "id", Name: "alone"})
		c.Handle("echo", func(r Request) ([]byte, error) { return r.Payload, nil })
		b := local.Open(handler{c})
		c.Start(b)
		if p, m := said(t, c, Query{Kind: "echo", Payload: []byte("x")}); p != "x" || m != "" {
			t.Errorf("a node without others answers itself, but got %q and %q are missing", p, m)
		}
		if p, m := said(t, c, Query{Kind: "echo", Others: true}); p != "" || m != "" {
			t.Errorf("it has no others, but got %q and %q are missing", p, m)
		}
		c.Close()
		_ = b.Close(t.Context())
	})
}

func TestTheWindowOfRequests(t *testing.T) {
	var s sender
	for _, step := range []struct {
		id   uint64
		want bool
	}{
		{1, true},
		{1, false},
		{3, true},
		{2, true},
		{2, false},
		{1030, true},
		{3, false},
		{1029, true},
		{1029, false},
		{7, true},
		{6, false},
		{1 << 40, true},
		{1<<40 - 1, true},
		{1<<40 - 1, false},
		{^uint64(0), true},
		{^uint64(0), false},
	} {
		if got := s.add(step.id); got != step.want {
			t.Errorf("after the requests before it, %d is new: %v, but got %v", step.id, step.want, got)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, frame{kind: frameQuestion, from: "a", id: 300, name: "roll", body: []byte("x")}))
	f.Add([]byte{frameVersion, 5, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseFrame(b)
		if err != nil {
			return
		}
		again, err := parseFrame(appendFrame(nil, got))
		if err != nil || again.from != got.from || again.id != got.id || again.name != got.name || !bytes.Equal(again.body, got.body) {
			t.Errorf("a frame is the same when it was written and read again: %+v became %+v, %v", got, again, err)
		}
	})
}
