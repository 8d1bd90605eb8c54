package security

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"barrage/gateway"
)

// entrances are the paths by which clients come in, those that only some nodes have among them.
var entrances = []string{
	"/raw/room", "/ws/room", "/sse/room", "/connection/websocket", "/connection/sse", "/connection/uni_sse",
	"/connection/http_stream", "/connection/uni_http_stream", "/emulation", "/echo",
}

// knock sends a request of a page of some origin, as a WebSocket and plainly, and returns the answers.
func (w *world) knock(path, origin string, header ...string) (answers []*http.Response) {
	w.t.Helper()
	upgrade := []string{
		"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader(`{"id":1,"connect":{}}`)
		}
		r, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.Addr+path, body)
		if err != nil {
			w.t.Fatal(err)
		}
		r.Header = fields(append(header, "Origin", origin))
		if method == http.MethodGet && !strings.Contains(path, "sse") {
			for i := 0; i < len(upgrade); i += 2 {
				r.Header.Set(upgrade[i], upgrade[i+1])
			}
		}
		resp := w.do(r)
		resp.Body.Close()
		answers = append(answers, resp)
	}
	return answers
}

func TestOriginIsCheckedOnEveryPath(t *testing.T) {
	w := start(t, gateway.Options{Origins: []string{"https://good.example"}})
	for _, path := range entrances {
		for _, origin := range []string{
			"https://evil.example", "null", "http://" + w.Addr + ".evil.example", "http://evil.example:80", "https://good.example.evil.example",
			"http://good.example", "https://good.example:444", "http://" + w.Addr + "@evil.example", "https://evil.example#https://good.example", "*", "file://",
		} {
			for _, resp := range w.knock(path, origin, bearer(tokenOf(t, "alice"))...) {
				if s := resp.StatusCode; s < 400 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("a page of %s is refused on %s %s, not answered with %s %v", origin, resp.Request.Method, path, resp.Status, resp.Header)
				}
			}
		}
	}
	for _, path := range entrances[:4] {
		if resp := w.knock(path, "https://good.example", bearer(tokenOf(t, "alice"))...)[0]; resp.StatusCode >= 300 {
			t.Errorf("a page of an origin in the settings is let in on %s, not answered with %s", path, resp.Status)
		}
	}
}

func TestNoOriginIsAllowedByAStarWithCredentials(t *testing.T) {
	w := start(t, gateway.Options{Origins: []string{"*"}})
	for _, path := range entrances {
		for _, resp := range w.knock(path, "https://evil.example", bearer(tokenOf(t, "alice"))...) {
			if resp.Header.Get("Access-Control-Allow-Origin") == "*" || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s %s never lets pages of all origins read with credentials: %v", resp.Request.Method, path, resp.Header)
			}
		}
	}
}

func TestTheServerAPIIsNotForPages(t *testing.T) {
	w := start(t, gateway.Options{Origins: []string{"*"}})
	s := w.api(nil)
	for _, path := range []string{"/api", "/api/publish", "/api/docs", "/api/openapi.json"} {
		for _, method := range []string{http.MethodOptions, http.MethodGet, http.MethodPost} {
			r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = fields([]string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-api-key"})
			resp := w.do(r)
			resp.Body.Close()
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s answers pages of other origins with no %s", method, path, name)
				}
			}
		}
	}
}

func TestACookieNeverAuthenticates(t *testing.T) {
	w := start(t, gateway.Options{})
	token := tokenOf(t, "alice")
	cookie := []string{"Cookie", "token=" + token + "; Authorization=Bearer " + token + "; barrage=" + token + "; access_token=" + token + "; X-API-Key=" + apiKeys["admin"]}
	for _, path := range []string{"/raw/room", "/ws/room"} {
		if code := w.dial(path, cookie...).closed(); code != 3500 {
			t.Errorf("a cookie on %s is no token: 3500, not %d", path, code)
		}
	}
	if got := w.centrifuge("", cookie...).call(`{"connect":{}}`); !strings.HasPrefix(got, "closed 3500") {
		t.Errorf("a cookie on /connection/websocket is no token: 3500, not %s", got)
	}
	if resp, _ := w.stream("/sse/room", cookie...); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a cookie on /sse is no token: 401, not %s", resp.Status)
	}
	if status, answer := w.command(w.api(nil), "", "publish", `{"channel":"room","data":1}`, cookie...); status != http.StatusUnauthorized {
		t.Errorf("a cookie is no key of the server API: 401, not %d %s", status, answer)
	}
}

