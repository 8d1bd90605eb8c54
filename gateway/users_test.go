package gateway

import (
	"encoding/json"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"barrage/auth"
	"barrage/limit"
	"barrage/proto"
	"barrage/session"
)

func bearer(name string) []string { return []string{"Authorization", "Bearer " + name + ".good"} }

func TestControl(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}, Anonymous: true})
	first, second := w.dial("/ws/room", bearer("ann")...), w.dial("/raw/room", bearer("ann")...)
	bob, nobody := w.dial("/ws/room", bearer("bob")...), w.dial("/ws/room")
	id := first.welcome().Client
	bob.welcome()
	nobody.welcome()
	eventually(t, "both connections of ann are found", func() bool { return len(w.gateway.Connections("ann")) == 2 })
	for _, info := range w.gateway.Connections("ann") {
		if info.User != "ann" || info.Node != "a" || strings.Join(info.Channels, " ") != "room" || string(info.Info) != `{"name":"ANN"}` || (info.Client == id) != (info.Protocol == "ws") {
			t.Errorf("a connection of ann must be described, not %+v", info)
		}
	}
	for _, c := range []struct {
		control proto.Control
		want    int
	}{
		{proto.Control{Kind: proto.ControlDisconnect}, 0}, // nobody is not one user
		{proto.Control{Kind: proto.ControlDisconnect, User: "eve"}, 0},
		{proto.Control{Kind: proto.ControlUnsubscribe, User: "ann", Channel: "other"}, 0},
		{proto.Control{Kind: proto.ControlSubscribe, User: "ann", Channel: "room"}, 2},
		{proto.Control{Kind: proto.ControlDisconnect, User: "ann", Except: []string{id}}, 1},
	} {
		if n := w.gateway.Control(c.control); n != c.want {
			t.Errorf("%+v concerns %d connections, not %d", c.control, c.want, n)
		}
	}
	if got := second.closed(); got.Code != 3503 {
		t.Errorf("who is disconnected is closed with 3503, not %d %q", got.Code, got.Text)
	}
	w.gateway.Control(proto.Control{Kind: proto.ControlDisconnect, User: "ann", Client: id, Code: 4321, Reason: "away with you"})
	if got := first.closed(); got.Code != 4321 || got.Text != "away with you" {
		t.Errorf("the server API gives the code and the reason, not %d %q", got.Code, got.Text)
	}
	eventually(t, "ann has no connections any more", func() bool { return len(w.gateway.Connections("ann")) == 0 })
	w.gateway.Control(proto.Control{Kind: proto.ControlUnsubscribe, User: "bob", Channel: "room"})
	if got := bob.closed(); got.Code != 3503 {
		t.Errorf("without its one channel a connection ends with 3503, not %d %q", got.Code, got.Text)
	}
	nobody.send(`{"ping":{}}`)
	if nobody.reply().Pong == nil {
		t.Error("others are left alone")
	}
}

func TestADisconnectFindsWhoHasReadTheGreeting(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}})
	greeted := map[string]func(user string) (closed func() bool){
		"/raw": func(user string) func() bool {
			c := w.dial("/raw/room", bearer(user)...)
			return func() bool { return c.closed().Code == 3503 }
		},
		"/ws": func(user string) func() bool {
			c := w.dial("/ws/room", bearer(user)...)
			c.welcome()
			return func() bool { return c.closed().Code == 3503 }
		},
		"/sse": func(user string) func() bool {
			s := w.stream("/sse/room", bearer(user)...)
			return func() bool {
				all, _ := io.ReadAll(s.br)
				return strings.Contains(string(all), `"code":3503`)
			}
		},
		"/connection/websocket": func(user string) func() bool {
			c := w.dial("/connection/websocket", bearer(user)...)
			c.send(connect)
			c.line()
			return func() bool { return c.closed().Code == 3503 }
		},
		"/connection/sse": func(user string) func() bool {
			s := w.stream("/connection/sse?cf_connect="+url.QueryEscape(connect), bearer(user)...)
			for line := ""; !strings.Contains(line, `"connect"`); {
				var err error
				if line, err = s.br.ReadString('\n'); err != nil {
					t.Fatalf("connect is answered: %v", err)
				}
			}
			return func() bool {
				all, _ := io.ReadAll(s.br)
				return strings.Contains(string(all), `"code":3503`)
			}
		},
	}
	for protocol, greet := range greeted {
		for i := range 5 {
			user := strings.ReplaceAll(protocol, "/", "") + strconv.Itoa(i)
			closed := greet(user)
			if n := w.gateway.Control(proto.Control{Kind: proto.ControlDisconnect, User: user}); n != 1 {
				t.Fatalf("a disconnect finds a client of %s that has read its greeting: 1, not %d", protocol, n)
			}
			if !closed() {
				t.Errorf("it closes a client of %s with 3503", protocol)
			}
		}
	}
}

