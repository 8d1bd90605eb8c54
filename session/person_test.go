package session

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"barrage/auth"
	"barrage/proto"
)

func ann() *auth.Identity {
	return &auth.Identity{User: "ann", Info: []byte(`{"a":1}`), Subs: map[string]auth.Subscription{"room": {Info: []byte(`7`)}}}
}

func (c *client) awaitNoted(want string) {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); c.backend.noted() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("the backend must be told %q, not %q", want, c.backend.noted())
		}
	}
}

func TestAClientWithAnIdentityEntersAndExits(t *testing.T) {
	policy := &auth.Policy{Default: auth.Open}
	policy.Default.JoinLeave = true
	c := openAs(t, JSON, "members=1&name=other", ann(), policy).join()
	c.expect(`{"welcome":{"node":"a","client":"c1","channel":"room","epoch":"e","offset":7,"user":"ann"}}`)
	c.awaitNoted(`listen room, enter room ann c1 {"a":1} 7 true`)
	c.says(`{"publish":{"data":1}}`)
	if p := c.backend.published[0]; p.User != "ann" || string(p.Attributes) != `{"info":{"a":1},"chan_info":7}` {
		t.Errorf("what is published is ann's, whatever the name, not %+v %s", p, p.Attributes)
	}
	c.Gone()
	c.awaitNoted(`listen room, enter room ann c1 {"a":1} 7 true, exit room c1`)
}

func TestAnAnonymousClientEntersNothing(t *testing.T) {
	c := open(t, JSON, "name=ann").join()
	c.expect(`{"welcome":{"node":"a","client":"c1","channel":"room","epoch":"e","offset":7}}`)
	c.says(`{"ping":{}}`)
	c.expect(`{"pong":{}}`)
	if c.extra != nil {
		t.Error("without authentication and limits a session must have nothing besides")
	}
	c.Gone()
	if got := c.backend.noted(); got != "" {
		t.Errorf("without authentication nobody is told of members: %q", got)
	}
}

func TestWhoIsGoneDoesNotEnter(t *testing.T) {
	c := openAs(t, JSON, "", ann(), nil)
	c.Gone()
	c.arrive(c.extra)
	if got := c.backend.noted(); got != "" {
		t.Errorf("a connection that has ended must not enter: %q", got)
	}
}

func TestPresenceAndInfo(t *testing.T) {
	c := openAs(t, JSON, "", ann(), nil).join()
	c.next(1)
	c.backend.roster = proto.Roster{Members: []proto.MemberInfo{{User: "ann", Client: "c1"}}, Counts: proto.Counts{Clients: 4, Users: 2}, Sampled: true}
	c.says(`{"presence":{"id":"p"}}`)
	c.expect(`{"presence":{"id":"p","members":[{"user":"ann","client":"c1"}],"clients":4,"users":2,"exact":false,"sampled":true}}`)
	c.says(`{"info":{"id":"i"}}`)
	c.expect(`{"info":{"id":"i","members":3,"nodes":2,"users":2,"exact":false}}`)
	c.says(`{"refresh":{"token":"t","id":"r"}}`)
	c.expect(`{"error":{"code":108,"message":"this server has no authentication by tokens","id":"r","retry":false}}`)
}

func TestExpire(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	id := ann()
	id.Expires = now
	c := openAs(t, JSON, "", id, nil).join()
	c.expect(`{"welcome":{"node":"a","client":"c1","channel":"room","epoch":"e","offset":7,"user":"ann","expires":1700000000}}`)
	if after := c.Expire(now.Add(10 * time.Second)); after != 15*time.Second {
		t.Errorf("10 s after its end a token has 15 s left, not %v", after)
	}
	if !c.Control(proto.Control{Kind: proto.ControlRefresh, Expires: 1_700_000_100}) {
		t.Error("the server API can give more time")
	}
	if after := c.Expire(now.Add(100 * time.Second)); after != Grace {
		t.Errorf("at its new end a token has 25 s left, not %v", after)
	}
	c.Expire(now.Add(125 * time.Second))
	c.expect("close 3005 the token has expired; connect again with a new one")
}

func TestAnEarlierEndOfTheSubscriptionCounts(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	id := ann()
	id.Expires, id.Subs["room"] = now.Add(time.Hour), auth.Subscription{Expires: now}
	if c := openAs(t, Raw, "", id, nil); c.Expire(now) != Grace {
		t.Errorf("the subscription ends first: it has 25 s left, not %v", c.Expire(now))
	}
}

func TestCloseOfFitsIntoAFrame(t *testing.T) {
	for n := range 130 {
		c := CloseOf(proto.ErrDenied.With("%s", strings.Repeat("x", n)+"弹幕弹幕"))
		if len(c.Reason) > 123 || !utf8.ValidString(c.Reason) {
			t.Errorf("a reason has at most 123 bytes of whole characters, not %d: %q", len(c.Reason), c.Reason)
		}
	}
}

func TestEventsAreLines(t *testing.T) {
	name := proto.EventsOf("room")
	for _, c := range []struct{ data, want string }{
		{`{"join":{"user":"ann","client":"c","info":{"a":1}}}`, `{"join":{"user":"ann","client":"c","info":{"a":1}}}`},
		{`{"leave":{"user":"","client":"c"}}`, `{"leave":{"user":"","client":"c"}}`},
		{`{"novelty":1}`, `{}`},
		{`[]`, `{}`},
	} {
		got := jsonCodec{}.AppendFrame([]byte("before"), name, &proto.Message{Time: 1, Data: []byte(c.data)})
		if want := string(appendLine([]byte("before"), []byte(c.want))); string(got) != want {
			t.Errorf("the event %s is the frame %q, not %q", c.data, want, got)
		}
	}
	if n := (jsonCodec{}).Skipped(name, 3); len(n.Frames) > 0 || n.End || n.Leave {
		t.Errorf("who misses events is not told that messages are missing: %q", n.Frames)
	}
}
