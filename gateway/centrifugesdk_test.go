package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	sdk "github.com/centrifugal/centrifuge-go"

	"barrage/auth"
	"barrage/internal/testcert"
	"barrage/proto"
	"barrage/session"
	"barrage/session/centrifuge"
)

// sdks are the encodings that the public client of the Centrifuge protocol speaks.
var sdks = map[string]func(string, sdk.Config) *sdk.Client{"JSON": sdk.NewJsonClient, "Protobuf": sdk.NewProtobufClient}

// user is a public client, and what it was told.
type user struct {
	t *testing.T
	*sdk.Client
	mu        sync.Mutex
	events    []string       // owner: mu
	published map[string]int // owner: mu; publications by channel and data
	order     []uint64       // owner: mu; their offsets
}

func (u *user) note(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.events = append(u.events, fmt.Sprintf(format, args...))
}

// noted counts an event.
func (u *user) noted(event string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.events {
		if e == event {
			n++
		}
	}
	return n
}

func (u *user) await(event string, n int) {
	u.t.Helper()
	for deadline := time.Now().Add(patience); u.noted(event) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.t.Fatalf("%q must happen %d times; there was %q", event, n, u.events)
		}
	}
}

// sdkClient makes a client that is not connected yet.
func (w *world) sdkClient(kind string, config sdk.Config) *user {
	config.TLSConfig = testcert.Client(authority)
	config.EnableCompression = w.gateway.Compression != nil
	config.HandshakeTimeout, config.ReadTimeout = patience, patience
	u := &user{t: w.t, Client: sdks[kind](w.url+"/connection/websocket", config), published: map[string]int{}}
	w.t.Cleanup(u.Close)
	u.OnConnected(func(sdk.ConnectedEvent) { u.note("connected") })
	u.OnConnecting(func(e sdk.ConnectingEvent) { u.note("connecting %d", e.Code) })
	u.OnDisconnected(func(e sdk.DisconnectedEvent) { u.note("disconnected %d", e.Code) })
	u.OnSubscribed(func(e sdk.ServerSubscribedEvent) { u.note("server subscribed %s %t", e.Channel, e.Recovered) })
	u.OnPublication(func(e sdk.ServerPublicationEvent) { u.took(e.Channel, e.Publication) })
	return u
}

func (u *user) took(channel string, p sdk.Publication) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.published[channel+" "+string(p.Data)]++
	u.order = append(u.order, p.Offset)
}

func (u *user) connect() *user {
	u.t.Helper()
	if err := u.Connect(); err != nil {
		u.t.Fatal(err)
	}
	u.await("connected", 1)
	return u
}

// subscribe subscribes and waits.
func (u *user) subscribe(channel string, config sdk.SubscriptionConfig) *sdk.Subscription {
	u.t.Helper()
	sub, err := u.NewSubscription(channel, config)
	if err != nil {
		u.t.Fatal(err)
	}
	sub.OnSubscribed(func(e sdk.SubscribedEvent) { u.note("subscribed %s %t %t", channel, e.WasRecovering, e.Recovered) })
	sub.OnSubscribing(func(e sdk.SubscribingEvent) { u.note("subscribing %s %d", channel, e.Code) })
	sub.OnUnsubscribed(func(e sdk.UnsubscribedEvent) { u.note("unsubscribed %s %d", channel, e.Code) })
	sub.OnPublication(func(e sdk.PublicationEvent) { u.took(channel, e.Publication) })
	if err := sub.Subscribe(); err != nil {
		u.t.Fatal(err)
	}
	return sub
}

// accounted waits until n publications came and checks that each came once and in order.
func (u *user) accounted(n int) {
	u.t.Helper()
	eventually(u.t, "every publication must come", func() bool { u.mu.Lock(); defer u.mu.Unlock(); return len(u.order) >= n })
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, o := range u.order {
		if o != uint64(i+1) {
			u.t.Fatalf("publication %d comes as number %d: every one comes once, in order: %v", o, i+1, u.order)
		}
	}
}

