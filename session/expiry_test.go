package session

import (
	"strings"
	"testing"
	"time"

	"barrage/auth"
	"barrage/channel"
	"barrage/proto"
)

func TestAStreamEndsWithItsSubscription(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for name, id := range map[string]*auth.Identity{
		"the subscription ends first": {User: "ann", Expires: now.Add(time.Hour), Subs: map[string]auth.Subscription{"room": {Expires: now.Add(time.Minute)}}},
		"only the subscription ends":  {User: "ann", Subs: map[string]auth.Subscription{"room": {Expires: now.Add(time.Minute)}}},
		"the token ends first":        {User: "ann", Expires: now.Add(time.Minute), Subs: map[string]auth.Subscription{"room": {Expires: now.Add(time.Hour)}}},
	} {
		e, c := followAs(t, id, "")
		c.backend.joins[0].Ready(channel.Joined{Live: true})
		if got := c.sent("\n\n"); !strings.Contains(got, `"user":"ann","expires":1700000060}`) {
			t.Errorf("%s: the welcome tells who the client is, and until when: %s", name, got)
		}
		c.awaitNoted("enter room ann c1   false")
		if after := e.Expire(now); after != time.Minute {
			t.Errorf("%s: it has a minute left, not %v", name, after)
		}
		e.Expire(now.Add(time.Minute))
		if !e.ended.Load() {
			t.Errorf("%s: then the stream ends", name)
		}
		e.Gone()
	}
}

func TestAStreamIsUnsubscribedAndInvitedBack(t *testing.T) {
	e, c := follow(t, "")
	c.backend.joins[0].Ready(channel.Joined{Live: true})
	e.Control(proto.Control{Kind: proto.ControlUnsubscribe, Code: 2500})
	if got := c.sent("connect again\n\n"); !strings.Contains(got, ": bye 3011 the server has ended the subscription") {
		t.Errorf("codes from 2500 on invite to subscribe again: %s", got)
	}
}
