package session

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"barrage/auth"
	"barrage/channel"
	"barrage/proto"
)

// follow makes a session of /sse, and everything around it, which is a client without a session of its own.
func follow(t *testing.T, query string) (*Events, *client) { return followAs(t, nil, query) }

func followAs(t *testing.T, id *auth.Identity, query string) (*Events, *client) {
	t.Helper()
	q, err := proto.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	c := surroundings(t)
	c.server.MaxPayload = 1000 // which no stream tells: nothing is sent on it
	e := &Events{}
	e.Init(Options{Connection: c, Client: "c1", Identity: id, Channel: "room", Greeting: []byte("HEAD\n")})
	e.Start(&q)
	return e, c
}

// sent waits until the stream has sent something that ends so, and returns all of it.
func (c *client) sent(end string) string {
	c.t.Helper()
	got := ""
	eventually(c.t, "the stream must end with "+end, func() bool {
		c.socket.mu.Lock()
		defer c.socket.mu.Unlock()
		got = string(c.socket.got)
		return strings.HasSuffix(got, end)
	})
	return got
}

func TestWhatAStreamBeginsWith(t *testing.T) {
	const welcome = `data: {"welcome":{"node":"a","client":"c1","channel":"room",`
	for _, tt := range []struct {
		joined channel.Joined
		want   string
	}{
		{channel.Joined{Position: proto.Position{Epoch: "e", Offset: 7}, Next: 5}, "event: welcome\nid: e/4\n" + welcome + `"epoch":"e","offset":7}}` + "\n\n"},
		{channel.Joined{Live: true}, "event: welcome\n" + welcome + `"live":true}}` + "\n\n"},
		{
			channel.Joined{Position: proto.Position{Epoch: "e", Offset: 7}, Next: 8, Reset: true, Reason: "why"},
			"event: reset\nid: e/7\ndata: {\"reset\":{\"epoch\":\"e\",\"offset\":7,\"reason\":\"why\"}}\n\nevent: welcome\nid: e/7\n" + welcome + `"epoch":"e","offset":7}}` + "\n\n",
		},
	} {
		e, c := follow(t, "")
		if e.Greeted() {
			t.Error("nothing is sent before the channel is joined")
		}
		if !c.backend.joins[0].Ready(tt.joined) || !e.Greeted() {
			t.Error("a stream that is joined stays")
		}
		got := c.sent(tt.want)
		rest, ok := strings.CutPrefix(strings.TrimSuffix(got, tt.want), "HEAD\nretry: ")
		if !ok || len(rest) != len("1000\n\n") {
			t.Errorf("a stream begins with its head and the time to wait, not %q", got)
		}
	}
}

func TestHowAStreamEnds(t *testing.T) {
	for _, tt := range []struct {
		how  proto.Close
		want string
	}{
		{proto.CloseShutdown.With("go\non"), ": bye 3001 go on\n\n"},
		{proto.CloseForced, "event: close\ndata: {\"close\":{\"code\":3503,\"reason\":\"force disconnect\"}}\n\n"},
	} {
		e, c := follow(t, "")
		if !e.End(tt.how) || e.End(tt.how) {
			t.Error("only the first end counts")
		}
		if got := c.sent(tt.want); got != "HEAD\n"+tt.want {
			t.Errorf("a stream that ends before it is joined has its head: %q", got)
		}
		c.backend.joins[0].Ready(channel.Joined{Next: 1})
		eventually(t, "the stream is finished", func() bool { c.socket.mu.Lock(); defer c.socket.mu.Unlock(); return c.socket.finished })
	}
	e, c := follow(t, "since=3&epoch=e")
	if s := c.backend.joins[0].Start; s.Since == nil || *s.Since != 3 || s.Epoch != "e" {
		t.Errorf("a stream begins where it was asked to: %+v", s)
	}
	if c.backend.joins[0].Ready(channel.Joined{Err: channel.ErrNotOpen}) || e.End(proto.CloseNormal) {
		t.Error("a stream ends when its channel cannot be opened")
	}
	if got := c.sent(": storage is unavailable\n\n"); !strings.HasPrefix(got, "HEAD\nretry: ") {
		t.Errorf("its client is told to come back later: %q", got)
	}
}

