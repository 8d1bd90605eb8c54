package security

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"barrage/auth"
	"barrage/gateway"
)

// alive wants the node to serve somebody new.
func (w *world) alive(after string) {
	w.t.Helper()
	c := w.dial("/ws/room", bearer(tokenOf(w.t, "witness"))...)
	defer c.Close()
	if got := c.ask(`{"ping":{}}`); !strings.Contains(got, `"pong"`) {
		w.t.Fatalf("after %s the node serves others, not %s", after, got)
	}
}

func TestBadInputIsRefused(t *testing.T) {
	w := start(t, gateway.Options{})
	token := tokenOf(t, "alice")
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for _, line := range []string{
		`{`, `[]`, `null`, `"publish"`, `{"publish":{}}`, `{"publish":{"data":1,"data":2}}`, `{"publish":{"data":1},"ping":{}}`, `{"publish":{"data":1,"user":"root"}}`,
		`{"publish":{"data":` + deep + `}}`, `{"history":{"limit":-1}}`, `{"history":{"limit":1e3}}`, `{"history":{"since":9007199254740992}}`,
		`{"history":{"since":99999999999999999999999}}`, `{"publish":{"data":1,"id":"` + strings.Repeat("k", 129) + `"}}`, `{"publish":{"data":1,"id":"a\u0001b"}}`,
		`{"publish":{"data":NaN}}`, `{"publish":{"data":"\ud800` + "\x00" + `"}}`, `{"__proto__":{}}`,
	} {
		c := w.dial("/ws/room", bearer(token)...)
		c.until(`"welcome"`)
		c.send(line)
		if got := c.until(`"error"`); !strings.Contains(got, `"code":107`) {
			t.Errorf("%.60q is error 107, not %s", line, got)
		}
		c.Close()
	}
	for name, frame := range map[string]struct {
		kind, code int
		payload    string
	}{
		"text that is not UTF-8": {websocket.TextMessage, 1007, "{\"publish\":{\"data\":\"\xff\"}}"},
		"a surrogate as UTF-8":   {websocket.TextMessage, 1007, "\xed\xa0\x80"},
		"a binary frame":         {websocket.BinaryMessage, 1003, `{"ping":{}}`},
	} {
		for _, path := range []string{"/ws/room", "/raw/room"} {
			c := w.dial(path, bearer(token)...)
			if err := c.WriteMessage(frame.kind, []byte(frame.payload)); err != nil {
				t.Fatal(err)
			}
			if code := c.closed(); code != frame.code {
				t.Errorf("%s on %s closes with %d, not %d", name, path, frame.code, code)
			}
		}
	}
	w.alive("bad input")
}

func TestDeepNestingDoesNoHarm(t *testing.T) {
	w := start(t, gateway.Options{})
	token := tokenOf(t, "alice")
	nested := func(open, shut string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(shut, n) }
	for _, data := range []string{nested("[", "]", 30_000), nested(`{"a":`, "}", 10_000), strings.Repeat("[", 60_000)} {
		c := w.centrifuge(token)
		if got := c.call(`{"subscribe":{"channel":"room"}}`); !strings.Contains(got, `"subscribe":`) {
			t.Fatal(got)
		}
		c.send(`{"id":9,"publish":{"channel":"room","data":` + data + `}}`)
		if got := c.until(`{"id":9`); !strings.Contains(got, `"code":107`) && !strings.HasPrefix(got, "closed 3501") {
			t.Errorf("data that is nested too deep is refused, not answered with %.100s", got)
		}
		c.Close()
		filter := w.centrifuge(token)
		filter.send(`{"id":9,"subscribe":{"channel":"room","tf":` + strings.ReplaceAll(nested(`{"op":"and","nodes":[`, "]}", 1500), "1", "{}") + `}}`)
		if got := filter.until(`{"id":9`); !strings.Contains(got, `"error"`) && !strings.HasPrefix(got, "closed ") {
			t.Errorf("a filter that is nested deep is refused, not answered with %.100s", got)
		}
		filter.Close()
		if status, answer := w.command(w.api(nil), apiKeys["admin"], "publish", `{"channel":"room","data":`+data+`}`); !strings.Contains(answer, `"code":107`) {
			t.Errorf("/api/publish refuses what is nested too deep with error 107, not %d %.100s", status, answer)
		}
	}
	w.alive("deep nesting")
}

// varint appends a field of Protobuf that holds bytes.
func field(number int, value []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(number)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

// delimited is a message of Protobuf after its length.
func delimited(message []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(message))), message...)
}