func TestADisconnectWaitsForCommandsUnderWay(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}})
	c := w.dial("/ws/room?echo=0", bearer("ann")...)
	c.welcome()
	open := w.journal.appends.close()
	c.send(`{"publish":{"data":1,"id":"x"}}`)
	w.journal.appends.await(t)
	if n := w.gateway.Control(proto.Control{Kind: proto.ControlDisconnect, User: "ann"}); n != 1 {
		t.Fatalf("one connection is concerned, not %d", n)
	}
	open()
	if r := c.reply(); r.Ack == nil {
		t.Errorf("the publish under way is acknowledged first, not %+v", r)
	}
	if got := c.closed(); got.Code != 3503 {
		t.Errorf("then the connection ends with 3503, not %d", got.Code)
	}
}

func TestAnExpiredTokenEndsTheConnection(t *testing.T) {
	expires := time.Now().Add(time.Second - session.Grace)
	tokens := &badges{more: func(id *auth.Identity) {
		if id.User != "eternal" {
			id.Expires = expires
		}
	}}
	w := start(t, Options{Tokens: tokens, Ping: 200 * time.Millisecond})
	ann, bob, eternal := w.dial("/ws/room", bearer("ann")...), w.dial("/ws/room", bearer("bob")...), w.dial("/raw/room", bearer("eternal")...)
	if got := ann.welcome(); got.Expires != expires.Unix() {
		t.Errorf("the welcome must say when the token expires: %d, not %+v", expires.Unix(), got)
	}
	bob.welcome()
	tokens.mu.Lock()
	tokens.more = func(id *auth.Identity) { id.Expires = expires.Add(time.Hour) }
	tokens.mu.Unlock()
	bob.send(`{"refresh":{"token":"ann.good","id":"1"}}` + "\n" + `{"refresh":{"token":"bob.old","id":"2"}}` + "\n" + `{"refresh":{"token":"bob.good","id":"3"}}`)
	for _, want := range []int{101, 109} {
		if r := bob.reply(); r.Error == nil || r.Error.Code != want {
			t.Errorf("a refresh must be refused with %d, not %+v", want, r)
		}
	}
	if r := bob.reply(); r.Refreshed == nil || r.Refreshed.ID != "3" || r.Refreshed.Expires != expires.Add(time.Hour).Unix() {
		t.Errorf("a refresh must be answered, not with %+v", r)
	}
	if got := ann.closed(); got.Code != 3005 {
		t.Errorf("who has not refreshed is closed with 3005, not %d %q", got.Code, got.Text)
	}
	bob.send(`{"ping":{}}`)
	if bob.reply().Pong == nil {
		t.Error("who has refreshed goes on")
	}
	w.gateway.Control(proto.Control{Kind: proto.ControlRefresh, User: "eternal", Expired: true})
	if got := eternal.closed(); got.Code != 3005 {
		t.Errorf("the server API can end a token: 3005, not %d %q", got.Code, got.Text)
	}
}

