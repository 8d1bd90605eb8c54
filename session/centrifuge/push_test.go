package centrifuge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/protocol"

	"barrage/proto"
)

// lines is what was sent to a client of streams since its connection was opened, once that is n lines or more.
func (c *client) lines(n int) (list []string) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c.socket.mu.Lock()
		list = strings.SplitAfter(string(c.socket.got), "\n")
		c.socket.mu.Unlock()
		if len(list) > n || time.Now().After(deadline) {
			return list
		}
	}
}

func TestAClientThatOnlyListens(t *testing.T) {
	many := map[string]*protocol.SubscribeRequest{}
	for i := range DefaultChannels + 1 {
		many[fmt.Sprint(i)] = nil
	}
	for _, tt := range []struct {
		name   string
		server Server
		subs   map[string]*protocol.SubscribeRequest
		want   string
	}{
		{"nothing", Server{}, nil, `{"connect":{"client":"c1","ping":25}}`},
		{"a channel", Server{}, map[string]*protocol.SubscribeRequest{"a": nil}, `{"connect":{"client":"c1","subs":{"a":{"recoverable":true,"epoch":"e","offset":7,"positioned":true}},"ping":25}}`},
		{"a position", Server{}, map[string]*protocol.SubscribeRequest{"a": {Recover: true, Offset: 5}}, `"recovered":true,"offset":5`},
		{"a position that is not kept", Server{}, map[string]*protocol.SubscribeRequest{"a": {Recover: true, Offset: 5, Epoch: "other", Flag: flagRejectUnrecovered}}, `"offset":7,"positioned":true,"was_recovering":true`},
		{"a map", Server{}, map[string]*protocol.SubscribeRequest{"a": {Type: 1}}, `{"disconnect":{"code":3501,`},
		{"no name", Server{}, map[string]*protocol.SubscribeRequest{"": {}}, `{"disconnect":{"code":3501,`},
		{"too many channels", Server{}, many, `{"disconnect":{"code":3505,`},
		{"no storage", Server{}, map[string]*protocol.SubscribeRequest{"a": {}}, `{"disconnect":{"code":3013,`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := open(t, tt.server, UniLines)
			c.backend.down = tt.name == "no storage"
			c.Connect(&protocol.ConnectRequest{Subs: tt.subs})
			if got := c.lines(1)[0]; !strings.Contains(got, tt.want) {
				t.Errorf("the first push has %s: %s", tt.want, got)
			}
		})
	}
}

func TestAClientThatOnlyListensIsToldOfTheServersDoings(t *testing.T) {
	c := open(t, Server{}, UniLines)
	c.Connect(&protocol.ConnectRequest{})
	c.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "a"})
	c.Control(proto.Control{Kind: proto.ControlUnsubscribe, Channel: "a"})
	c.Control(proto.Control{Kind: proto.ControlDisconnect})
	want := []string{`{"connect":`, `{"channel":"a","subscribe":{`, `{"channel":"a","unsubscribe":{"code":2000`, `{"disconnect":{"code":3503`}
	got := c.lines(len(want))
	for i, begin := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], begin) {
			t.Fatalf("push %d begins with %s: %q", i, begin, got)
		}
	}
}