func TestEventsOfTheCodec(t *testing.T) {
	codec := Codecs()[SSE].(channel.PositionCodec)
	m := &proto.Message{Offset: 7, Time: 8, Data: []byte(`"x"`)}
	line := string(proto.AppendMessage(nil, m))
	if got := string(codec.AppendFrameAt([]byte("before"), "room", "e", m)); got != "beforeid: e/7\ndata: "+line+"\n\n" {
		t.Errorf("a message is an event whose id is its position: %q", got)
	}
	if got := string(codec.AppendFrameAt(nil, "room", "", &proto.Message{Time: 8, Data: []byte("1")})); strings.Contains(got, "id:") {
		t.Errorf("a live message has no position: %q", got)
	}
	if n := codec.Reset("room", proto.Position{Epoch: "f", Offset: 3}, "why"); n.End || !bytes.HasPrefix(n.Frames, []byte("event: reset\nid: f/3\ndata: {\"reset\":")) {
		t.Errorf("a reset tells the new position: %q", n.Frames)
	}
	if n := codec.Skipped("room", 9); n.End || string(n.Frames) != "event: skipped\ndata: {\"skipped\":{\"count\":9}}\n\n" {
		t.Errorf("a client that was too slow is told: %q", n.Frames)
	}
}

func TestAStreamOfAUser(t *testing.T) {
	now := time.Unix(1000, 0)
	id := &auth.Identity{User: "ann", Info: []byte(`{"a":1}`), Expires: now.Add(time.Minute)}
	e, c := followAs(t, id, "")
	c.server.Policy = &auth.Policy{Default: auth.Namespace{JoinLeave: true}}
	c.backend.joins[0].Ready(channel.Joined{Next: 1})
	present := func(want string) {
		t.Helper()
		eventually(t, "the backend is told: "+want, func() bool {
			return c.backend.noted() == want
		})
	}
	present("enter room ann c1 {\"a\":1}  true")
	if i := e.Info(); i.Protocol != "sse" || i.User != "ann" || i.Channels[0] != "room" || i.Client != "c1" || string(i.Info) != `{"a":1}` {
		t.Errorf("a stream is described: %+v", i)
	}
	if after := e.Expire(now); after != time.Minute {
		t.Errorf("a token that is good is looked at again when it ends, not after %v", after)
	}
	if e.Control(proto.Control{Kind: proto.ControlUnsubscribe, Channel: "other"}) || e.Control(proto.Control{Kind: proto.ControlRefresh}) {
		t.Error("what does not concern a stream is passed over")
	}
	if e.Expire(now.Add(time.Minute)); e.End(proto.CloseNormal) {
		t.Error("a stream ends with its token")
	}
	c.sent(": bye 3005 the token has expired; connect again with a new one\n\n")
	e.Gone()
	present("enter room ann c1 {\"a\":1}  true, exit room c1")

	for _, tt := range []struct {
		ask proto.Control
		end string
	}{
		{proto.Control{Kind: proto.ControlDisconnect}, `event: close`},
		{proto.Control{Kind: proto.ControlDisconnect, Code: 3001, Reason: "go"}, ": bye 3001 go"},
		{proto.Control{Kind: proto.ControlUnsubscribe}, `event: close`},
		{proto.Control{Kind: proto.ControlRefresh, Expired: true}, ": bye 3005"},
	} {
		e, c := followAs(t, id, "")
		if !e.Control(tt.ask) || !strings.Contains(c.sent("\n\n"), tt.end) {
			t.Errorf("%+v ends a stream with %q, not %q", tt.ask, tt.end, c.socket.got)
		}
		e.Gone()
		c.backend.joins[0].Ready(channel.Joined{Next: 1}) // too late
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, sentence string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal(sentence)
		}
	}
}
