package ws

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestAcceptKey(t *testing.T) { // RFC 6455, section 1.3
	if got := AcceptKey("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("the accept key of the example of RFC 6455 should be s3pPLMBiTxaQ9kYGzzhZRbK+xOo=, not %s", got)
	}
}

// example is the request of RFC 6455, section 1.2, as a server reads it.
func example() *Request {
	return &Request{Method: "GET", Major: 1, Minor: 1, Hosts: []string{"server.example.com"}, Header: http.Header{
		"Upgrade":                {"websocket"},
		"Connection":             {"Upgrade"},
		"Sec-Websocket-Key":      {"dGhlIHNhbXBsZSBub25jZQ=="},
		"Origin":                 {"http://example.com"},
		"Sec-Websocket-Protocol": {"chat, superchat"},
		"Sec-Websocket-Version":  {"13"},
	}}
}

func TestCheckAccepts(t *testing.T) {
	q := example()
	got, err := q.Check()
	want := Upgrade{Key: "dGhlIHNhbXBsZSBub25jZQ==", Host: "server.example.com", Origin: "http://example.com", Protocols: []string{"chat", "superchat"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the request of RFC 6455 should be read as %+v, not as %+v (%v)", want, got, err)
	}
	for what, change := range map[string]func(*Request){
		"HTTP/2.0":                       func(q *Request) { q.Major, q.Minor = 2, 0 },
		"a host among the fields":        func(q *Request) { q.Hosts, q.Header["Host"] = nil, []string{"a"} },
		"a Connection with several":      func(q *Request) { q.Header["Connection"] = []string{"keep-alive, \tUPGRADE "} },
		"a Connection in several fields": func(q *Request) { q.Header["Connection"] = []string{"keep-alive", "upgrade"} },
		"an Upgrade with several":        func(q *Request) { q.Header["Upgrade"] = []string{"h2c, WebSocket"} },
		"no origin":                      func(q *Request) { delete(q.Header, "Origin") },
		"no protocols":                   func(q *Request) { delete(q.Header, "Sec-Websocket-Protocol") },
		"protocols in several fields":    func(q *Request) { q.Header["Sec-Websocket-Protocol"] = []string{"a", "b,,c"} },
		"extensions":                     func(q *Request) { q.Header["Sec-Websocket-Extensions"] = []string{"permessage-deflate"} },
	} {
		q := example()
		change(q)
		if _, err := q.Check(); err != nil {
			t.Errorf("a request with %s should be accepted, but: %v", what, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	set := func(field string, values ...string) func(*Request) {
		return func(q *Request) { q.Header[field] = values }
	}
	for _, c := range []struct {
		what   string
		change func(*Request)
		status int
	}{
		{"the method POST", func(q *Request) { q.Method = "POST" }, 405},
		{"the method get", func(q *Request) { q.Method = "get" }, 405},
		{"HTTP/1.0", func(q *Request) { q.Minor = 0 }, 505},
		{"HTTP/0.9", func(q *Request) { q.Major, q.Minor = 0, 9 }, 505},
		{"no host", func(q *Request) { q.Hosts = nil }, 400},
		{"an empty host", func(q *Request) { q.Hosts = []string{" "} }, 400},
		{"two hosts", func(q *Request) { q.Hosts = []string{"a", "a"} }, 400},
		{"no Upgrade", set("Upgrade"), 426},
		{"Upgrade: h2c", set("Upgrade", "h2c"), 426},
		{"Upgrade: websocketx", set("Upgrade", "websocketx"), 426},
		{"no Connection", set("Connection"), 426},
		{"Connection: keep-alive", set("Connection", "keep-alive"), 426},
		{"Connection: not-upgrade", set("Connection", "not-upgrade"), 426},
		{"no key", set("Sec-Websocket-Key"), 400},
		{"two keys", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="), 400},
		{"a key of 15 bytes", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25j"), 400},
		{"a key of 17 bytes", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZXg="), 400},
		{"a key of 18 bytes", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZXh4"), 400},
		{"a key that is not base64", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25j_!=="), 400},
		{"a key with a line break", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZ\r\n="), 400},
		{"no version", set("Sec-Websocket-Version"), 426},
		{"version 8", set("Sec-Websocket-Version", "8"), 426},
		{"version 013", set("Sec-Websocket-Version", "013"), 426},
		{"two versions", set("Sec-Websocket-Version", "13", "13"), 426},
		{"versions 13, 8", set("Sec-Websocket-Version", "13, 8"), 426},
		{"two origins", set("Origin", "http://a", "http://b"), 400},
		{"a protocol twice", set("Sec-Websocket-Protocol", "a, a"), 400},
		{"a protocol that is no token", set("Sec-Websocket-Protocol", "a b"), 400},
		{"extensions that cannot be read", set("Sec-Websocket-Extensions", "a;"), 400},
		{"a body", func(q *Request) { q.Body = true }, 400},
	} {
		q := example()
		c.change(q)
		_, err := q.Check()
		var e *HandshakeError
		if !errors.As(err, &e) || e.Status != c.status || !strings.Contains(e.Message, " ") {
			t.Errorf("a request with %s should be refused with %d and a sentence, not with %v", c.what, c.status, err)
			continue
		}
		if c.status == 426 && (e.Header["Connection"][0] != "Upgrade" || e.Header["Sec-Websocket-Version"][0] != "13" || e.Header["Upgrade"][0] != "websocket") {
			t.Errorf("the refusal of %s should say what the server speaks, not %v", c.what, e.Header)
		}
		answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(e.AppendTo(nil))), nil)
		if err != nil || answer.StatusCode != c.status || !answer.Close {
			t.Errorf("the answer to %s should be %d and the end of the connection, not %+v (%v)", c.what, c.status, answer, err)
			continue
		}
		body := new(strings.Builder)
		if err := answer.Write(body); err != nil || !strings.HasSuffix(body.String(), "\r\n\r\n"+e.Message+"\n") {
			t.Errorf("the answer to %s should carry its sentence, not %q (%v)", c.what, body, err)
		}
	}
}

func TestCheckUpgrade(t *testing.T) {
	const fields = "Host: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for _, c := range []struct {
		request string
		status  int
	}{
		{"GET /ws/room HTTP/1.1\r\n" + fields + "\r\n", 0},
		{"GET /ws/room HTTP/1.1\r\n" + fields + "Content-Length: 0\r\n\r\n", 0},
		{"GET /ws/room HTTP/1.1\r\n" + fields + "Content-Length: 1\r\n\r\nx", 400},
		{"GET /ws/room HTTP/1.1\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"GET /ws/room HTTP/1.0\r\n" + fields + "\r\n", 505},
		{"GET /ws/room HTTP/1.1\r\nHost: h\r\n\r\n", 426},
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(c.request)))
		if err != nil {
			t.Fatal(err)
		}
		u, err := CheckUpgrade(r)
		status := 0
		if e := (*HandshakeError)(nil); errors.As(err, &e) {
			status = e.Status
		}
		if status != c.status || status == 0 && (u.Host != "h" || u.Key != "dGhlIHNhbXBsZSBub25jZQ==") {
			t.Errorf("%q should give status %d, not %d (%+v, %v)", c.request, c.status, status, u, err)
		}
	}
}

func TestAppendResponse(t *testing.T) {
	got := AppendResponse(nil, "dGhlIHNhbXBsZSBub25jZQ==", "chat", http.Header{"X-B": {"1", "2\r\nX-Evil: 3"}, "X-A": {"0"}})
	want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n" +
		"X-A: 0\r\nX-B: 1\r\nX-B: 2  X-Evil: 3\r\n\r\n"
	if string(got) != want {
		t.Errorf("the response should be\n%q, not\n%q", want, got)
	}
}

func TestParseExtensions(t *testing.T) {
	deflate := Extension{Name: "permessage-deflate", Params: []Param{{Name: "client_max_window_bits"}, {Name: "x", Value: "10"}}}
	for _, c := range []struct {
		field string
		want  []Extension
		ok    bool
	}{
		{"", nil, true},
		{"foo", []Extension{{Name: "foo"}}, true},
		{" foo , , bar ", []Extension{{Name: "foo"}, {Name: "bar"}}, true},
		{"permessage-deflate; client_max_window_bits; x=10", []Extension{deflate}, true},
		{`permessage-deflate;client_max_window_bits ; x = "\10", foo`, []Extension{deflate, {Name: "foo"}}, true},
		{"foo;", nil, false},
		{"foo;=1", nil, false},
		{"foo;a=", nil, false},
		{`foo;a="`, nil, false},
		{`foo;a="\`, nil, false},
		{`foo;a=""`, nil, false},
		{`foo;a="b c"`, nil, false},
		{"foo bar", nil, false},
		{"foo=1", nil, false},
		{"fo\x00o", nil, false},
	} {
		got, ok := parseExtensions([]string{c.field})
		if ok != c.ok || ok && !reflect.DeepEqual(got, c.want) {
			t.Errorf("the extensions %q should be read as %+v, %t, not as %+v, %t", c.field, c.want, c.ok, got, ok)
		}
	}
}

func TestOriginAllowed(t *testing.T) {
	list := []string{"https://app.example.com", "http://Dev.example.com:3000", "capacitor://localhost"}
	for _, c := range []struct {
		origin, host string
		allowed      []string
		want         bool
	}{
		{"", "a.com", nil, true},
		{"https://a.com", "a.com", nil, true},
		{"http://a.com", "a.com", nil, true},
		{"https://A.com", "a.COM", nil, true},
		{"http://a.com:8000", "a.com:8000", nil, true},
		{"http://a.com", "a.com:80", nil, true},
		{"https://a.com", "a.com:443", nil, true},
		{"https://a.com:443", "a.com", nil, true},
		{"http://[::1]:8000", "[::1]:8000", nil, true},
		{"http://a.com", "a.com:443", nil, false},
		{"http://a.com:8001", "a.com:8000", nil, false},
		{"http://a.com", "a.com:8000", nil, false},
		{"https://b.com", "a.com", nil, false},
		{"https://a.com.evil.com", "a.com", nil, false},
		{"https://evil.com/a.com", "a.com", nil, false},
		{"https://a.com@evil.com", "a.com", nil, false},
		{"https://evil.com#a.com", "a.com", nil, false},
		{"https://evil.com?a.com", "a.com", nil, false},
		{"capacitor://a.com", "a.com", nil, false},
		{"null", "null", nil, false},
		{"a.com", "a.com", nil, false},
		{"https://", "", nil, false},
		{"https://%zz", "%zz", nil, false},
		{"https://app.example.com", "a.com", list, true},
		{"https://APP.example.com:443", "a.com", list, true},
		{"http://app.example.com", "a.com", list, false},
		{"https://app.example.com:8443", "a.com", list, false},
		{"https://x.app.example.com", "a.com", list, false},
		{"http://dev.example.com:3000", "a.com", list, true},
		{"http://dev.example.com", "a.com", list, false},
		{"capacitor://localhost", "a.com", list, true},
		{"null", "a.com", list, false},
		{"null", "a.com", []string{"null"}, true},
		{"null", "a.com", []string{"*"}, true},
		{"https://b.com", "a.com", []string{"*"}, true},
		{"garbage", "a.com", []string{"more garbage"}, false},
	} {
		if got := OriginAllowed(c.origin, c.host, c.allowed); got != c.want {
			t.Errorf("the origin %q at host %q with the list %q should be allowed: %t, not %t", c.origin, c.host, c.allowed, c.want, got)
		}
	}
	for entry, good := range map[string]bool{
		"*": true, "null": true, "https://a.com": true, "http://a.com:8000": true,
		"a.com": false, "https://a.com/": false, "https://*.a.com/x": false, "": false, "https://": false, "https://a.com#": false, "https://a.com?": false,
	} {
		if err := CheckOriginEntry(entry); err == nil != good {
			t.Errorf("the entry %q of the list of origins should be good: %t, but: %v", entry, good, err)
		}
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add("websocket", "Upgrade", "dGhlIHNhbXBsZSBub25jZQ==", "13", "http://a.com", "chat, superchat", "permessage-deflate; x=\"1\"")
	f.Fuzz(func(t *testing.T, upgrade, connection, key, version, origin, protocols, extensions string) {
		q := &Request{Method: "GET", Major: 1, Minor: 1, Hosts: []string{"a.com"}, Header: http.Header{
			"Upgrade": {upgrade}, "Connection": {connection}, "Sec-Websocket-Key": {key}, "Sec-Websocket-Version": {version},
			"Origin": {origin}, "Sec-Websocket-Protocol": {protocols}, "Sec-Websocket-Extensions": {extensions},
		}}
		OriginAllowed(origin, "a.com", []string{protocols})
		u, err := q.Check()
		var answer []byte
		if e := (*HandshakeError)(nil); errors.As(err, &e) {
			answer = e.AppendTo(nil)
		} else if err != nil {
			t.Fatalf("a handshake is refused with %v, which is not a *HandshakeError", err)
		} else {
			protocol := ""
			if len(u.Protocols) > 0 {
				protocol = u.Protocols[0]
			}
			answer = AppendResponse(nil, u.Key, protocol, nil)
		}
		if _, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil); err != nil {
			t.Fatalf("the answer %q cannot be read: %v", answer, err)
		}
	})
}
