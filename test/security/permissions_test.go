package security

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"barrage/auth"
	"barrage/gateway"
	"barrage/node"
	"barrage/proto"
)

// policy makes rules for subscribe, publish, history and presence.
func policy(rules ...auth.Rule) *auth.Policy {
	return &auth.Policy{Default: auth.Namespace{Rules: [...]auth.Rule{rules[0], rules[1], rules[2], rules[3]}}}
}

func TestEveryCommandIsAuthorised(t *testing.T) {
	w := start(t, gateway.Options{Policy: policy(auth.User, auth.Nobody, auth.Nobody, auth.Nobody)})
	w.publish("room", `"before"`)
	token := tokenOf(t, "alice")
	c := w.dial("/ws/room", bearer(token)...)
	for _, command := range []string{`{"publish":{"data":1}}`, `{"history":{"limit":1}}`, `{"presence":{}}`} {
		if got := c.ask(command); !strings.Contains(got, `"code":103`) {
			t.Errorf("/ws %s without permission is error 103, not %s", command, got)
		}
	}
	if code := w.dial("/ws/room?members=1", bearer(token)...).closed(); code != 3507 {
		t.Errorf("/ws does not tell of members without permission: 3507, not %d", code)
	}
	raw := w.dial("/raw/room", bearer(token)...)
	raw.send("hello")
	if code := raw.closed(); code != 3507 {
		t.Errorf("a text on /raw without permission closes with 3507, not %d", code)
	}
	cf := w.centrifuge(token)
	if got := cf.call(`{"subscribe":{"channel":"room"}}`); !strings.Contains(got, `"subscribe":`) {
		t.Fatalf("subscribing is allowed, not %s", got)
	}
	for _, channel := range []string{"room", "another"} {
		for _, command := range []string{
			`{"publish":{"channel":%q,"data":1}}`, `{"history":{"channel":%q,"limit":1}}`, `{"presence":{"channel":%q}}`, `{"presence_stats":{"channel":%q}}`,
		} {
			command = fmt.Sprintf(command, channel)
			if got := cf.call(command); !strings.Contains(got, `"code":103`) {
				t.Errorf("%s without permission is error 103, not %s", command, got)
			}
		}
	}
	for _, command := range []string{`{"rpc":{"data":1,"method":"x"}}`, `{"sub_refresh":{"channel":"another","token":"x"}}`} {
		if got := cf.call(command); !strings.Contains(got, `"error":`) {
			t.Errorf("%s is an error, not %s", command, got)
		}
	}
	if page, err := historyOf(w, "room"); err != nil || len(page) != 1 {
		t.Errorf("nothing but the server's own message is stored: %v, %v", page, err)
	}
}

func TestHistoryIsNotReachedByResuming(t *testing.T) {
	w := start(t, gateway.Options{Policy: policy(auth.User, auth.Nobody, auth.Nobody, auth.Nobody)})
	w.publish("room", `"before"`)
	token := tokenOf(t, "alice")
	after := func(what, got string) {
		t.Helper()
		if strings.Contains(got, "before") || !strings.Contains(got, "after") {
			t.Errorf("%s begins with the next new message where history is not allowed, not with %s", what, got)
		}
	}
	for _, query := range []string{"since=0", "last=5"} {
		if code := w.dial("/raw/room?"+query, bearer(token)...).closed(); code != 3507 {
			t.Errorf("/raw?%s is refused with 3507, not %d", query, code)
		}
		c := w.dial("/ws/room?"+query, bearer(token)...)
		c.until(`"welcome"`)
		_, lines := w.stream("/sse/room?"+query, bearer(token)...)
		if got := event(lines, "welcome"); got == "" {
			t.Fatal("a stream is welcomed")
		}
		w.publish("room", `"after"`)
		after("/ws?"+query, c.until(`"message"`))
		after("/sse?"+query, event(lines, `"message"`))
	}
	_, lines := w.stream("/sse/room", append(bearer(token), "Last-Event-ID", "/0")...)
	event(lines, "welcome")
	cf := w.centrifuge(token)
	if got := cf.call(`{"subscribe":{"channel":"room","recover":true}}`); !strings.Contains(got, `"subscribe":`) || strings.Contains(got, `"recovered":true`) {
		t.Errorf("nothing is recovered where history is not allowed: %s", got)
	}
	strict := w.centrifuge(token)
	if got := strict.call(`{"subscribe":{"channel":"room","recover":true,"flag":2}}`); !strings.Contains(got, `"code":112`) {
		t.Errorf("who insists on recovering is refused with 112, not %s", got)
	}
	given := w.centrifuge("")
	connecting := sign(t, map[string]any{"sub": "alice", "exp": time.Now().Add(time.Minute).Unix(), "channels": []string{"room"}})
	if got := given.call(`{"connect":{"token":"` + connecting + `","subs":{"room":{"recover":true}}}}`); strings.Contains(got, `"recovered":true`) {
		t.Errorf("nothing is recovered by the subscriptions of a token either: %s", got)
	}
	w.publish("room", `"after"`)
	after("a subscribe that recovers", cf.until(`"pub"`))
	after("a connect that recovers", given.until(`"pub"`))
	after("a stream with Last-Event-ID", event(lines, `"message"`))
}

