package security

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"barrage/auth"
	"barrage/gateway"
)

// emulated opens a stream whose commands come in requests of their own, and returns what connect told.
func (w *world) emulated(token string) (client, session string, lines *bufio.Scanner) {
	w.t.Helper()
	_, lines = w.stream("/connection/sse?cf_connect=" + url.QueryEscape(`{"id":1,`+connect(token)[1:]))
	text := strings.TrimPrefix(event(lines, `"connect"`), "data: ")
	var reply struct {
		Connect struct{ Client, Session, Node string }
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil || reply.Connect.Session == "" {
		w.t.Fatalf("connect tells the session, not %q, %v", text, err)
	}
	return reply.Connect.Client, reply.Connect.Session, lines
}

// command sends a command to a session and returns the status.
func (w *world) emulate(session, command string, header ...string) int {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+w.Addr+"/emulation",
		strings.NewReader(`{"node":"test","session":`+quote(session)+`,"data":`+quote(command)+`}`))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header = fields(header)
	resp := w.do(r)
	resp.Body.Close()
	return resp.StatusCode
}

func TestAnotherClientsSessionCannotBeSpokenFor(t *testing.T) {
	w := start(t, gateway.Options{})
	client, session, lines := w.emulated(tokenOf(t, "alice"))
	if strings.Contains(client, session) || strings.Contains(session, client) || len(session) < 20 {
		t.Errorf("the session is a secret of its own, which nobody else is told, not %q for the client %q", session, client)
	}
	const command = `{"id":2,"subscribe":{"channel":"room"}}`
	for _, guess := range []string{client, "", "alice", session[:len(session)-1], session + "x", strings.ToLower(session), "../" + session} {
		if status := w.emulate(guess, command, bearer(tokenOf(t, "bob"))...); status != http.StatusNotFound && status != http.StatusBadRequest {
			t.Errorf("the session %q is not there: 404, not %d", guess, status)
		}
	}
	if status := w.emulate(session, command, "Origin", "https://evil.example"); status != http.StatusForbidden {
		t.Errorf("a page of another origin is refused: 403, not %d", status)
	}
	if status := w.emulate(session, strings.Repeat(command+"\n", 20_000)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("commands of more than a message are refused: 413, not %d", status)
	}
	if status := w.emulate(session, command); status != http.StatusNoContent || event(lines, `"id":2`) == "" {
		t.Errorf("the client itself is answered: 204, not %d", status)
	}
}

func TestStreamsOfTheCentrifugeProtocolAskTheRules(t *testing.T) {
	w := start(t, gateway.Options{Policy: policy(auth.User, auth.Nobody, auth.Nobody, auth.Nobody)})
	w.publish("room", `"before"`)
	ask := func(token string) string {
		return "/connection/uni_sse?cf_connect=" + url.QueryEscape(`{"token":"`+token+`","subs":{"room":{"recover":true},"#bob":{},"\u0001x":{}}}`)
	}
	_, lines := w.stream(ask(tokenOf(t, "alice")))
	if got := event(lines, "data: "); strings.Contains(got, "#bob") || strings.Contains(got, `"room"`) {
		t.Errorf("a name that cannot be ends the stream: %s", got)
	}
	_, lines = w.stream("/connection/uni_sse?cf_connect=" + url.QueryEscape(`{"token":"`+tokenOf(t, "alice")+`","subs":{"room":{"recover":true},"#bob":{}}}`))
	got := event(lines, `"connect"`)
	if strings.Contains(got, "#bob") || strings.Contains(got, `"recovered":true`) || !strings.Contains(got, `"room"`) {
		t.Errorf("only what the rules allow is subscribed to, and nothing recovered: %s", got)
	}
	w.publish("room", `"after"`)
	if got := event(lines, `"pub"`); !strings.Contains(got, "after") {
		t.Errorf("the first message is the next new one, not %s", got)
	}
	_, lines = w.stream(ask("forged"))
	if got := event(lines, "data: "); !strings.Contains(got, "3500") {
		t.Errorf("a bad token ends the stream with 3500, not %s", got)
	}
	hidden := start(t, gateway.Options{UserHeader: "X-User"})
	_, lines = hidden.stream("/connection/uni_sse", "X-User", "alice")
	if got := event(lines, "data: "); !strings.Contains(got, "3500") {
		t.Errorf("the header of a proxy means nothing from others: %s", got)
	}
}
