//go:build system

package test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
	"barrage/proto"

	"github.com/centrifugal/centrifuge-go"
	"github.com/centrifugal/gocent/v3"
)

// allowed is what the rules of docs/security.md say about somebody.
func allowed(rule string, user, subscribed bool) bool {
	switch rule {
	case "anyone":
		return true
	case "user":
		return user || subscribed
	case "subscriber":
		return subscribed
	}
	return false
}

// somebody asks for things by one protocol. An answer is true when it was allowed; everything but a refusal fails the test.
type somebody struct {
	protocol string
	user     string // empty for an anonymous one
}

func (s somebody) String() string {
	if s.user == "" {
		return "somebody anonymous by " + s.protocol
	}
	return "a user by " + s.protocol
}

// connect opens the SDK at any node.
func (s somebody) connect(t *testing.T, p *people) *device {
	t.Helper()
	config := centrifuge.Config{}
	if s.user != "" {
		config.Token = tokenOf(t, s.user, time.Hour)
	}
	d := startDevice(t, s.String(), p.URL(), s.protocol == "Centrifuge Protobuf", config)
	d.expect(t, "connected")
	return d
}

func (s somebody) header(t *testing.T) http.Header {
	t.Helper()
	if s.user == "" {
		return nil
	}
	return bearer(tokenOf(t, s.user, time.Hour))
}

