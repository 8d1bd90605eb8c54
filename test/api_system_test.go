//go:build system

package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"barrage/client"
	"barrage/proto"

	"github.com/centrifugal/centrifuge-go"
	"github.com/centrifugal/gocent/v3"
)

// Every method of the server API, through nginx and so on any node, for connections on all nodes.
func testServerAPI(t *testing.T, p *people) {
	t.Run("messages", func(t *testing.T) { testAPIMessages(t, p) })
	t.Run("users", func(t *testing.T) { testAPIUsers(t, p) })
	t.Run("the cluster", func(t *testing.T) { testAPICluster(t, p) })
	t.Run("idempotency", func(t *testing.T) { testIdempotency(t, p) })
}

func testAPIMessages(t *testing.T, p *people) {
	ctx := within(t, 30*time.Second)
	var readers []*Client
	for _, n := range p.Nodes {
		c, _ := join(t, n.URL(), "open:api")
		readers = append(readers, c)
	}
	first, err := p.api.Publish(ctx, "open:api", []byte(`{"n":1}`))
	if err != nil || first.Offset != 1 || first.Epoch == "" {
		t.Fatalf("publish tells offset and epoch: got %+v, %v", first, err)
	}
	b, err := p.api.Broadcast(ctx, []string{"open:api", "open:api-2", "#ann"}, []byte(`{"n":2}`))
	if err != nil || len(b.Responses) != 3 || b.Responses[0].Result == nil || b.Responses[0].Result.Offset != 2 {
		t.Errorf("broadcast has an outcome for each channel: got %+v, %v", b, err)
	}
	pipe := p.api.Pipe()
	if err := errors.Join(pipe.AddPublish("open:api", []byte(`{"n":3}`)), pipe.AddPublish("open:api", []byte(`{"n":4}`)), pipe.AddHistory("open:api", gocent.WithLimit(10)), pipe.AddInfo()); err != nil {
		t.Fatal(err)
	}
	if replies, err := p.api.SendPipe(ctx, pipe); err != nil || len(replies) != 4 || !strings.Contains(string(replies[1].Result), `"offset":4`) {
		t.Errorf("a pipe has an answer to each command: got %+v, %v", replies, err)
	}
	var batch struct {
		Replies []map[string]struct {
			Offset       uint64
			Publications []json.RawMessage
		}
	}
	if code := call(t, p.URL(), "batch", `{"commands":[{"publish":{"channel":"open:api","data":{"n":5}}},{"publish":{"channel":"open:api","data":{"n":6}}},{"history":{"channel":"open:api","limit":-1}}]}`, &batch); code != 0 ||
		len(batch.Replies) != 3 || batch.Replies[1]["publish"].Offset != 6 || len(batch.Replies[2]["history"].Publications) != 6 {
		t.Errorf("a batch is carried out in order: got code %d, %+v", code, batch)
	}
	for i, c := range readers {
		for n := uint64(1); n <= 6; n++ {
			if m := nextMessage(t, c); m.Offset != n || string(m.Data) != fmt.Sprintf(`{"n":%d}`, n) {
				t.Fatalf("node %s delivers message %d in its place: got %+v", p.Nodes[i].Name(), n, m)
			}
		}
	}
	for _, n := range p.Nodes {
		api := gocent.New(gocent.Config{Addr: n.URL() + "/api", Key: peopleKey})
		h, err := api.History(ctx, "open:api", gocent.WithLimit(2), gocent.WithSince(&gocent.StreamPosition{Offset: 3, Epoch: first.Epoch}))
		if err != nil || len(h.Publications) != 2 || h.Publications[0].Offset != 4 || h.Offset != 6 || h.Epoch != first.Epoch {
			t.Errorf("history is the same on node %s: got %+v, %v", n.Name(), h, err)
		}
	}
	if err := p.api.HistoryRemove(ctx, "open:api"); err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Nodes {
		eventually(t, defaultWait, "node "+n.Name()+" forgets history that was removed", func() bool {
			c, l := join(t, n.URL(), "open:api")
			defer c.Close()
			h := ask(t, c, `{"history":{}}`)
			return l.Welcome.Offset == 6 && h.History != nil && len(h.History.Messages) == 0
		})
		c := dial(t, n.URL(), Channel("ws", "open:api", "since=2", "epoch="+first.Epoch))
		if l := next(t, c); l.Reset == nil {
			t.Errorf("on node %s a position in what was removed is reset: got %s", n.Name(), l.Text)
		}
		c.Close()
	}
	if r, err := p.api.Publish(ctx, "open:api", []byte(`{"n":7}`)); err != nil || r.Offset != 7 {
		t.Errorf("offsets go on after removal: got %+v, %v", r, err)
	}
	for i, c := range readers {
		if l := next(t, c); l.Message == nil || l.Message.Offset != 7 {
			t.Errorf("who has seen everything on node %s goes on with the next message: got %s", p.Nodes[i].Name(), l.Text)
		}
	}
}

