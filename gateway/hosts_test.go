package gateway

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	own := OwnHosts([]string{
		"https://Chat.Example.com", "http://intra:8080", "https://10.0.0.7", "https://dots.example.", "https://[2001:db8::7]:444",
		"chrome-extension://abcdef", "capacitor://app", "https://bücher.example", "null", "%", "https://",
	})
	for host, want := range map[string]bool{
		// addresses
		"127.0.0.1": true, "127.0.0.1:8000": true, "127.0.0.1:": true, "127.0.0.1.": true, "192.168.1.5:80": true, "0.0.0.0:8000": true,
		"[::1]": true, "[::1]:8000": true, "[::ffff:127.0.0.1]:80": true, "[2001:DB8::1]:8000": true,
		"::1": false, "[::1": false, "::1]": false, "[]": false, "[::1]x": false, "[::1]:x": false, "[::1]8000": false, "[fe80::1%25lo]": false,
		"[evil.example]": false, "[bad.cafe]": false, "127.1": false, "2130706433": false, "0x7f000001": false, "127.0.0.1.evil.example": false,
		"1.2.3.4.5": false, "127.0.0.256": false,
		// localhost
		"localhost": true, "localhost:8000": true, "LocalHost:8000": true, "localhost.": true, "localhost.:8000": true, "app.localhost": true,
		"A.b.LOCALHOST.:1": true, "localhost..": false, ".localhost": false, "localhost.evil.example": false, "evillocalhost": false,
		"localhost.localdomain": false, "evil-localhost:8000": false,
		// origins
		"chat.example.com": true, "CHAT.example.COM:8443": true, "chat.example.com.": true, "intra": true, "intra:80": true, "10.0.0.7": true,
		"dots.example": true, "[2001:db8::7]": true,
		"example.com": false, "a.chat.example.com": false, "chat.example.com.evil.example": false, "abcdef": false, "app": false,
		"bücher.example": false, "xn--bcher-kva.example": false, "null": false,
		// others, and what is no host
		"": false, ":8000": false, ".": false, " ": false, " localhost": false, "localhost ": false, "evil.example": false, "evil.example:8000": false,
		"127.0.0.1:8000:8000": false, "localhost:8000x": false, "localhost:-1": false, "localhost@evil.example": false, "evil.example@localhost": false,
		"localhost,evil.example": false, "localhost/": false, "localhost#": false, "localhost%00": false, "localhost\x00": false, "localhost\n": false,
		"localho\u017ft": false, "\u212aocalhost": false, "loc\xe4lhost": false, "http://localhost": false, "*": false, "*.localhost": false,
	} {
		if got := own.Has(host); got != want {
			t.Errorf("that a node answers for %q is %t, not %t", host, want, got)
		}
	}
	for _, host := range []string{"", "evil.example", "\xff", "localhost"} {
		if (*Hosts)(nil).Has(host) != true || !OwnHosts([]string{"https://a.example", "*"}).Has(host) {
			t.Errorf("where names do not matter, or all origins are allowed, a node answers for %q too", host)
		}
	}
}

func FuzzHosts(f *testing.F) {
	for _, host := range []string{"localhost:80", "[::1]:1", "a.example.", "[::", "\xff", ""} {
		f.Add(host)
	}
	own := OwnHosts([]string{"https://a.example"})
	f.Fuzz(func(t *testing.T, host string) {
		if !own.Has(host) {
			return
		}
		name, _, _ := strings.Cut(strings.ToLower(host), ":")
		name = strings.TrimSuffix(name, ".")
		_, err := netip.ParseAddr(name)
		if err != nil && name != "a.example" && name != "localhost" && !strings.HasSuffix(name, ".localhost") && !strings.HasPrefix(host, "[") {
			t.Errorf("%q is no name of this machine", host)
		}
	})
}

// askFor sends a request for a host and returns the answer.
func (w *world) askFor(method, path, host string, header ...string) (*http.Response, string) {
	w.t.Helper()
	c, err := w.connect()
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: 0\r\n", method, path, host)
	if method == http.MethodGet {
		request = strings.Replace(handshake(host, path), "\r\n\r\n", "\r\n", 1)
	}
	for i := 0; i < len(header); i += 2 {
		request += header[i] + ": " + header[i+1] + "\r\n"
	}
	s := newWild(w.t, c)
	s.write([]byte(request + "\r\n"))
	resp, err := http.ReadResponse(s.br, &http.Request{Method: method})
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode < 300 {
		return resp, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(b)
}

func TestRequestsForOtherNamesAreMisdirected(t *testing.T) {
	var log syncBuffer
	w := startLogged(t, Options{Hosts: OwnHosts(nil), Echo: true}, slog.New(slog.NewTextHandler(&log, nil)))
	refused := int64(0)
	for _, path := range []string{
		"/raw/room", "/ws/room", "/sse/room", "/connection/websocket", "/connection/sse", "/connection/uni_sse",
		"/connection/http_stream", "/connection/uni_http_stream", "/emulation", "/echo", "/ws/",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
			resp, body := w.askFor(method, path, "Evil.example:8000", "Origin", "http://evil.example:8000")
			if resp.StatusCode != http.StatusMisdirectedRequest || method != http.MethodHead && !strings.Contains(body, "add https://evil.example to the setting origins") {
				t.Errorf("%s %s for another name is refused with 421 and a sentence, not with %s %q", method, path, resp.Status, body)
			}
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s for another name has no %s", method, path, name)
				}
			}
			refused++
		}
	}
	if got := w.gateway.Stats(); got.Misdirected.Load() != refused || got.Accepted.Load() != 0 {
		t.Errorf("each is counted, and none accepted: %d of %d, %d", got.Misdirected.Load(), refused, got.Accepted.Load())
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "Evil.example") {
		t.Errorf("the first is logged, and the others are not: %s", log.String())
	}
	for _, host := range []string{w.addr, "localhost", "a.localhost:1"} {
		if resp, body := w.askFor(http.MethodGet, "/ws/room", host); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("a WebSocket for %s is opened, not refused with %s %s", host, resp.Status, body)
		}
	}
}

func TestAGuardRefusesOtherNames(t *testing.T) {
	w := start(t, Options{Hosts: OwnHosts([]string{"https://good.example"})})
	guarded := w.gateway.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for host, want := range map[string]int{"good.example": 418, "127.0.0.1": 418, "evil.example": 421, "": 421, "<b>": 421} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		answer := httptest.NewRecorder()
		guarded.ServeHTTP(answer, r)
		if answer.Code != want {
			t.Errorf("what is behind a guard is answered for %q with %d, not %d %s", host, want, answer.Code, answer.Body)
		}
		if want == 421 && strings.Contains(answer.Body.String(), "https://"+host) != (host == "evil.example") {
			t.Errorf("a name, and nothing else, is repeated as what to add: %s", answer.Body)
		}
	}
}
