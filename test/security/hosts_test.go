package security

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"barrage/auth"
	"barrage/gateway"
	"barrage/httpapi"
	"barrage/httpapi/serverapi"
	"barrage/internal/testnode"
	"barrage/web"
)

// rebound are hosts as browsers write them for a page whose name points to 127.0.0.1, and what else might pass for a host of this
// machine.
var rebound = []string{
	"evil.example", "evil.example:8000", "EVIL.example.", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost:80", "xn--bcher-kva.example",
}

// callAs sends a request as a page does whose own name is host: the browser takes the node for the page's server, so that the origin, when
// one is sent, fits. It returns the answers to a GET, with an upgrade where that is how a path is used, and to a POST.
func (w *world) callAs(url, path, host string, origin bool) (answers []*http.Response) {
	w.t.Helper()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		body := ""
		if method == http.MethodPost {
			body = `{"id":1,"connect":{},"channel":"room","data":1}`
		}
		r, err := http.NewRequestWithContext(w.t.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			w.t.Fatal(err)
		}
		if method == http.MethodGet && !strings.Contains(path, "sse") {
			r.Header = fields([]string{
				"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
			})
		}
		r.Header.Set("X-API-Key", apiKeys["admin"])
		if origin {
			r.Header.Set("Origin", "http://"+host)
		}
		r.Host = host
		resp := w.do(r)
		resp.Body.Close()
		answers = append(answers, resp)
	}
	return answers
}

// refusedAs demands that a page whose own name is one of rebound is refused on a path.
func (w *world) refusedAs(url, path string) {
	w.t.Helper()
	for _, host := range rebound {
		for _, origin := range []bool{false, true} {
			for _, resp := range w.callAs(url, path, host, origin) {
				if resp.StatusCode != http.StatusMisdirectedRequest || resp.Header.Get("Access-Control-Allow-Origin") != "" {
					w.t.Errorf("%s %s of a page of %s (with its origin: %t) is refused with 421, not answered with %s %v",
						resp.Request.Method, path, host, origin, resp.Status, resp.Header)
				}
			}
		}
	}
}

func TestAPageCannotLetItsNamePointHere(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		w := open(t, testnode.Options{
			Portable: portable, Handshake: patience,
			Gateway: gateway.Options{Hosts: gateway.OwnHosts(nil), Policy: &auth.Policy{Default: auth.Open}, Echo: true},
		})
		for _, path := range entrances {
			w.refusedAs("http://"+w.Addr, path)
		}
		if n := w.Gateway.Stats().Accepted.Load(); n != 0 {
			t.Errorf("none of them becomes a connection, not %d", n)
		}
		for _, host := range []string{w.Addr, "localhost:8000", "room.localhost", "[::1]:8000"} {
			for _, path := range []string{"/raw/room", "/ws/room", "/sse/room", "/connection/websocket", "/connection/uni_sse", "/echo"} {
				if resp := w.callAs("http://"+w.Addr, path, host, true)[0]; resp.StatusCode >= 300 {
					t.Errorf("a page of %s itself is let in on %s, not answered with %s", host, path, resp.Status)
				}
			}
		}
	})
}

// What is not the gateway's is behind its guard, as in the program.
func TestPagesAndTheServerAPIAreNotReachedByOtherNames(t *testing.T) {
	w := open(t, testnode.Options{Gateway: gateway.Options{Hosts: gateway.OwnHosts(nil), Policy: &auth.Policy{Default: auth.Open}}})
	mux := http.NewServeMux()
	httpapi.New(w.Node, prometheus.NewRegistry()).Register(mux)
	httpapi.RegisterProfiles(mux)
	serverapi.New(w.apiOptions()).Register(mux)
	mux.Handle("/", web.Handler())
	s := httptest.NewServer(w.Gateway.Guard(mux))
	defer s.Close()
	for _, path := range []string{
		"/", "/index.html", "/assets/room.js", "/metrics", "//metrics", "/debug/pprof/", "/debug/pprof/heap", "/api", "/api/docs", "/api/openapi.json",
		"/api/publish", "/api/history", "/api/nothing", "/nothing",
	} {
		w.refusedAs(s.URL, path)
	}
	if page, err := historyOf(w, "room"); err != nil || len(page) > 0 {
		t.Errorf("nothing is published by a page, even with a key: %v, %v", page, err)
	}
	for _, host := range []string{"localhost", s.Listener.Addr().String()} {
		if resp := w.callAs(s.URL, "/api/publish", host, false)[1]; resp.StatusCode != http.StatusOK {
			t.Errorf("the server API is there for %s, not answered with %s", host, resp.Status)
		}
	}
}