// controlled is the answer to a command about a user.
type controlled struct {
	Affected int
	Missing  []string
}

func testAPIUsers(t *testing.T, p *people) {
	ctx := within(t, 60*time.Second)
	token := tokenOf(t, "carl", time.Hour)
	var devices []*device
	for i, n := range p.Nodes {
		d := startDevice(t, "carl on "+n.Name(), n.URL(), i == 1, centrifuge.Config{Token: token})
		d.expect(t, "subscribed #carl")
		devices = append(devices, d)
	}
	if _, err := p.api.Publish(ctx, "s-nobody:desk", []byte(`0`)); err != nil {
		t.Fatal(err)
	}
	if err := p.api.Subscribe(ctx, "s-nobody:desk", "carl", gocent.WithRecoverSince(&gocent.StreamPosition{})); err != nil {
		t.Errorf("subscribe: %v", err)
	}
	for _, d := range devices {
		d.expect(t, "subscribed s-nobody:desk")
	}
	if _, err := p.api.Publish(ctx, "s-nobody:desk", []byte(`1`)); err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		eventually(t, defaultWait, d.name+" is given what came before and after", func() bool { return slices.Equal(d.messages("s-nobody:desk"), []string{"0", "1"}) })
	}
	var list struct {
		Connections map[string]struct {
			User, Node, Protocol string
			State                struct{ Channels map[string]struct{} }
		}
	}
	call(t, p.URL(), "connections", `{"user":"carl"}`, &list)
	nodes := map[string]string{}
	for id, c := range list.Connections {
		nodes[c.Node] = id
		if _, in := c.State.Channels["s-nobody:desk"]; c.User != "carl" || !in {
			t.Errorf("connections says who and where: got %+v", c)
		}
	}
	if len(nodes) != 3 {
		t.Fatalf("connections lists those of all nodes: got %+v", list)
	}
	if err := p.api.Unsubscribe(ctx, "s-nobody:desk", "carl", gocent.WithUnsubscribeClient(nodes["a"])); err != nil {
		t.Errorf("unsubscribe: %v", err)
	}
	devices[0].expect(t, "unsubscribed s-nobody:desk")
	if devices[1].told("unsubscribed s-nobody:desk") > 0 {
		t.Error("unsubscribe with a client leaves the others alone")
	}
	var c controlled
	if code := call(t, p.URL(), "unsubscribe", `{"user":"carl","channel":"s-nobody:desk"}`, &c); code != 0 || c.Affected != 2 || len(c.Missing) > 0 {
		t.Errorf("unsubscribe reaches those on the other nodes: got code %d, %+v", code, c)
	}
	if code := call(t, p.URL(), "refresh", fmt.Sprintf(`{"user":"carl","client":%q,"expired":true}`, nodes["b"]), &c); code != 0 || c.Affected != 1 {
		t.Errorf("refresh reaches a connection on another node: got code %d, %+v", code, c)
	}
	devices[1].expect(t, "connecting 3005")
	if err := p.api.Disconnect(ctx, "carl", gocent.WithDisconnect(&gocent.Disconnect{Code: 4501, Reason: "banned"}), gocent.WithDisconnectClientWhitelist([]string{nodes["a"]})); err != nil {
		t.Errorf("disconnect: %v", err)
	}
	devices[2].expect(t, "disconnected 4501")
	if err := p.api.Disconnect(ctx, "carl"); err != nil {
		t.Errorf("disconnect: %v", err)
	}
	devices[0].expect(t, "disconnected 3503")
	f := startFollower(t, client.Options{URLs: []string{p.Nodes[2].URL()}, Channel: "#carl", Token: always(token)})
	eventually(t, defaultWait, "a Go client is welcome", func() bool { return f.told("welcome") == 1 })
	if code := call(t, p.Nodes[0].URL(), "unsubscribe", `{"user":"carl","channel":"#carl"}`, &c); code != 0 || c.Affected < 1 {
		t.Errorf("unsubscribe ends a connection of /ws on another node: got code %d, %+v", code, c)
	}
	eventually(t, defaultWait, "a connection of /ws without its channel ends with 3503", func() bool {
		var end proto.Close
		return errors.As(f.ended(), &end) && end.Code == proto.CloseForced.Code
	})
}