func TestPermissions(t *testing.T) {
	policy := &auth.Policy{
		Default: auth.Open,
		Named: map[string]auth.Namespace{
			"closed": auth.Closed,
			"read":   {Rules: [4]auth.Rule{auth.Subscribe: auth.Anyone}},
		},
	}
	tokens := &badges{more: func(id *auth.Identity) {
		id.Subs = map[string]auth.Subscription{"closed:b": {Info: json.RawMessage(`7`)}}
	}}
	w := start(t, Options{Tokens: tokens, Policy: policy})
	for _, path := range []string{"/ws/closed:a", "/raw/closed:a", "/ws/secret%23bob", "/ws/read:a?members=1", "/raw/read:a?last=1"} {
		if got := w.dial(path, bearer("ann")...).closed(); got.Code != 3507 || got.Text == "" {
			t.Errorf("%s must be closed with 3507 and a sentence, not %d %q", path, got.Code, got.Text)
		}
	}
	w.dial("/ws/closed:b", bearer("ann")...).welcome()
	w.dial("/ws/secret%23bob,ann", bearer("ann")...).welcome()

	c := w.dial("/ws/read:a?since=0", bearer("ann")...)
	if r := c.reply(); r.Reset == nil {
		t.Errorf("who may not read history is told so before the welcome, not %+v", r)
	}
	c.welcome()
	for _, command := range []string{`{"publish":{"data":1,"id":"x"}}`, `{"history":{"id":"x"}}`, `{"presence":{"id":"x"}}`} {
		c.send(command)
		if r := c.reply(); r.Error == nil || r.Error.Code != 103 || r.Error.ID != "x" || r.Error.Message == "" {
			t.Errorf("%s must be refused with 103, not %+v", command, r)
		}
	}
	c.send(`{"info":{}}`)
	if r := c.reply(); r.Info == nil || r.Info.Members != 1 || r.Info.Exact != nil {
		t.Errorf("who may not list users is told how many connections there are, and no more, not %+v", r)
	}
	raw := w.dial("/raw/read:a", bearer("ann")...)
	raw.send("hello")
	if got := raw.closed(); got.Code != 3507 {
		t.Errorf("a text that may not be published ends /raw with 3507, not %d %q", got.Code, got.Text)
	}
}

func TestLimitsOfCommands(t *testing.T) {
	limits := limit.New(limit.Options{Commands: limit.Rate{PerSecond: 0.1, Burst: 3}, Publishes: limit.Rate{PerSecond: 0.1, Burst: 1}})
	w := start(t, Options{Limits: limits})
	c := w.dial("/ws/room?echo=0")
	c.welcome()
	c.send(`{"publish":{"data":1}}` + "\n" + `{"publish":{"data":2,"id":"x"}}` + "\n" + `{"ping":{}}` + "\n" + `{"ping":{"id":"y"}}`)
	var acks, pongs int
	refused := map[string]int64{}
	for range 4 {
		switch r := c.reply(); {
		case r.Ack != nil:
			acks++
		case r.Pong != nil:
			pongs++
		case r.Error != nil && r.Error.Code == 111 && r.Error.Retry:
			refused[r.Error.ID] = r.Error.RetryAfter
		default:
			t.Fatalf("a command is answered or refused with 111, not %+v", r)
		}
	}
	if acks != 1 || pongs != 1 || len(refused) != 2 || refused["x"] < 9000 || refused["x"] > 10_000 || refused["y"] < 9000 {
		t.Errorf("of 4 commands 1 publish and 1 ping pass, the others are told to wait about 10 s: %d, %d, %v", acks, pongs, refused)
	}
	c.send(strings.Repeat(`{"ping":{}}`+"\n", limit.Patience))
	if got := c.closed(); got.Code != 3013 {
		t.Errorf("who goes on all the same is closed with 3013, not %d %q", got.Code, got.Text)
	}
	if s := limits.Stats(); s.Publishes.Load() != 1 || s.Commands.Load() < limit.Patience-1 || s.Closed.Load() != 1 {
		t.Errorf("refusals are counted by kind: %d, %d, %d", s.Publishes.Load(), s.Commands.Load(), s.Closed.Load())
	}
	raw := w.dial("/raw/room?echo=0")
	raw.send("one")
	raw.send("two")
	if got := raw.closed(); got.Code != 3013 {
		t.Errorf("a text that is too much ends /raw with 3013, not %d %q", got.Code, got.Text)
	}
}