func TestPersonalChannelsAreClosedToOthers(t *testing.T) {
	w := start(t, gateway.Options{Policy: policy(auth.Anyone, auth.Anyone, auth.Anyone, auth.Anyone), Anonymous: true})
	others := map[string]string{
		"bob": tokenOf(t, "bob"), "Alice": tokenOf(t, "Alice"), "alice ": tokenOf(t, "alice "), "#alice": tokenOf(t, "#alice"),
		"alice,bob": tokenOf(t, "alice,bob"), "*": tokenOf(t, "*"), "x#alice": tokenOf(t, "x#alice"), "nobody": "",
	}
	for _, channel := range []string{"#alice", "chat:a#alice,carol", "#x#bob", "#alice#bob", "a#alice#"} {
		w.publish(channel, `"private"`)
		for user, token := range others {
			w.expectClosed(user, token, channel)
		}
	}
	w.publish("#", `"private"`)
	w.expectClosed("nobody", "", "#")
	w.expectClosed("nobody", "", "#,")
	for _, channel := range []string{"#alice", "chat:a#alice,carol"} {
		c := w.dial("/ws/"+url.PathEscape(channel)+"?since=0", bearer(tokenOf(t, "alice"))...)
		if got := c.until("private"); !strings.Contains(got, "private") {
			t.Errorf("%s is open to alice, not %s", channel, got)
		}
		if page, err := historyOf(w, channel); err != nil || len(page) != 1 {
			t.Errorf("others have put nothing into %s: %d messages, %v", channel, len(page), err)
		}
	}
}

// expectClosed wants a channel closed to a user by every protocol and command.
func (w *world) expectClosed(user, token, channel string) {
	w.t.Helper()
	var header []string
	if token != "" {
		header = bearer(token)
	}
	for _, path := range []string{"/raw/", "/ws/"} {
		if code := w.dial(path+url.PathEscape(channel)+"?since=0", header...).closed(); code != 3507 {
			w.t.Errorf("%s%s is closed to %s: 3507, not %d", path, channel, user, code)
		}
	}
	if resp, _ := w.stream("/sse/"+url.PathEscape(channel), header...); resp.StatusCode != http.StatusForbidden {
		w.t.Errorf("/sse/%s is closed to %s: 403, not %s", channel, user, resp.Status)
	}
	c := w.centrifuge("")
	if got := c.call(connect(token)); !strings.Contains(got, `"connect":`) {
		w.t.Fatalf("%s is connected, not %s", user, got)
	}
	for _, command := range []string{
		`{"subscribe":{"channel":%q}}`, `{"subscribe":{"channel":%q,"recover":true}}`, `{"publish":{"channel":%q,"data":1}}`, `{"history":{"channel":%q,"limit":9}}`,
		`{"presence":{"channel":%q}}`, `{"presence_stats":{"channel":%q}}`,
	} {
		command = fmt.Sprintf(command, channel)
		if got := c.call(command); !strings.Contains(got, `"code":103`) {
			w.t.Errorf("%s by %s is error 103, not %s", command, user, got)
		}
	}
	c.Close()
}

func TestReservedChannelsCannotBeNamed(t *testing.T) {
	w := start(t, gateway.Options{Policy: policy(auth.Anyone, auth.Anyone, auth.Anyone, auth.Anyone)})
	api := w.api(nil)
	token := tokenOf(t, "alice")
	for _, channel := range []string{"room\x00", "\x01", "\x01cluster", "\x01node\x01x", "a\nb", "a\x7fb", "a\u0085b", ""} {
		for _, path := range []string{"/raw/", "/ws/"} {
			if c, resp := w.try(path+url.PathEscape(channel), bearer(token)...); c != nil || resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s%q is refused with 400, not %s", path, channel, resp.Status)
			}
		}
		if resp, _ := w.stream("/sse/"+url.PathEscape(channel), bearer(token)...); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("/sse/%q is refused with 400, not %s", channel, resp.Status)
		}
		c := w.centrifuge(token)
		name := quote(channel)
		for _, command := range []string{
			`{"subscribe":{"channel":%s}}`, `{"publish":{"channel":%s,"data":1}}`, `{"history":{"channel":%s}}`, `{"presence":{"channel":%s}}`,
			`{"presence_stats":{"channel":%s}}`, `{"sub_refresh":{"channel":%s,"token":"x"}}`,
		} {
			command = fmt.Sprintf(command, name)
			if got := c.call(command); !strings.Contains(got, `"error":`) {
				t.Errorf("%s is an error, not %s", command, got)
			}
		}
		c.Close()
		for method, body := range map[string]string{
			"publish": `{"channel":%s,"data":1}`, "broadcast": `{"channels":[%s],"data":1}`, "history": `{"channel":%s}`, "history_remove": `{"channel":%s}`,
			"presence": `{"channel":%s}`, "presence_stats": `{"channel":%s}`, "subscribe": `{"user":"alice","channel":%s}`,
		} {
			if _, answer := w.command(api, apiKeys["admin"], method, fmt.Sprintf(body, name)); !strings.Contains(answer, `"code":107`) {
				t.Errorf("/api/%s of %s is error 107, not %s", method, name, answer)
			}
		}
	}
}