func testAPICluster(t *testing.T, p *people) {
	ctx := within(t, 30*time.Second)
	join(t, p.Nodes[0].URL(), "open:list-1")
	join(t, p.Nodes[2].URL(), "open:list-2")
	eventually(t, defaultWait, "channels lists those of all nodes", func() bool {
		list, err := p.api.Channels(ctx, gocent.WithPattern("open:list-*"))
		_, one := list.Channels["open:list-1"]
		_, two := list.Channels["open:list-2"]
		return err == nil && one && two && len(list.Channels) == 2
	})
	eventually(t, 15*time.Second, "info lists all nodes", func() bool {
		info, err := p.api.Info(ctx)
		var names []string
		for _, n := range info.Nodes {
			names = append(names, n.Name)
		}
		slices.Sort(names)
		return err == nil && slices.Equal(names, []string{"a", "b", "c"})
	})
	d := startDevice(t, "paula", p.Nodes[1].URL(), false, centrifuge.Config{Token: tokenOf(t, "paula", time.Hour)})
	d.subscribe(t, "open:api-presence", centrifuge.SubscriptionConfig{})
	d.expect(t, "subscribed open:api-presence")
	who, err := p.api.Presence(ctx, "open:api-presence")
	stats, err2 := p.api.PresenceStats(ctx, "open:api-presence")
	if err != nil || err2 != nil || len(who.Presence) != 1 || stats.NumClients != 1 || stats.NumUsers != 1 {
		t.Errorf("presence and presence_stats see the member on its node: got %+v, %+v, %v, %v", who, stats, err, err2)
	}
}

// A key makes a repeated publish safe: on every node, and when the node that took the first one died before, or after, it answered.
func testIdempotency(t *testing.T, p *people) {
	type result struct {
		Offset   uint64
		Repeated bool
	}
	request := `{"channel":"open:once","data":1,"idempotency_key":"order-17"}`
	var first result
	if code := call(t, p.Nodes[0].URL(), "publish", request, &first); code != 0 || first.Repeated || first.Offset != 1 {
		t.Fatalf("the first publish with a key is stored: got code %d, %+v", code, first)
	}
	for _, n := range p.Nodes {
		var again result
		if code := call(t, n.URL(), "publish", request, &again); code != 0 || !again.Repeated || again.Offset != 1 {
			t.Errorf("node %s knows the key: got code %d, %+v", n.Name(), code, again)
		}
	}
	// Publishes with keys go to one node, which is killed meanwhile; those without an answer are sent again, to the others.
	const publishes = 400
	answers := make(chan int, publishes)
	one := func(i int) string {
		return fmt.Sprintf(`{"channel":"open:retried","data":%d,"idempotency_key":"k%d"}`, i, i)
	}
	go func() {
		defer close(answers)
		for i := range publishes {
			if !publishOnce(p.Nodes[1].URL(), one(i)) {
				answers <- i
			}
		}
	}()
	eventually(t, defaultWait, "publishes are stored", func() bool {
		h, err := p.api.History(within(t, defaultWait), "open:retried", gocent.WithLimit(0))
		return err == nil && h.Offset > 20
	})
	if err := p.Nodes[1].Kill(); err != nil {
		t.Fatal(err)
	}
	unanswered := 0
	for i := range answers {
		unanswered++
		if code := call(t, p.URL(), "publish", one(i), &result{}); code != 0 {
			t.Errorf("a publish that had no answer is repeated on another node: code %d", code)
		}
	}
	if err := p.Nodes[1].Restart(); err != nil {
		t.Fatal(err)
	}
	h, err := p.api.History(within(t, defaultWait), "open:retried", gocent.WithLimit(gocent.NoLimit))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, m := range h.Publications {
		seen[string(m.Data)]++
	}
	if len(seen) != publishes || len(h.Publications) != publishes || unanswered == 0 {
		t.Errorf("each of %d publishes is stored once: %d stored, %d different, %d had no answer at first", publishes, len(h.Publications), len(seen), unanswered)
	}
	t.Logf("%d of %d publishes had no answer at first", unanswered, publishes)
}

// publishOnce sends one publish and reports whether it was answered.
func publishOnce(base, request string) bool {
	req, err := http.NewRequest(http.MethodPost, base+"/api/publish", strings.NewReader(request))
	if err != nil {
		return false
	}
	req.Header.Set("X-API-Key", peopleKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return err == nil && strings.Contains(string(text), `"offset"`)
}
