package gateway

import (
	"bufio"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// refused sends a request and returns the answer, whose body must be one sentence.
func (w *world) refused(request string) (status int, header http.Header, sentence string) {
	w.t.Helper()
	c, err := w.connect()
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		w.t.Fatalf("%q must be answered: %v", request, err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, resp.Header, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || strings.Count(string(body), "\n") != 1 || len(body) < 20 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		w.t.Errorf("a refusal has one sentence of plain text, not %q, %v", body, err)
	}
	return resp.StatusCode, resp.Header, strings.TrimSpace(string(body))
}

// request is a handshake, with a query, where old is replaced.
func (w *world) request(path, old, with string) string {
	return strings.Replace(handshake(w.addr, path), old, with, 1)
}

func TestBadHandshakes(t *testing.T) {
	w := start(t, Options{})
	for _, tt := range []struct {
		name, old, with string
		status          int
		says            string
	}{
		{"a plain GET", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "", 426, "speaks WebSocket"},
		{"an upgrade to something else", "websocket", "h2c", 426, "Upgrade: websocket"},
		{"no upgrade of the connection", "Connection: Upgrade", "Connection: keep-alive", 426, "Connection: Upgrade"},
		{"another version", "Version: 13", "Version: 8", 426, "Version: 13"},
		{"POST", "GET", "POST", 405, "GET"},
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 505, "HTTP/1.1"},
		{"no key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400, "Sec-WebSocket-Key"},
		{"a bad key", "dGhlIHNhbXBsZSBub25jZQ==", "x", 400, "Sec-WebSocket-Key"},
		{"a body", "\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx", 400, "body"},
		{"two origins", "\r\n\r\n", "\r\nOrigin: http://a\r\nOrigin: http://b\r\n\r\n", 400, "Origin"},
		{"a bad list of extensions", "\r\n\r\n", "\r\nSec-WebSocket-Extensions: ;\r\n\r\n", 400, "Extensions"},
	} {
		status, header, sentence := w.refused(w.request("/ws/room", tt.old, tt.with))
		if status != tt.status || !strings.Contains(sentence, tt.says) {
			t.Errorf("%s is refused with %d and a sentence about %q, not with %d %q", tt.name, tt.status, tt.says, status, sentence)
		}
		if status == 426 && (header.Get("Upgrade") != "websocket" || header.Get("Sec-WebSocket-Version") != "13") {
			t.Errorf("%s: 426 says what is spoken here, not %v", tt.name, header)
		}
	}
	if s := w.gateway.Stats(); s.Refused.Load() != 11 || s.Accepted.Load() != 0 {
		t.Errorf("11 handshakes were refused and none accepted, not %d and %d", s.Refused.Load(), s.Accepted.Load())
	}
}

func TestBadAddresses(t *testing.T) {
	w := start(t, Options{})
	for path, says := range map[string]string{
		"/ws/":                                   "it is empty",
		"/raw/":                                  "it is empty",
		"/ws/" + strings.Repeat("x", 256):        "256 bytes",
		"/ws/" + strings.Repeat("%E5", 1):        "UTF-8",
		"/ws/a%00b":                              "U+0000",
		"/ws/a%0Ab":                              "U+000A",
		"/ws/%7F":                                "U+007F",
		"/ws/%C2%85":                             "U+0085",
		"/ws/x?since=-1":                         "since",
		"/ws/x?since=":                           "since",
		"/ws/x?since=1.5":                        "since",
		"/ws/x?since=9007199254740992":           "since",
		"/ws/x?since=1&since=2":                  "2 times",
		"/ws/x?since=1&last=1":                   "cannot be combined",
		"/ws/x?last=1001":                        "last",
		"/ws/x?echo=yes":                         "echo",
		"/ws/x?name=" + strings.Repeat("n", 256): "name",
		"/ws/x?name=%0A":                         "name",
		"/ws/x?since=%zz":                        "query",
	} {
		status, _, sentence := w.refused(handshake(w.addr, path))
		if status != 400 || !strings.Contains(sentence, says) {
			t.Errorf("%.60s is refused with 400 and a sentence about %q, not with %d %q", path, says, status, sentence)
		}
	}
	for _, path := range []string{"/ws/x?unknown=1", "/ws/x?epoch=&name=&last=0"} {
		if status, _, sentence := w.refused(handshake(w.addr, path)); status != http.StatusSwitchingProtocols {
			t.Errorf("%s is accepted, not refused with %d %q", path, status, sentence)
		}
	}
}

func TestOrigins(t *testing.T) {
	w := start(t, Options{Origins: []string{"https://example.com"}})
	for origin, want := range map[string]int{
		"":                          101,
		"http://" + w.addr:          101,
		"https://example.com":       101,
		"HTTPS://Example.com:443":   101,
		"http://example.com":        403,
		"https://evil.example.com":  403,
		"https://example.com.evil":  403,
		"null":                      403,
		"http://" + w.addr + "1":    403,
		"http://a@" + w.addr:        403,
		"chrome-extension://abcdef": 403,
	} {
		with := "\r\nOrigin: " + origin + "\r\n\r\n"
		if origin == "" {
			with = "\r\n\r\n"
		}
		status, _, sentence := w.refused(w.request("/ws/room", "\r\n\r\n", with))
		if status != want || want == 403 && !strings.Contains(sentence, "origins") {
			t.Errorf("the origin %q gets %d, with a sentence that names the setting, not %d %q", origin, want, status, sentence)
		}
	}
}

func TestTheLimitOfConnections(t *testing.T) {
	w := start(t, Options{MaxConnections: 2})
	first := w.wild("/ws/room")
	w.wild("/raw/room")
	status, header, sentence := w.refused(handshake(w.addr, "/ws/room"))
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(sentence, "limit of 2 connections") {
		t.Errorf("a connection too many is refused with 503, Retry-After and a sentence, not with %d %v %q", status, header, sentence)
	}
	first.Close()
	eventually(t, "when a connection has ended there is room for another", func() bool { return w.gateway.Stats().Closed.Load() == 1 && w.gateway.Count() == 1 })
	w.wild("/ws/room")
}

func TestTheLimitOfAnAddress(t *testing.T) {
	proxy := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	from := func(w *world, forwarded string) int {
		status, _, _ := w.refused(w.request("/ws/room", "\r\n\r\n", "\r\nX-Forwarded-For: "+forwarded+"\r\n\r\n"))
		return status
	}
	w := start(t, Options{MaxPerAddress: 1, TrustedProxies: proxy})
	hold := func(forwarded string) *websocket.Conn {
		t.Helper()
		return w.dial("/ws/room", "X-Forwarded-For", forwarded).Conn
	}
	one := hold("198.51.100.7")
	for forwarded, want := range map[string]int{
		"198.51.100.7":               429,
		"1.2.3.4, 198.51.100.7":      429, // what a client writes itself does not count
		"127.0.0.1, 198.51.100.7":    429,
		"198.51.100.7, 10.1.2.3":     429, // two proxies
		"::ffff:198.51.100.7":        429,
		"198.51.100.8":               101,
		"198.51.100.7, 198.51.100.9": 101,
	} {
		if got := from(w, forwarded); got != want {
			t.Errorf("with X-Forwarded-For: %s from a trusted proxy the answer is %d, not %d", forwarded, want, got)
		}
	}
	_, header, sentence := w.refused(w.request("/ws/room", "\r\n\r\n", "\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n"))
	if header.Get("Retry-After") == "" || !strings.Contains(sentence, "198.51.100.7 has reached its limit of 1") {
		t.Errorf("the refusal names the address and the limit, and has Retry-After, not %q, %v", sentence, header)
	}
	one.Close()
	eventually(t, "when a connection has ended its address has room for another", func() bool { return from(w, "198.51.100.7") == 101 })
	for _, forwarded := range []string{"127.0.0.1", "nonsense", "198.51.100.7:80"} { // then it is the proxy, which is loopback
		hold(forwarded)
		hold(forwarded)
	}

	w = start(t, Options{MaxPerAddress: 1}) // nobody is trusted
	for range 3 {
		hold("198.51.100.7") // from loopback, which is exempt
	}
	eventually(t, "loopback addresses are exempt from the limit", func() bool { return w.gateway.Count() == 3 })
}

func TestAddressesOfClients(t *testing.T) {
	g := &Gateway{Options: Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, tt := range []struct {
		peer, want string
		forwarded  []string
	}{
		{"10.0.0.1:5", "10.0.0.1", nil},
		{"10.0.0.1:5", "192.0.2.1", []string{"192.0.2.1"}},
		{"10.0.0.1:5", "192.0.2.2", []string{"192.0.2.1", "192.0.2.2"}}, // several fields are one list
		{"10.0.0.1:5", "10.0.0.2", []string{"10.0.0.2"}},                // all are proxies
		{"10.0.0.1:5", "10.0.0.1", []string{""}},
		{"[fd00::1]:5", "2001:db8::1", []string{"2001:db8::1"}},
		{"[::ffff:10.0.0.1]:5", "192.0.2.1", []string{"192.0.2.1"}},
		{"192.0.2.9:5", "192.0.2.9", []string{"192.0.2.1"}}, // not trusted
		{"nonsense", "::", []string{"192.0.2.1"}},
	} {
		r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": tt.forwarded}, URL: &url.URL{}}
		if got := g.clientAddr(r).String(); got != tt.want {
			t.Errorf("the client behind %s with X-Forwarded-For %q is %s, not %s", tt.peer, tt.forwarded, tt.want, got)
		}
	}
}

func TestWhatIsHandled(t *testing.T) {
	for path, want := range map[string]bool{"/ws/x": true, "/raw/a//b": true, "/ws/..": true, "/ws": false, "/": false, "/wsx": false, "//ws/x": false, "/healthz": false, "/echo": false} {
		u, err := url.ParseRequestURI("http://h" + path)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&Gateway{}).Handles(&http.Request{URL: u}); got != want {
			t.Errorf("that %s is a channel is %v, not %v", path, want, got)
		}
	}
}
