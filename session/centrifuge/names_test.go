package centrifuge

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// codes counts the answers of a session by the code of their error, 0 for none.
func codes(frames []string) map[int]int {
	n := map[int]int{}
	for _, f := range frames {
		code := 0
		if _, rest, ok := strings.Cut(f, `"code":`); ok {
			_, _ = fmt.Sscanf(rest, "%d", &code)
		}
		n[code]++
	}
	return n
}

func TestAClientNamesSoManyChannelsAtOnce(t *testing.T) {
	c := open(t, Server{}, JSON).connect()
	loop := func(cycles int) (subscribed, refused int) {
		for i := range cycles {
			c.Message(fmt.Appendf(nil, `{"id":2,"subscribe":{"channel":"live:%d"}}`+"\n"+`{"id":3,"unsubscribe":{"channel":"live:%d"}}`, i, i))
		}
		n := codes(c.take(2 * cycles))
		return n[0] - cycles, n[111]
	}
	if subscribed, refused := loop(300); subscribed != 256 || refused != 44 {
		t.Errorf("of 300 channels 256 are subscribed to and 44 refused, not %d and %d", subscribed, refused)
	}
	c.now = c.now.Add(2 * time.Second)
	if subscribed, _ := loop(150); subscribed != 100 {
		t.Errorf("in two seconds there are 100 more, not %d", subscribed)
	}
	c.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	c.expect(`{"id":2,"error":{"code":111,"message":"this connection names too many channels; at most 50 a second are allowed; try again after 20 ms","temporary":true}}`)
	c.now = c.now.Add(-time.Hour)
	if subscribed, _ := loop(10); subscribed != 10 {
		t.Errorf("a clock that was set back keeps nobody out: %d of 10", subscribed)
	}
}

func TestAskingWhoIsInManyChannelsIsBounded(t *testing.T) {
	c := open(t, Server{}, JSON).connect()
	c.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	c.take(1)
	for range 300 {
		c.Message([]byte(`{"id":3,"presence":{"channel":"a"}}`))
	}
	if n := codes(c.take(300)); n[0] != 300 {
		t.Errorf("who is subscribed may ask who else is: %v", n)
	}
	for i := range 300 {
		c.Message(fmt.Appendf(nil, `{"id":3,"presence_stats":{"channel":"%d"}}`, i))
	}
	if n := codes(c.take(300)); n[0] != 255 || n[111] != 45 {
		t.Errorf("of 300 other channels one may ask for 255, not %v", n)
	}
}

func TestAllChannelsFitAtOnce(t *testing.T) {
	c := open(t, Server{Channels: 1000}, JSON).connect()
	for i := range 1000 {
		c.Message(fmt.Appendf(nil, `{"id":2,"subscribe":{"channel":"live:%d"}}`, i))
	}
	if n := codes(c.take(1000)); n[0] != 1000 {
		t.Errorf("a client that comes back is subscribed to all of its channels: %v", n)
	}
}