// mayJoin tries to subscribe.
func (s somebody) mayJoin(t *testing.T, p *people, channel, ticket string) bool {
	t.Helper()
	switch s.protocol {
	case "ws", "raw":
		c, err := Dial(p.URL(), Channel(s.protocol, channel), s.header(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Next(300 * time.Millisecond) // /raw says nothing to who may join
		code := CloseCode(err)
		if code != 0 && code != int(proto.CloseDenied.Code) {
			t.Errorf("%s is refused %s with 3507: got %v", s, channel, err)
		}
		return code == 0
	case "sse":
		req, _ := http.NewRequestWithContext(within(t, defaultWait), http.MethodGet, p.URL()+Channel("sse", channel), nil)
		maps.Copy(req.Header, s.header(t))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s is refused %s with 401 or 403: got %s", s, channel, res.Status)
		}
		return res.StatusCode == http.StatusOK
	}
	d := s.connect(t, p)
	defer d.Close()
	d.subscribe(t, channel, centrifuge.SubscriptionConfig{Token: ticket})
	yes, no := "subscribed "+channel, fmt.Sprint("unsubscribed ", channel, " ", 103)
	eventually(t, defaultWait, fmt.Sprintf("%s has an answer about %s: %q", s, channel, d.all()), func() bool { return d.told(yes)+d.told(no) > 0 })
	return d.told(yes) > 0
}

// tries are the answers about publishing, history and presence in a channel.
type tries struct{ publish, history, presence bool }

// try tries them on /ws, where everybody is subscribed.
func (s somebody) try(t *testing.T, p *people, channel string) (is tries) {
	t.Helper()
	c, err := Dial(p.URL(), Channel("ws", channel), s.header(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	next(t, c)
	one := func(command string) bool {
		l := ask(t, c, command)
		if l.Error != nil && l.Error.Code != 103 {
			t.Errorf("%s is refused %s in %s with 103: got %s", s, command, channel, l.Text)
		}
		return l.Error == nil
	}
	return tries{one(`{"publish":{"data":1}}`), one(`{"history":{}}`), one(`{"presence":{}}`)}
}

// trySDK tries them by the SDK, as a subscriber or not.
func (s somebody) trySDK(t *testing.T, p *people, channel string, subscribed bool) (is tries) {
	t.Helper()
	d := s.connect(t, p)
	defer d.Close()
	if subscribed {
		d.subscribe(t, channel, centrifuge.SubscriptionConfig{})
		d.expect(t, "subscribed "+channel)
	}
	ctx := within(t, defaultWait)
	check := func(what string, err error) bool {
		var e *centrifuge.Error
		if err != nil && (!errors.As(err, &e) || e.Code != 103) {
			t.Errorf("%s is refused to %s in %s with 103: got %v", s, what, channel, err)
		}
		return err == nil
	}
	_, err := d.Publish(ctx, channel, []byte(`1`))
	is.publish = check("publish", err)
	_, err = d.History(ctx, channel, centrifuge.WithHistoryLimit(1))
	is.history = check("read history", err)
	_, err = d.Presence(ctx, channel)
	is.presence = check("see who is there", err)
	return is
}

// The rules of namespaces, from a settings file, on real nodes: for each rule, protocol, kind of client, and action, as the document
// says.
func testRules(t *testing.T, p *people) {
	protocols := []string{"ws", "raw", "sse", "Centrifuge JSON", "Centrifuge Protobuf"}
	users := []string{"", "uma"}
	for _, protocol := range protocols {
		for _, user := range users {
			s := somebody{protocol, user}
			for namespace, rule := range map[string]string{"s-nobody": "nobody", "s-subscriber": "subscriber", "s-user": "user", "open": "anyone", "elsewhere": "nobody"} {
				if want, is := allowed(rule, user != "", false), s.mayJoin(t, p, namespace+":room", ""); is != want {
					t.Errorf("subscribe is for %s in %s, so %s may: %v, not %v", rule, namespace, s, want, is)
				}
			}
			if s.mayJoin(t, p, "n-anyone:private#someone,else", "") {
				t.Errorf("%s may not join the personal channel of others, even where anyone may subscribe", s)
			}
		}
		if s := (somebody{protocol, "uma"}); !s.mayJoin(t, p, "s-nobody:both#uma,bob", "") {
			t.Errorf("%s may join a channel of theirs, whatever the rule", s)
		}
	}
	for _, protocol := range protocols[3:] {
		s := somebody{protocol, "uma"}
		if !s.mayJoin(t, p, "s-nobody:room", ticketOf(t, "uma", "s-nobody:room")) || s.mayJoin(t, p, "s-nobody:room", ticketOf(t, "bob", "s-nobody:room")) {
			t.Errorf("a token for a subscription lets its user in, and nobody else, by %s", protocol)
		}
	}
	for _, rule := range []string{"nobody", "subscriber", "user", "anyone"} {
		channel := "n-" + rule + ":room"
		for _, user := range users {
			in, out := allowed(rule, user != "", true), allowed(rule, user != "", false)
			if is, want := (somebody{"ws", user}).try(t, p, channel), (tries{in, in, in}); is != want {
				t.Errorf("%q on /ws, to whom %s is open, may publish, read history, see presence: %v, not %v", user, channel, want, is)
			}
			for _, protocol := range protocols[3:] {
				if is, want := (somebody{protocol, user}).trySDK(t, p, channel, true), (tries{in, in, in}); is != want {
					t.Errorf("the subscriber %q of %s by %s may publish, read history, see presence: %v, not %v", user, channel, protocol, want, is)
				}
				if is, want := (somebody{protocol, user}).trySDK(t, p, channel, false), (tries{out, out, out}); is != want {
					t.Errorf("%q, who has not subscribed to %s, by %s may publish, read history, see presence: %v, not %v", user, channel, protocol, want, is)
				}
			}
		}
	}
	testPatternAndClass(t, p)
	testRetention(t, p)
}

// A namespace says how much its channels keep, and no other does so little.
func testRetention(t *testing.T, p *people) {
	ctx := within(t, 30*time.Second)
	for i := range 30 {
		if _, err := p.api.Broadcast(ctx, []string{"s-short:room", "open:long"}, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, defaultWait, "a channel keeps as many messages as its namespace says", func() bool {
		h, err := p.api.History(ctx, "s-short:room", gocent.WithLimit(gocent.NoLimit))
		return err == nil && h.Offset == 30 && len(h.Publications) == 10 && h.Publications[0].Offset == 21
	})
	if h, err := p.api.History(ctx, "open:long", gocent.WithLimit(gocent.NoLimit)); err != nil || len(h.Publications) != 30 {
		t.Errorf("channels of other namespaces keep theirs: got %d, %v", len(h.Publications), err)
	}
	c := dial(t, p.Nodes[1].URL(), Channel("ws", "s-short:room", "since=5"))
	if l := next(t, c); l.Reset == nil {
		t.Errorf("a position in what is not kept any more is reset: got %s", l.Text)
	}
	d := somebody{"Centrifuge JSON", "uma"}.connect(t, p)
	if h, err := d.History(ctx, "s-short:room", centrifuge.WithHistoryLimit(100)); err != nil || len(h.Publications) != 10 {
		t.Errorf("the SDK reads what is kept: got %d, %v", len(h.Publications), err)
	}
}

// A name that does not match its namespace's pattern is no channel; a live channel stores nothing.
func testPatternAndClass(t *testing.T, p *people) {
	c, err := Dial(p.URL(), "/ws/chat:NotLower", bearer(tokenOf(t, "uma", time.Hour)))
	if err == nil {
		_, err = c.Next(defaultWait)
		c.Close()
	}
	if err == nil {
		t.Error("a name that does not match the pattern of its namespace is refused")
	}
	d := somebody{"Centrifuge JSON", "uma"}.connect(t, p)
	d.subscribe(t, "chat:NotLower", centrifuge.SubscriptionConfig{})
	d.expect(t, "unsubscribed chat:NotLower 102")
	live, l := join(t, p.Nodes[0].URL(), "s-live:room")
	if !l.Welcome.Live {
		t.Errorf("a channel of a live namespace is live: got %s", l.Text)
	}
	if h := ask(t, live, `{"history":{}}`); h.Error == nil || h.Error.Code != 103 && h.Error.Code != 108 {
		t.Errorf("a live channel has no history: got %s", h.Text)
	}
}

// Limits of a user hold over the nodes: publishes per second, and connections.
func testLimits(t *testing.T, p *people) {
	t.Run("publishes of a user", func(t *testing.T) { testUserPublishes(t, p) })
	t.Run("connections of a user", func(t *testing.T) { testUserConnections(t, p) })
}

func testUserPublishes(t *testing.T, p *people) {
	const rate, burst, warm, lasts = 20, 40, 1500 * time.Millisecond, 4 * time.Second
	type outcome struct{ first, taken, refused, hints int }
	results := make(chan outcome)
	for _, n := range p.Nodes {
		c, _ := enter(t, n.URL(), "flo", "open:flood", "echo=0")
		go func() {
			var o outcome
			defer func() { results <- o }()
			began := time.Now()
			for time.Since(began) < warm+lasts {
				time.Sleep(5 * time.Millisecond)
				if c.Send(`{"publish":{"data":1}}`) != nil {
					return
				}
				l, err := c.Next(defaultWait)
				for err == nil && l.Message != nil { // of the other two
					l, err = c.Next(defaultWait)
				}
				if err != nil {
					return // refused 100 times in a row
				}
				switch {
				case l.Ack != nil && time.Since(began) < warm:
					o.first++
				case l.Ack != nil:
					o.taken++
				case l.Error != nil && l.Error.Code == 111 && l.Error.Retry:
					o.refused++
					if l.Error.RetryAfter > 0 {
						o.hints++
						time.Sleep(time.Duration(min(l.Error.RetryAfter, 200)) * time.Millisecond / 4)
					}
				}
			}
		}()
	}
	var sum outcome
	for range p.Nodes {
		o := <-results
		sum.first, sum.taken, sum.refused, sum.hints = sum.first+o.first, sum.taken+o.taken, sum.refused+o.refused, sum.hints+o.hints
	}
	t.Logf("over three nodes %d taken at first, in %s, and %d in the %s after it; %d refused", sum.first, warm, sum.taken, lasts, sum.refused)
	// Each node has its burst, and what comes before it hears of the others, half a second late.
	if most := 3*(burst+rate/2) + rate; sum.first > most {
		t.Errorf("at first a user publishes %d at most: %d were taken", most, sum.first)
	}
	if most := rate * int(lasts.Seconds()) * 5 / 4; sum.taken > most || sum.taken < most/4 {
		t.Errorf("then a user publishes %d a second over all nodes, in all %d or somewhat more: %d were taken (%d without a common limit)",
			rate, rate*int(lasts.Seconds()), sum.taken, 3*rate*int(lasts.Seconds()))
	}
	if sum.refused == 0 || sum.hints != sum.refused {
		t.Errorf("what is more is refused with 111 and the time to wait: %d refused, %d with a time", sum.refused, sum.hints)
	}
}

func testUserConnections(t *testing.T, p *people) {
	const limit = 10
	for i := range 2 * limit { // one after the other: places are given back
		d := startDevice(t, "serena", p.Nodes[i%3].URL(), i%2 == 0, centrifuge.Config{Token: tokenOf(t, "serena", time.Hour)})
		d.expect(t, "connected")
		d.Close()
	}
	for _, n := range p.Nodes[:2] {
		for range 4 {
			enter(t, n.URL(), "connie", "open:room")
		}
	}
	last := p.Nodes[2]
	var codes []string
	eventually(t, defaultWait, "the limit of connections holds over nodes", func() bool {
		c, err := Dial(last.URL(), Channel("ws", "open:room"), bearer(tokenOf(t, "connie", time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		_, err = c.Next(defaultWait)
		codes = append(codes, fmt.Sprint(CloseCode(err)))
		time.Sleep(300 * time.Millisecond)                        // nodes tell each other twice a second
		return CloseCode(err) == int(proto.CloseUnavailable.Code) // to be tried again: what others reported may have ended with its node
	})
	if more := len(codes) - 1; more > limit-8+3 {
		t.Errorf("a user has %d connections on all nodes, and a few that nodes overlook: after 8 on the others there were %d more", limit, more)
	}
	for range limit { // on one node it is final
		enter(t, p.Nodes[0].URL(), "cora", "open:room")
	}
	d := startDevice(t, "cora", p.Nodes[0].URL(), false, centrifuge.Config{Token: tokenOf(t, "cora", time.Hour)})
	d.expect(t, "disconnected 3504")
}

// What a connection, a channel and a message may be, by every protocol: more is refused with the time to wait, where the protocol has a place
// for that, and without harm for what else the connection does.
func TestLimitsOfANode(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Name: "a", Env: []string{
		"BARRAGE_LIMITS_PUBLISHES=5", "BARRAGE_LIMITS_COMMANDS=50", "BARRAGE_LIMITS_CHANNEL_PUBLISHES=15", "BARRAGE_LIMITS_MESSAGE=4KiB",
	}})
	flood := func(c *Client, command string, most int) (taken int, refused Line) {
		t.Helper()
		for range most + 1 {
			l := ask(t, c, command)
			if l.Error != nil {
				return taken, l
			}
			taken++
		}
		return taken, Line{}
	}
	refusal := func(what string, taken, least, most int, l Line) { // the longer it takes the more are let through
		t.Helper()
		if l.Error == nil || l.Error.Code != 111 || !l.Error.Retry || l.Error.RetryAfter <= 0 || l.Error.RetryAfter > 1000 || taken < least || taken > most {
			t.Errorf("%s: after %d to %d there is error 111 with the time to wait: got %s after %d", what, least, most, l.Text, taken)
		}
	}
	c, _ := join(t, n.URL(), "one", "echo=0")
	taken, l := flood(c, `{"publish":{"data":1}}`, 20)
	refusal("publishes of a connection", taken, 10, 15, l)
	time.Sleep(time.Duration(l.Error.RetryAfter) * time.Millisecond) // as the server asked
	if l := ask(t, c, `{"publish":{"data":1}}`); l.Ack == nil {
		t.Errorf("after the time that was told a publish is taken: got %s", l.Text)
	}
	taken, l = flood(c, `{"info":{}}`, 400)
	refusal("commands of a connection", taken, 85, 250, l)

	taken = 0
	for range 8 { // each within its own limit
		var some int
		c, _ := join(t, n.URL(), "shared", "echo=0")
		some, l = flood(c, `{"publish":{"data":1}}`, 8)
		if taken += some; l.Error != nil {
			break
		}
	}
	refusal("publishes into a channel", taken, 30, 60, l)

	raw := dial(t, n.URL(), "/raw/other")
	for range 20 {
		send(t, raw, "x")
	}
	var err error
	for err == nil {
		_, err = raw.Frame(defaultWait)
	}
	if CloseCode(err) != 3013 {
		t.Errorf("/raw, which has no answers, is closed with 3013: got %v", err)
	}
	d := startDevice(t, "the SDK", n.URL(), false, centrifuge.Config{})
	d.expect(t, "connected")
	err = nil
	for i := 0; i < 30 && err == nil; i++ {
		_, err = d.Publish(within(t, defaultWait), "another", []byte(`1`))
	}
	var e *centrifuge.Error
	if !errors.As(err, &e) || e.Code != 111 || !e.Temporary {
		t.Errorf("the SDK is told 111, temporary: got %v", err)
	}
	big := dial(t, n.URL(), "/ws/big")
	next(t, big)
	send(t, big, `{"publish":{"data":"`+strings.Repeat("x", 5000)+`"}}`)
	if l, err := big.Next(defaultWait); CloseCode(err) != 1009 {
		t.Errorf("a message that is too large is closed with 1009: got %s, %v", l.Text, err)
	}
}
