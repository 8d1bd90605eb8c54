package session

import (
	"strings"
	"testing"
	"time"

	"barrage/channel"
	"barrage/limit"
	"barrage/node"
	"barrage/proto"
	"barrage/ws"
)

func TestWhoIsToLeaveIsNotHeardAnyMore(t *testing.T) {
	c := open(t, JSON, "").join()
	c.server.Limits = limit.New(limit.Options{Commands: limit.Rate{PerSecond: 0.001, Burst: 1}})
	c.says(`{"publish":{"data":1}}`)
	c.says(strings.Repeat(`{"ping":{}}`+"\n", limit.Patience+10))
	if n := c.server.Limits.Stats().Commands.Load(); n != limit.Patience {
		t.Errorf("after %d refusals the rest of the message is passed over, not after %d", limit.Patience, n)
	}
	if c.ended.Load() {
		t.Error("what is under way gets its answer first")
	}
	c.backend.ack(node.Published{Offset: 8}, nil)
	for deadline := time.Now().Add(10 * time.Second); !c.ended.Load() && time.Now().Before(deadline); {
	}
	if !c.ended.Load() {
		t.Error("then the session ends")
	}
}

// A session is found by its user before it is greeted.
func TestWhoIsSentAwayBeforeTheGreetingIsGreetedFirst(t *testing.T) {
	disconnect := proto.Control{Kind: proto.ControlDisconnect}
	c := surroundings(t)
	c.Session = New(Options{Connection: c, Client: "c1", Channel: "room", Format: JSON, Greeting: []byte("GREETING")})
	if !c.Control(disconnect) {
		t.Error("a session that has not started can be sent away")
	}
	c.Start(&proto.JoinQuery{})
	c.join()
	c.says(`{"ping":{}}`)
	want := "GREETING" + string(ws.AppendClose(nil, proto.CloseForced.Code, proto.CloseForced.Reason))
	if got := c.sent(want); got != want {
		t.Errorf("it is greeted, closed, and told nothing more: %q, not %q", want, got)
	}
	s, e := surroundings(t), &Events{}
	e.Init(Options{Connection: s, Client: "c1", Channel: "room", Greeting: []byte("HEAD\n")})
	e.Control(disconnect)
	e.Start(&proto.JoinQuery{})
	s.backend.joins[0].Ready(channel.Joined{Live: true})
	got := s.sent("\n\n")
	if !strings.HasPrefix(got, "HEAD\nevent: close\n") || strings.Contains(got, "welcome") {
		t.Errorf("so is a stream, not %q", got)
	}
}
