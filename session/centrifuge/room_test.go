package centrifuge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/fanout"
	"barrage/proto"
	"barrage/session"
)

// resumed is how often the client was read on.
func (c *client) resumed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resumes
}

// slows is how often the client was closed for being slow.
func (c *client) slows() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slow
}

func TestLargeAnswersWaitForRoom(t *testing.T) {
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	for what, command := range map[string]string{
		"histories": `{"id":%d,"history":{"channel":"a","limit":1}}`,
		"calls":     `{"id":%d,"rpc":{"method":"m"}}`,
	} {
		c := open(t, Server{RPC: func(c Call) { c.Done(large, nil) }}, JSON).connect()
		c.backend.history = proto.History{Epoch: "e", Offset: 1, Messages: []proto.Message{{Offset: 1, Data: large}}}
		unstick := c.stick()
		const asked = maxHistories
		for id := range asked {
			if rest := c.Message(fmt.Appendf(nil, command, id+2)); rest != nil {
				t.Fatalf("%s: what is one command is taken", what)
			}
		}
		if n := c.out.Pending(); n > fanout.DefaultPending/2+1<<20+1000 {
			t.Errorf("%s: one large answer waits to be read, not %d bytes", what, n)
		}
		if !c.Full() {
			t.Errorf("%s: who does not read is not read on", what)
		}
		before := c.resumed()
		unstick()
		for _, answer := range c.take(asked) {
			if !strings.HasPrefix(answer, `{"id":`) || len(answer) < 1<<20 {
				t.Errorf("%s: each command has its answer, not %.100s", what, answer)
			}
		}
		eventually(t, "who has read is read on", func() bool { return c.resumed() > before && !c.Full() })
		eventually(t, "what waited is forgotten", func() bool {
			c.Session.mu.Lock()
			defer c.Session.mu.Unlock()
			return c.edge == nil
		})
		if c.slows() != 0 {
			t.Errorf("%s: nobody was too slow", what)
		}
	}
}

func TestAnswersToCallsThatWaitAreBounded(t *testing.T) {
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	c := open(t, Server{RPC: func(c Call) { c.Done(large, nil) }}, JSON).connect()
	_ = c.stick()
	for id := range maxCalls + 2 { // the first is on its way
		if c.slows() != 0 {
			t.Errorf("%d large answers may wait, not %d", maxCalls, id-2)
		}
		c.Message(fmt.Appendf(nil, `{"id":%d,"rpc":{}}`, id+2))
	}
	if c.slows() != 1 {
		t.Error("a client for which more wait is closed")
	}
}

func TestWhatNobodyAskedForIsBounded(t *testing.T) {
	c := open(t, Server{}, JSON).connect()
	_ = c.stick()
	data := []byte(`"` + strings.Repeat("x", 200<<10) + `"`)
	for i := range 10 {
		c.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: fmt.Sprint(i), Data: data})
	}
	if n := c.out.Pending(); n > fanout.DefaultPending+100 || c.slows() != 1 {
		t.Errorf("a client that does not read what the server tells it is closed, and counted once, not %d times with %d bytes pending", c.slows(), n)
	}
}

func TestALargeAnswerLeavesRoomForWhatTheServerTells(t *testing.T) {
	c := open(t, Server{}, JSON).connect()
	c.backend.history = proto.History{Epoch: "e", Offset: 1, Messages: []proto.Message{{Offset: 1, Data: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)}}}
	unstick := c.stick()
	c.Message([]byte(`{"id":2,"history":{"channel":"a","limit":1}}`))
	c.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "b"})
	unstick()
	if got := c.take(2)[1]; !strings.Contains(got, `"subscribe":`) || c.slows() != 0 {
		t.Errorf("who has a large answer to read is told of its subscription, not %.100s", got)
	}
}

func TestWhoIsToGoAndReadsSlowlyDoesNotStay(t *testing.T) {
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	c := open(t, Server{RPC: func(c Call) { c.Done(large, nil) }}, JSON).connect()
	_ = c.stick()
	c.Message([]byte(`{"id":2,"rpc":{}}`))
	c.Message([]byte(`{"id":3,"rpc":{}}`))
	now := c.now
	c.Tick(now)
	c.Control(proto.Control{Kind: proto.ControlDisconnect})
	for _, wait := range []time.Duration{time.Hour, time.Hour + session.Grace - 1} {
		if c.Tick(now.Add(wait)); c.ended.Load() {
			t.Fatal("who has answers to read is given some time")
		}
	}
	if c.Tick(now.Add(time.Hour + session.Grace)); !c.ended.Load() {
		t.Error("who is to go does not stay by reading slowly")
	}
}