// whoami tells as whom a client is let in by each protocol; empty where it is refused.
func (w *world) whoami(header ...string) map[string]string {
	w.t.Helper()
	found := map[string]string{}
	between := func(line, before string) string {
		_, rest, _ := strings.Cut(line, before)
		user, _, _ := strings.Cut(rest, `"`)
		return user
	}
	c := w.dial("/ws/room", header...)
	found["/ws"] = between(c.until(`"welcome"`), `"user":"`)
	c.Close()
	s := w.dial("/connection/websocket", header...)
	if got := s.call(`{"connect":{}}`); strings.Contains(got, `"connect":`) {
		found["/connection/websocket"] = "anonymous"
		if strings.Contains(s.call(`{"subscribe":{"channel":"room"}}`), `"subscribe":`) {
			found["/connection/websocket"] = between(s.call(`{"presence":{"channel":"room"}}`), `"user":"`)
		}
	}
	s.Close()
	resp, lines := w.stream("/sse/room", header...)
	if resp.StatusCode == http.StatusOK && event(lines, `"welcome"`) != "" {
		eventually(w.t, "who opens a stream is counted", func() bool { return w.Gateway.Count() > 0 })
		found["/sse"] = "in"
	}
	resp.Body.Close()
	for path, user := range found {
		if user == "" {
			delete(found, path)
		}
	}
	return found
}

func TestAUserHeaderIsBelievedFromTrustedProxiesOnly(t *testing.T) {
	for _, tokens := range []bool{false, true} {
		o := gateway.Options{UserHeader: "X-User"}
		if tokens {
			o.Tokens = verifier(t)
		}
		stranger := start(t, o)
		for _, more := range [][]string{nil, {"X-Forwarded-For", "127.0.0.1"}, {"Forwarded", "for=127.0.0.1"}, {"X-Real-IP", "127.0.0.1"}} {
			if got := stranger.whoami(append([]string{"X-User", "alice"}, more...)...); len(got) > 0 {
				t.Errorf("X-User from who is no trusted proxy means nothing (with tokens: %t, with %q): %v", tokens, more, got)
			}
		}
		if got := stranger.whoami(); len(got) > 0 {
			t.Errorf("who shows nothing is refused (with tokens: %t): %v", tokens, got)
		}
		o.TrustedProxies = proxies()
		trusted := start(t, o)
		got := trusted.whoami("X-User", "alice")
		if got["/ws"] != "alice" || got["/connection/websocket"] != "alice" || got["/sse"] != "in" {
			t.Errorf("X-User from a trusted proxy is the user in every protocol (with tokens: %t): %v", tokens, got)
		}
		if got := trusted.whoami("X-User", "alice", "X-User", "root"); len(got) > 0 {
			t.Errorf("a proxy that adds to what the client sent is not believed (with tokens: %t): %v", tokens, got)
		}
	}
}

func TestAStarDoesNotLetPagesActForUsersOfAProxy(t *testing.T) {
	o := gateway.Options{UserHeader: "X-User", TrustedProxies: proxies(), Origins: []string{"*", "https://good.example"}}
	w := start(t, o)
	if got := w.whoami("X-User", "alice", "Origin", "https://evil.example"); len(got) > 0 {
		t.Errorf("a page of any origin must not act for its visitor, whom a proxy knows by a cookie: %v", got)
	}
	if got := w.whoami("X-User", "alice", "Origin", "https://good.example"); len(got) != 3 {
		t.Errorf("a page of an origin in the settings may: %v", got)
	}
}

func TestATokenOfAnotherUserThanTheHandshakeIsRefused(t *testing.T) {
	w := start(t, gateway.Options{UserHeader: "X-User", TrustedProxies: proxies(), Tokens: verifier(t)})
	if got := w.centrifuge("", "X-User", "alice").call(connect(tokenOf(t, "bob"))); !strings.HasPrefix(got, "closed 3500") {
		t.Errorf("whom the proxy names stays that, whatever token the client has: 3500, not %s", got)
	}
	if got := w.centrifuge("", "X-User", "alice").call(connect(tokenOf(t, "alice"))); !strings.Contains(got, `"connect":`) {
		t.Errorf("a token of the same user is good, not %s", got)
	}
	if got := w.centrifuge("", bearer(tokenOf(t, "alice"))...).call(connect(tokenOf(t, "bob"))); !strings.HasPrefix(got, "closed 3500") {
		t.Errorf("two tokens of two users are refused: 3500, not %s", got)
	}
}