func TestBadProtobufDoesNoHarm(t *testing.T) {
	w := start(t, gateway.Options{})
	node := []byte{}
	for range 9_000 { // FilterNode, whose nodes are field 6
		if node = field(6, node); len(node) > 60_000 {
			break
		}
	}
	deep := append([]byte{1 << 3, 1}, field(5, append(field(1, []byte("room")), field(13, node)...))...)
	for what, message := range map[string][]byte{
		"a length of 2^64-1":      binary.AppendUvarint(nil, 1<<64-1),
		"a length of 2^63":        binary.AppendUvarint(nil, 1<<63),
		"a length of 2^31":        append(binary.AppendUvarint(nil, 1<<31), 1, 2, 3),
		"a length without an end": bytes.Repeat([]byte{0xff}, 100),
		"a length and nothing":    {100},
		"a field of 2^63 bytes":   delimited(append([]byte{0x22}, binary.AppendUvarint(nil, 1<<63)...)),
		"a filter of many levels": delimited(deep),
		"groups in groups":        delimited(bytes.Repeat([]byte{0x0b}, 60_000)),
		"nothing but zeros":       make([]byte, 60_000),
	} {
		dialer := websocket.Dialer{Subprotocols: []string{"centrifuge-protobuf"}}
		c, _, err := dialer.Dial("ws://"+w.Addr+"/connection/websocket", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.WriteMessage(websocket.BinaryMessage, message); err != nil {
			t.Fatal(err)
		}
		if code := (&client{t: t, Conn: c}).closed(); code != 3501 {
			t.Errorf("%s closes with 3501, not %d", what, code)
		}
		c.Close()
	}
	w.alive("bad Protobuf")
}

func TestHeadersCannotBeInjected(t *testing.T) {
	w := start(t, gateway.Options{})
	api := w.api(nil)
	const evil = "x\r\nX-Injected: 1\r\n\r\n<script>"
	for _, request := range []string{
		w.handshake("/ws/room%0d%0aX-Injected:%201"),
		w.handshake("/ws/room?name=a%0d%0aX-Injected:%201"),
		w.handshake("/sse/room?since=%0d%0aX-Injected:%201"),
		w.handshake("/ws/room", "Origin", "http://a\rX-Injected: 1"),
		w.handshake("/ws/room", "Sec-WebSocket-Protocol", "barrage.bearer.a\rX-Injected: 1"),
		w.handshake("/connection/websocket", "Sec-WebSocket-Protocol", "centrifuge-json\nX-Injected: 1"),
		w.handshake("/ws/room", "Sec-WebSocket-Protocol", "a\r\n X-Injected: 1"),
		w.handshake("/ws/room", "X-Forwarded-For", "1.2.3.4\nX-Injected: 1"),
	} {
		c := w.bytes(request)
		resp, err := http.ReadResponse(reader(c), nil)
		if err != nil {
			t.Fatalf("%q is answered: %v", request, err)
		}
		if resp.Header.Get("X-Injected") != "" {
			t.Errorf("%q must not add a field: %v", request, resp.Header)
		}
		resp.Body.Close()
		c.Close()
	}
	token := tokenOf(t, "alice")
	c := w.dial("/ws/room", bearer(token)...)
	c.until(`"welcome"`)
	resp, lines := w.stream("/sse/room", bearer(token)...)
	event(lines, "welcome")
	for _, code := range []string{"3001", "4500"} {
		if _, answer := w.command(api, apiKeys["admin"], "disconnect", `{"user":"alice","disconnect":{"code":`+code+`,"reason":`+quote("a\n\nevent: message\ndata: forged\r\rdata: forged")+`}}`); strings.Contains(answer, "error") {
			t.Fatal(answer)
		}
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data: forged") || strings.HasPrefix(lines.Text(), "event: message") {
				t.Errorf("a reason must not begin an event of its own: %q", lines.Text())
			}
		}
		resp.Body.Close()
		resp, lines = w.stream("/sse/room", bearer(token)...)
		event(lines, "welcome")
	}
	if _, answer := w.command(api, apiKeys["admin"], evil[:1], `{}`); strings.Contains(answer, "<script>") {
		t.Error(answer)
	}
}

func TestLogsCannotBeForged(t *testing.T) {
	var log record
	w := start(t, gateway.Options{
		Log:    slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Policy: policy(auth.Anyone, auth.Anyone, auth.Anyone, auth.Anyone),
	})
	const evil = "x level=ERROR msg=forged \u2028 \u202e \ufeff \" time=1"
	c := w.dial("/ws/"+pathOf(evil), bearer(tokenOf(t, evil))...)
	c.until(`"welcome"`)
	c.Close()
	cf := w.centrifuge(tokenOf(t, evil))
	cf.call(`{"subscribe":{"channel":` + quote(evil) + `}}`)
	cf.Close()
	resp, lines := w.stream("/sse/"+pathOf(evil), bearer(tokenOf(t, evil))...)
	event(lines, "welcome")
	resp.Body.Close()
	eventually(t, "all connections end", func() bool { return w.Gateway.Count() == 0 && strings.Count(log.String(), "disconnected") == 3 })
	for line := range strings.Lines(log.String()) {
		if !strings.HasPrefix(line, "time=20") || !strings.Contains(line, " level=DEBUG ") || strings.ContainsAny(line, "\u2028\u202e\ufeff") {
			t.Errorf("a name must stay within its quotes: %q", line)
		}
		if before, _, ok := strings.Cut(line, "level=ERROR"); ok && strings.Count(strings.ReplaceAll(before, `\"`, ""), `"`)%2 == 0 {
			t.Errorf("a name must stay within its quotes: %q", line)
		}
	}
}
