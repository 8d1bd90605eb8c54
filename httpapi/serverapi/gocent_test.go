package serverapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/centrifugal/gocent/v3"

	"barrage/node"
	"barrage/proto"
)

// The Go SDK of Centrifugo works unchanged, with all of its methods.
func TestTheGoSDKOfCentrifugo(t *testing.T) {
	w := start(t)
	server := httptest.NewServer(w.mux)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	c := gocent.New(gocent.Config{Addr: server.URL + "/api", Key: adminKey, HTTPClient: client})
	ctx := context.Background()

	p, err := c.Publish(ctx, "room", []byte(`{"text": "hello"}`))
	if err != nil || p.Offset != 1 || p.Epoch != w.epoch() {
		t.Errorf("a publish tells where it was stored, not %+v, %v", p, err)
	}
	if _, err := c.Publish(ctx, "live:room", []byte(`1`), gocent.WithSkipHistory(true)); err != nil {
		t.Errorf("a publish into a live channel may skip its history, not %v", err)
	}
	if _, err := c.Publish(ctx, "room", []byte(`1`), gocent.WithSkipHistory(true)); !isRefused(err, 107) {
		t.Errorf("a durable channel stores everything, so that skip_history is refused with 107, not %v", err)
	}
	b, err := c.Broadcast(ctx, []string{"room", "other", ""}, []byte(`2`))
	if err != nil || len(b.Responses) != 3 || b.Responses[0].Result.Offset != 2 || b.Responses[1].Result.Offset != 1 || b.Responses[2].Error == nil {
		t.Errorf("a broadcast has an outcome for each channel, not %+v, %v", b, err)
	}
	attributes := proto.Attributes{Info: json.RawMessage(`{"n":1}`), Tags: map[string]string{"a": "b"}}
	encoded, err := attributes.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w.publish(node.Publication{Channel: "room", User: "alice", Client: "c1", Data: []byte(`3`), Attributes: encoded})
	h, err := c.History(ctx, "room", gocent.WithLimit(gocent.NoLimit))
	if err != nil || len(h.Publications) != 3 || h.Offset != 3 || h.Epoch != w.epoch() || string(h.Publications[0].Data) != `{"text":"hello"}` || h.Publications[0].Info != nil {
		t.Errorf("history has all messages, not %+v, %v", h, err)
	} else if i := h.Publications[2].Info; i == nil || i.User != "alice" || i.Client != "c1" {
		t.Errorf("a message says who published it, not %+v", i)
	}
	h, err = c.History(ctx, "room", gocent.WithLimit(1), gocent.WithReverse(true), gocent.WithSince(&gocent.StreamPosition{Offset: 3, Epoch: h.Epoch}))
	if err != nil || len(h.Publications) != 1 || h.Publications[0].Offset != 2 {
		t.Errorf("history in reverse has what is before a position, not %+v, %v", h, err)
	}
	if err := c.HistoryRemove(ctx, "room"); err != nil || !slices.Equal(w.people.removed, []string{"room"}) {
		t.Errorf("history can be removed, not %v, %v", w.people.removed, err)
	}
	who, err := c.Presence(ctx, "room")
	if err != nil || len(who.Presence) != 2 || who.Presence["c1"].User != "alice" || string(who.Presence["c1"].ConnInfo) != `{"n":1}` || string(who.Presence["c1"].ChanInfo) != "2" {
		t.Errorf("presence lists connections, not %+v, %v", who, err)
	}
	stats, err := c.PresenceStats(ctx, "room")
	if err != nil || stats.NumClients != 200_000 || stats.NumUsers != 99_000 {
		t.Errorf("presence_stats counts, not %+v, %v", stats, err)
	}
	list, err := c.Channels(ctx, gocent.WithPattern("r*"))
	if _, passed := list.Channels["pattern r*"]; err != nil || !passed || len(list.Channels) != 2 {
		t.Errorf("channels lists those that match the pattern, not %+v, %v", list, err)
	}
	info, err := c.Info(ctx)
	if err != nil || len(info.Nodes) != 1 || info.Nodes[0] != (gocent.NodeInfo{UID: "u1", Name: "a", Version: "1.2", NumClients: 3, NumUsers: 2, NumChannels: 1, Uptime: 60}) {
		t.Errorf("info lists the nodes, not %+v, %v", info, err)
	}
}

func isRefused(err error, code int) bool {
	e := (*gocent.Error)(nil)
	return errors.As(err, &e) && e.Code == code
}

func TestTheGoSDKReachesUsers(t *testing.T) {
	w := start(t)
	server := httptest.NewServer(w.mux)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	c := gocent.New(gocent.Config{Addr: server.URL + "/api", Key: adminKey, HTTPClient: client})
	ctx := context.Background()

	if err := c.Subscribe(ctx, "room", "alice", gocent.WithSubscribeClient("c1"), gocent.WithSubscribeInfo([]byte(`{"a": 1}`)),
		gocent.WithSubscribeData([]byte(`2`)), gocent.WithRecover(true), gocent.WithRecoverSince(&gocent.StreamPosition{Offset: 7, Epoch: "e"})); err != nil {
		t.Error(err)
	}
	if s := w.people.last(); s.Kind != proto.ControlSubscribe || s.User != "alice" || s.Client != "c1" || s.Channel != "room" ||
		string(s.Info) != `{"a":1}` || string(s.Data) != "2" || s.Since == nil || *s.Since != 7 || s.Epoch != "e" {
		t.Errorf("subscribe passes on everything, not %+v", s)
	}
	if err := c.Unsubscribe(ctx, "room", "alice", gocent.WithUnsubscribeClient("c1")); err != nil {
		t.Error(err)
	}
	if u := w.people.last(); u.Kind != proto.ControlUnsubscribe || u.User != "alice" || u.Client != "c1" || u.Channel != "room" {
		t.Errorf("unsubscribe passes on everything, not %+v", u)
	}
	if err := c.Disconnect(ctx, "alice", gocent.WithDisconnect(&gocent.Disconnect{Code: 4500, Reason: "banned"}), gocent.WithDisconnectClientWhitelist([]string{"c9"})); err != nil {
		t.Error(err)
	}
	if d := w.people.last(); d.Kind != proto.ControlDisconnect || d.User != "alice" || d.Code != 4500 || d.Reason != "banned" || !slices.Equal(d.Except, []string{"c9"}) {
		t.Errorf("disconnect passes on everything, the whitelist too, not %+v", d)
	}

	pipe := c.Pipe()
	for range 3 {
		if err := pipe.AddPublish("piped", []byte(`1`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(pipe.AddHistory("piped", gocent.WithLimit(10)), pipe.AddInfo()); err != nil {
		t.Fatal(err)
	}
	replies, err := c.SendPipe(ctx, pipe)
	if err != nil || len(replies) != 5 {
		t.Fatalf("commands on lines have a reply each, not %v, %v", replies, err)
	}
	var h gocent.HistoryResult
	if err := json.Unmarshal(replies[3].Result, &h); err != nil || len(h.Publications) != 3 {
		t.Errorf("history after publishes of the same request has them, not %s", replies[3].Result)
	}

	wrong := gocent.New(gocent.Config{Addr: server.URL + "/api", Key: "wrong", HTTPClient: client})
	status := gocent.ErrStatusCode{}
	if _, err := wrong.Info(ctx); !errors.As(err, &status) || status.Code != http.StatusUnauthorized {
		t.Errorf("a wrong key is refused with 401, not %v", err)
	}
}