// eachSDK runs a test in every encoding.
func eachSDK(t *testing.T, test func(t *testing.T, kind string)) {
	for kind := range sdks {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

func TestThePublicClientRecoversWhatItMissed(t *testing.T) {
	eachSDK(t, func(t *testing.T, kind string) {
		w := start(t, Options{})
		u := w.sdkClient(kind, sdk.Config{}).connect()
		u.subscribe("room", sdk.SubscriptionConfig{})
		u.await("subscribed room false false", 1)
		writer := w.sdkClient(kind, sdk.Config{}).connect()
		publish := func(from, to int) {
			for i := from; i <= to; i++ {
				if _, err := writer.Publish(t.Context(), "room", fmt.Appendf(nil, `{"n": %d}`, i)); err != nil {
					t.Fatalf("publish %d must be acknowledged: %v", i, err)
				}
			}
		}
		publish(1, 20)
		u.accounted(20)
		w.disconnect(u, proto.CloseReconnect)
		publish(21, 320)
		u.await("connected", 2)
		u.await("subscribed room true true", 1)
		publish(321, 330)
		u.accounted(330)
	})
}

// disconnect closes the connection of a client.
func (w *world) disconnect(u *user, closing proto.Close) {
	w.gateway.mu.Lock()
	conns := append([]*conn(nil), w.gateway.conns...)
	w.gateway.mu.Unlock()
	for _, c := range conns {
		if s, ok := c.client.(*centrifuge.Session); ok && len(s.Info().Channels) > 0 {
			s.Control(proto.Control{Kind: proto.ControlDisconnect, Code: closing.Code, Reason: closing.Reason})
		}
	}
	u.await(fmt.Sprintf("connecting %d", closing.Code), 1)
}

func TestThePublicClientReadsHistoryAndIsTold(t *testing.T) {
	eachSDK(t, func(t *testing.T, kind string) {
		w := start(t, Options{})
		u := w.sdkClient(kind, sdk.Config{}).connect()
		for i := range 5 {
			if _, err := u.Publish(t.Context(), "room", fmt.Appendf(nil, `%d`, i+1)); err != nil {
				t.Fatal(err)
			}
		}
		h, err := u.History(t.Context(), "room", sdk.WithHistoryLimit(2), sdk.WithHistoryReverse(true))
		if err != nil || len(h.Publications) != 2 || string(h.Publications[0].Data) != "5" || h.Publications[1].Offset != 4 || h.Offset != 5 {
			t.Errorf("the last two publications are 5 and 4, not %+v, %v", h, err)
		}
		h, err = u.History(t.Context(), "room", sdk.WithHistoryLimit(2), sdk.WithHistorySince(&sdk.StreamPosition{Offset: 1, Epoch: h.Epoch}))
		if err != nil || len(h.Publications) != 2 || string(h.Publications[0].Data) != "2" {
			t.Errorf("the two publications after the first are 2 and 3, not %+v, %v", h, err)
		}
		if _, err = u.History(t.Context(), "room", sdk.WithHistoryLimit(2), sdk.WithHistorySince(&sdk.StreamPosition{Offset: 1, Epoch: "other"})); code(err) != 112 {
			t.Errorf("a position of another epoch is error 112, not %v", err)
		}
		if _, err := u.Publish(t.Context(), "room\x01", []byte(`1`)); code(err) != 107 {
			t.Errorf("a name with a control character is a bad request, not %v", err)
		}
		if _, err := u.RPC(t.Context(), "m", []byte(`1`)); code(err) != 108 {
			t.Errorf("rpc is not available without a hook, not %v", err)
		}
		if _, err := u.Presence(t.Context(), "room"); err != nil && code(err) != 108 {
			t.Errorf("presence is answered, or not available, not %v", err)
		}
	})
}

func code(err error) uint32 {
	if e, ok := errors.AsType[*sdk.Error](err); ok {
		return e.Code
	}
	return 0
}

// tokens are their user's name. One is not good, one has expired, and one will within a second; the others are good for an hour and
// subscribe to the channel given.
type tokens struct{}

func (tokens) Connection(token string) (*auth.Identity, *proto.Error) {
	switch token {
	case "bad":
		return nil, proto.ErrUnauthorized
	case "alice-":
		return nil, proto.ErrTokenExpired
	case "alice+":
		return &auth.Identity{User: "alice", Expires: time.Now().Add(time.Second), Info: json.RawMessage(`{"name":"Alice"}`)}, nil
	}
	return &auth.Identity{User: token, Expires: time.Now().Add(time.Hour), Subs: map[string]auth.Subscription{"given": {}}}, nil
}

func (tokens) Subscription(token, channel, _, _ string) (auth.Subscription, *proto.Error) {
	if token != channel {
		return auth.Subscription{}, proto.ErrUnauthorized
	}
	return auth.Subscription{Expires: time.Now().Add(time.Hour), Info: json.RawMessage(`1`)}, nil
}

func closed() *centrifuge.Server {
	return &centrifuge.Server{Tokens: tokens{}, Policy: &auth.Policy{Default: auth.Closed}, Personal: true}
}

func TestThePublicClientShowsTokens(t *testing.T) {
	eachSDK(t, func(t *testing.T, kind string) {
		w := start(t, Options{Centrifuge: closed()})
		bad := w.sdkClient(kind, sdk.Config{Token: "bad"})
		_ = bad.Connect()
		bad.await("disconnected 3500", 1)
		none := w.sdkClient(kind, sdk.Config{})
		_ = none.Connect()
		none.await("disconnected 3500", 1)
		// The expired one is answered with 109: the client asks for another, which is refreshed in time.
		given := []string{"alice+", "alice"}
		var mu sync.Mutex
		alice := w.sdkClient(kind, sdk.Config{Token: "alice-", GetToken: func(sdk.ConnectionTokenEvent) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			token := given[0]
			if len(given) > 1 {
				given = given[1:]
			}
			return token, nil
		}}).connect()
		alice.await("server subscribed #alice false", 1)
		if sub := alice.subscribe("secret", sdk.SubscriptionConfig{}); sub != nil {
			alice.await("unsubscribed secret 103", 1)
		}
		alice.subscribe("shown", sdk.SubscriptionConfig{Token: "shown"})
		alice.await("subscribed shown false false", 1)
		if _, err := alice.Publish(t.Context(), "shown", []byte(`1`)); code(err) != 103 {
			t.Errorf("without a rule nobody may publish: error 103, not %v", err)
		}
		if _, err := alice.Presence(t.Context(), "shown"); code(err) != 103 {
			t.Errorf("without a rule nobody may see who is present: error 103, not %v", err)
		}
		eventually(t, "the token must be refreshed", func() bool { mu.Lock(); defer mu.Unlock(); return len(given) == 1 && given[0] == "alice" })
	})
}

func TestServerSideSubscriptionsRecover(t *testing.T) {
	eachSDK(t, func(t *testing.T, kind string) {
		w := start(t, Options{Centrifuge: &centrifuge.Server{Tokens: tokens{}}})
		u := w.sdkClient(kind, sdk.Config{Token: "bob"}).connect()
		u.await("server subscribed given false", 1)
		writer := w.dial("/ws/given")
		writer.welcome()
		for i := range 10 {
			writer.publish(fmt.Sprint(i))
		}
		u.accounted(10)
		w.disconnect(u, proto.CloseReconnect)
		for i := range 120 {
			_ = writer.SetReadDeadline(time.Now().Add(patience))
			writer.publish(fmt.Sprint(i))
		}
		u.await("server subscribed given true", 1)
		u.accounted(130)
	})
}

func TestAnUnknownPositionIsToldAndTheClientGoesOnAtTheHead(t *testing.T) {
	w := start(t, Options{})
	c := w.dial("/connection/websocket")
	c.send(`{"id":1,"connect":{}}`)
	c.line()
	c.send(`{"id":2,"subscribe":{"channel":"room","recover":true,"epoch":"other","offset":7}}`)
	r := c.centrifuge().Subscribe
	if r == nil || r.Recovered || !r.WasRecovering || !r.Recoverable || r.Offset != 0 {
		t.Errorf("a position of another epoch is not recovered, and the head is told, not %+v", r)
	}
	c.send(`{"id":3,"subscribe":{"channel":"strict","recover":true,"epoch":"other","offset":7,"flag":2}}`)
	if e := c.centrifuge().Error; e == nil || e.Code != 112 {
		t.Errorf("who rejects that is answered with error 112, not %+v", e)
	}
	c.send(`{"id":4,"subscribe":{"channel":"strict"}}`)
	if r := c.centrifuge().Subscribe; r == nil {
		t.Error("and may subscribe again")
	}
}

func TestCentrifugeOverDeflate(t *testing.T) {
	eachSDK(t, func(t *testing.T, kind string) {
		w := start(t, Options{Compression: &session.Compression{Threshold: 64}})
		u := w.sdkClient(kind, sdk.Config{}).connect()
		u.subscribe("room", sdk.SubscriptionConfig{})
		u.await("subscribed room false false", 1)
		long, _ := json.Marshal(fmt.Sprintf("%0500d", 0))
		if _, err := u.Publish(context.Background(), "room", long); err != nil {
			t.Fatal(err)
		}
		u.accounted(1)
		if u.mu.Lock(); u.published["room "+string(long)] != 1 {
			t.Errorf("what was deflated is read as it was, not %v", u.published)
		}
		u.mu.Unlock()
	})
}