func TestLimitOfUserConnections(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}, Limits: limit.New(limit.Options{UserConnections: 2})})
	first := w.dial("/ws/room", bearer("ann")...)
	w.dial("/raw/other", bearer("ann")...)
	first.welcome()
	if got := w.dial("/ws/room", bearer("ann")...).closed(); got.Code != 3504 {
		t.Errorf("a third connection is closed with 3504, not %d %q", got.Code, got.Text)
	}
	w.dial("/ws/room", bearer("bob")...).welcome()
	eventually(t, "both connections are found", func() bool { return len(w.gateway.Connections("ann")) == 2 })
	first.Close()
	eventually(t, "when one has ended there is room for another", func() bool { return len(w.gateway.Connections("ann")) == 1 })
	w.dial("/ws/room", bearer("ann")...).welcome()
}

func TestAnAddressThatConnectsTooOftenIsRefused(t *testing.T) {
	w := start(t, Options{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Limits:         limit.New(limit.Options{AddressConnects: limit.Rate{PerSecond: 0.01, Burst: 2}}),
	})
	for i, c := range []struct {
		from   string
		status int
	}{
		{"2001:db8::1", 101},
		{"2001:db8::2", 101},
		{"2001:db8::3", 429},
		{"2001:db8:0:1::1", 101},
		{"192.0.2.9, 2001:db8::4", 429}, // what the client says of itself counts nothing
	} {
		conn := w.knockFrom("/ws/room", c.from)
		if conn.StatusCode != c.status || c.status == 429 && conn.Header.Get("Retry-After") == "" {
			t.Errorf("connection %d, from %s, must be answered with %d, not %v", i+1, c.from, c.status, conn)
		}
	}
}

func TestConnectionsOfIPv6AreCountedByNetwork(t *testing.T) {
	w := start(t, Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxPerAddress: 1})
	for i, c := range []struct {
		from   string
		status int
	}{{"2001:db8::1", 101}, {"2001:db8::2", 429}, {"2001:db8:0:1::1", 101}, {"192.0.2.1", 101}, {"192.0.2.2", 101}} {
		if resp := w.knockFrom("/ws/room", c.from); resp.StatusCode != c.status {
			t.Errorf("connection %d, from %s, must be answered with %d, not %v", i+1, c.from, c.status, resp)
		}
	}
}

func TestMembersComeAndGo(t *testing.T) {
	w := start(t, Options{})
	c := w.dial("/ws/room?members=1")
	c.welcome()
	event := func(e proto.MemberEvent) proto.Reply {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		w.node.Hub().DeliverLive(proto.EventsOf("room"), []proto.Message{{Time: 1, Data: data}})
		return c.reply()
	}
	eventually(t, "the connection hears of members", func() bool { return w.node.Info(proto.EventsOf("room")).Members == 1 })
	if r := event(proto.MemberEvent{Join: &proto.MemberInfo{User: "ann", Client: "c"}}); r.Join == nil || r.Join.User != "ann" {
		t.Errorf("a member that comes is told, not %+v", r)
	}
	if r := event(proto.MemberEvent{Leave: &proto.MemberInfo{User: "ann", Client: "c"}}); r.Leave == nil || r.Leave.User != "ann" {
		t.Errorf("a member that goes is told, not %+v", r)
	}
	if got := c.publish(`1`); got != 1 {
		t.Errorf("the channel itself goes on with offset 1, not %d", got)
	}
	c.Close()
	eventually(t, "it leaves both", func() bool { return w.node.Info(proto.EventsOf("room")).Members == 0 })
}
