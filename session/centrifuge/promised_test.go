package centrifuge

import (
	"strings"
	"sync"
	"testing"

	"barrage/auth"
	"barrage/channel"
)

// placesLate is a backend that says at once where a client begins, and gives it its place when it is released.
type placesLate struct {
	*backend
	mu    sync.Mutex
	asked bool
	joins []func()
}

func (b *placesLate) Join(name string, r channel.JoinRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked {
		b.joins = append(b.joins, func() { b.backend.Join(name, r) })
		return
	}
	b.asked = true
	b.backend.Join(name, r)
}

func (b *placesLate) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.joins)
}

func TestWhoWasToldOfASubscriptionMayDoWhatSubscribersMay(t *testing.T) {
	policy := &auth.Policy{Default: auth.Open}
	policy.Default.Rules[auth.Publish] = auth.Subscriber
	c := open(t, Server{Policy: policy}, JSON)
	c.shared.Tokens = listing{}
	late := &placesLate{backend: c.backend}
	c.shared.Backend = late
	c.Message([]byte(`{"id":1,"connect":{"token":"bob a"}}`))
	if got := c.take(1)[0]; !strings.Contains(got, `"subs":{"a":`) {
		t.Fatalf("the client is told that it is subscribed, not %s", got)
	}
	eventually(t, "the place is looked for", func() bool { return late.waiting() == 1 })
	c.Message([]byte(`{"id":2,"publish":{"channel":"a","data":1}}`))
	c.expect(`{"id":2,"publish":{}}`)
	late.joins[0]()
	if got := c.backend.feed("a", 0).Members(); got != 1 {
		t.Errorf("the client has its place: %d members", got)
	}
}

func TestWhoWasToldOfASubscriptionMayEndItBeforeItHasItsPlace(t *testing.T) {
	c := open(t, Server{}, JSON)
	c.shared.Tokens = listing{}
	late := &placesLate{backend: c.backend}
	c.shared.Backend = late
	c.Message([]byte(`{"id":1,"connect":{"token":"bob a"}}`))
	c.take(1)
	eventually(t, "the place is looked for", func() bool { return late.waiting() == 1 })
	c.Message([]byte(`{"id":2,"unsubscribe":{"channel":"a"}}`))
	c.expect(`{"id":2,"unsubscribe":{}}`)
	c.Message([]byte(`{"id":3,"subscribe":{"channel":"a"}}`))
	for _, join := range late.joins {
		join()
	}
	c.expect(`{"id":3,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true}}`)
	if got := c.backend.feed("a", 0).Members(); got != 1 || !c.backend.isThere("a") {
		t.Errorf("the last command wins: %d members", got)
	}
}