func TestAnAnonymousNameIsNotAUser(t *testing.T) {
	w := start(t, gateway.Options{Policy: policy(auth.Anyone, auth.Anyone, auth.Anyone, auth.Anyone), Anonymous: true})
	c := w.dial("/ws/room?name=alice")
	c.until(`"welcome"`)
	c.send(`{"publish":{"data":"give me your password"}}`)
	if got := c.until(`"message"`); strings.Contains(got, "alice") {
		t.Errorf("where users have ids, nobody takes one by a name: %s", got)
	}
	raw := w.dial("/raw/room?name=alice")
	raw.send("hello")
	if got := c.until("hello"); strings.Contains(got, "alice") {
		t.Errorf("nor on /raw: %s", got)
	}
}

func TestAnIdempotencyKeyIsItsUsersOwn(t *testing.T) {
	w := start(t, gateway.Options{})
	api := w.api(nil)
	mallory := w.dial("/ws/room", bearer(tokenOf(t, "mallory"))...)
	mallory.send(`{"publish":{"id":"order-17","data":"nothing"}}`)
	mallory.until(`"ack"`)
	if _, answer := w.command(api, apiKeys["admin"], "publish", `{"channel":"room","data":"paid","idempotency_key":"order-17"}`); !strings.Contains(answer, `"offset":2`) {
		t.Errorf("a client's id does not swallow what the server publishes with the same one: %s", answer)
	}
	alice := w.dial("/ws/room", bearer(tokenOf(t, "alice"))...)
	alice.send(`{"publish":{"id":"order-17","data":"mine"}}`)
	if got := alice.until(`"ack"`); !strings.Contains(got, `"offset":3`) {
		t.Errorf("nor what another user publishes: %s", got)
	}
	again := w.dial("/ws/room", bearer(tokenOf(t, "alice"))...)
	again.send(`{"publish":{"id":"order-17","data":"mine"}}`)
	if got := again.until(`"ack"`); !strings.Contains(got, `"offset":3`) {
		t.Errorf("her own is known on her next connection: %s", got)
	}
	if _, answer := w.command(api, apiKeys["admin"], "publish", `{"channel":"room","data":"paid","idempotency_key":"order-17"}`); !strings.Contains(answer, `"offset":2`) {
		t.Errorf("and the server's is known again: %s", answer)
	}
}

func TestADisconnectReachesEveryProtocol(t *testing.T) {
	w := start(t, gateway.Options{})
	api := w.api(nil)
	token := tokenOf(t, "alice")
	raw, ws, cf := w.dial("/raw/room", bearer(token)...), w.dial("/ws/room", bearer(token)...), w.centrifuge(token)
	ws.until(`"welcome"`)
	_, lines := w.stream("/sse/room", bearer(token)...)
	event(lines, "welcome")
	other := w.dial("/ws/room", bearer(tokenOf(t, "bob"))...)
	eventually(t, fmt.Sprintf("all are connected: %v", w.Gateway.Connections("alice")), func() bool { return len(w.Gateway.Connections("alice")) == 4 })
	if _, answer := w.command(api, apiKeys["admin"], "disconnect", `{"user":"alice","disconnect":{"code":4500,"reason":"banned"}}`); !strings.Contains(answer, `"affected":4`) {
		t.Errorf("a disconnect reaches the four connections of a user, not %s", answer)
	}
	for path, c := range map[string]*client{"/raw": raw, "/ws": ws, "/connection/websocket": cf} {
		if code := c.closed(); code != 4500 {
			t.Errorf("%s is closed with 4500, not %d", path, code)
		}
	}
	if got := event(lines, "banned"); got == "" {
		t.Error("the stream ends and is told why")
	}
	if got := other.ask(`{"ping":{}}`); !strings.Contains(got, "pong") {
		t.Errorf("others stay: %s", got)
	}
}

// historyOf reads a channel as the node sees it.
func historyOf(w *world, channel string) ([]proto.Message, error) {
	type answer struct {
		page proto.History
		err  *proto.Error
	}
	done := make(chan answer, 1)
	since := proto.Offset(0)
	w.Node.History(channel, node.HistoryQuery{Since: &since, Limit: 100}, func(h proto.History, err *proto.Error) { done <- answer{h, err} })
	a := <-done
	if a.err != nil {
		return nil, a.err
	}
	return a.page.Messages, nil
}
