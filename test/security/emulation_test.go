package security

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// elsewhere stands for the other nodes: what is for the node "stuck" is not answered until open is called, all else at once.
type elsewhere struct {
	stuck atomic.Int64
	gate  chan struct{}
	once  sync.Once
}

func (e *elsewhere) open() { e.once.Do(func() { close(e.gate) }) }

func (*elsewhere) OnForward(string, func([]byte) bool) {}

func (e *elsewhere) Forward(node, _ string, _ []byte, done func(bool)) {
	if node == "stuck" {
		e.stuck.Add(1)
		<-e.gate
	}
	done(true)
}

// hand sends commands for a session of another node, from an address, and returns the status.
func (w *world) hand(node, from string) int {
	r, err := http.NewRequest(http.MethodPost, "http://"+w.Addr+"/emulation", strings.NewReader(`{"node":"`+node+`","session":"x","data":"{}"}`))
	if err != nil {
		w.t.Error(err)
		return 0
	}
	r.Header.Set("X-Forwarded-For", from)
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		w.t.Error(err)
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestOneAddressCannotFillTheWayToOtherNodes(t *testing.T) {
	const share = 64
	nodes := &elsewhere{gate: make(chan struct{})}
	w := start(t, gateway.Options{TrustedProxies: proxies(), Forwarder: nodes})
	var flooding sync.WaitGroup
	defer flooding.Wait()
	defer nodes.open()
	for i, flood := range []string{"203.0.113.9", "2001:db8::%x"} {
		from := func(n int) string { return strings.Replace(flood, "%x", strconv.FormatInt(int64(n), 16), 1) }
		for n := range share {
			flooding.Go(func() {
				if status := w.hand("stuck", from(n+1)); status != http.StatusNoContent {
					t.Errorf("what found room is handed on in the end: 204, not %d", status)
				}
			})
		}
		eventually(t, "the flood waits for another node", func() bool { return nodes.stuck.Load() == int64(share*(i+1)) })
		for _, node := range []string{"stuck", "good"} {
			if status := w.hand(node, from(0xffff)); status != http.StatusTooManyRequests {
				t.Errorf("%s has its share of the way to other nodes and not more: 429, not %d", flood, status)
			}
		}
		for _, other := range []string{"203.0.113.10", "2001:db8:0:1::1", "127.0.0.1"} {
			if status := w.hand("good", other); status != http.StatusNoContent {
				t.Errorf("others come through while %s floods: 204 for %s, not %d", flood, other, status)
			}
		}
	}
	nodes.open()
	eventually(t, "a share is given back", func() bool { return w.hand("good", "203.0.113.9") == http.StatusNoContent })
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
