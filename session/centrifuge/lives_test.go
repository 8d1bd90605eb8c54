package centrifuge

import (
	"sync"
	"testing"
	"time"

	"barrage/proto"
)

const (
	subscribedAgain = `{"id":3,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true}}`
	unsubscribedA   = `{"push":{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`
)

// meanwhile runs fn while a subscription is taken out, as far as it may run then, and returns how to wait for its end.
func (c *client) meanwhile(fn func()) (wait func()) {
	var once sync.Once
	done := make(chan struct{})
	c.backend.onExit = func() {
		once.Do(func() {
			go func() {
				defer close(done)
				fn()
			}()
			select {
			case <-done:
			case <-time.After(20 * time.Millisecond): // it waits for its turn
			}
		})
	}
	return func() { <-done }
}

func TestTheLivesOfASubscriptionDoNotCross(t *testing.T) {
	c := open(t, Server{}, JSON).connect()
	c.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	c.take(1)
	wait := c.meanwhile(func() { c.Message([]byte(`{"id":3,"subscribe":{"channel":"a"}}`)) })
	c.Control(proto.Control{Kind: proto.ControlUnsubscribe, Channel: "a"})
	wait()
	c.expect(unsubscribedA, subscribedAgain)
	if !c.backend.isThere("a") {
		t.Error("who has subscribed again is present")
	}
}

func TestAnEndThatIsNoticedLateDoesNotEndTheNextLife(t *testing.T) {
	c := open(t, Server{}, JSON).connect()
	c.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	c.take(1)
	c.backend.feed("a", 0).Restart(1, Codecs(nil)[JSON].Reset("a", proto.Position{}, ""))
	c.take(1)
	wait := c.meanwhile(func() { c.Message([]byte(`{"id":3,"subscribe":{"channel":"a"}}`)) })
	c.Tick(c.now)
	wait()
	c.expect(subscribedAgain)
	if !c.backend.isThere("a") {
		t.Error("who has subscribed again is present")
	}
}

func TestWhatTheServerEndsDuringConnectIsNotToldOf(t *testing.T) {
	c := closed(t, nil)
	c.backend.held = true
	c.Message([]byte(`{"id":1,"connect":{"token":"bob"}}`))
	if !c.Control(proto.Control{Kind: proto.ControlUnsubscribe, Channel: "given"}) {
		t.Error("the connection is concerned")
	}
	c.backend.release()
	c.expect(`{"id":1,"connect":{"client":"c1","expires":true,"ttl":60,"subs":{"live:given":{}},"ping":25,"pong":true}}`)
	c.Message([]byte(`{"id":3,"ping":{}}`))
	c.expect(`{"id":3,"ping":{}}`)
	if c.backend.isThere("given") || !c.backend.isThere("live:given") {
		t.Error("the client is present where it is subscribed, and only there")
	}
}

func TestASubscriptionByTheServerThatCannotBeOpenedEndsNothing(t *testing.T) {
	c := open(t, Server{}, JSON).connect()
	c.backend.down = true
	c.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "a"})
	if c.backend.isThere("a") {
		t.Error("who could not be subscribed is not present")
	}
	c.Tick(c.now)
	c.Message([]byte(`{"id":3,"ping":{}}`))
	c.expect(`{"id":3,"ping":{}}`)
}

func TestASubscriptionThatFailedTakesNoPlace(t *testing.T) {
	c := open(t, Server{Channels: 1}, JSON).connect()
	for name, in := range map[string]string{
		"cannot be opened":  `{"id":2,"subscribe":{"channel":"b"}}`,
		"cannot be resumed": `{"id":2,"subscribe":{"channel":"b","recover":true,"epoch":"f","offset":5,"flag":2}}`,
	} {
		c.backend.down = name == "cannot be opened"
		c.Message([]byte(in))
		c.backend.down = false
		c.take(1)
		if c.backend.isThere("b") {
			t.Errorf("nobody is present in a channel that %s", name)
		}
		c.Message([]byte(`{"id":3,"subscribe":{"channel":"a"}}`))
		c.expect(subscribedAgain)
		c.Message([]byte(`{"id":4,"unsubscribe":{"channel":"a"}}`))
		c.take(1)
	}
}

func TestWhoLeavesWhileItIsPlacedCanComeBack(t *testing.T) {
	c := open(t, Server{}, JSON).connect()
	c.backend.onReady = func() {
		c.backend.onReady = nil
		c.Message([]byte(`{"id":4,"unsubscribe":{"channel":"a"}}` + "\n" + `{"id":3,"subscribe":{"channel":"a"}}`))
	}
	c.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	c.expect(`{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true}}`, `{"id":4,"unsubscribe":{}}`, subscribedAgain)
	if !c.backend.isThere("a") {
		t.Error("who has subscribed again is present")
	}
	s := &c.Session
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		left := s.underway
		s.mu.Unlock()
		if left == 0 {
			return
		}
	}
	t.Error("every command has its answer")
}
