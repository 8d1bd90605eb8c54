package security

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"barrage/gateway"
	"barrage/internal/testnode"
	"barrage/limit"
	"barrage/session"
	"barrage/session/centrifuge"
	"barrage/ws"
)

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// allocated is how many bytes were allocated until now.
func allocated() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.TotalAlloc)
}

// frame is a masked frame of a client, with a mask of zeros, whose header declares a length of its own choice.
func frame(first byte, declared uint64, payload []byte) []byte {
	b := []byte{first}
	switch {
	case declared < 126:
		b = append(b, 0x80|byte(declared))
	case declared < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(declared))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), declared)
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// wild connects by hand and returns the connection after the handshake.
func (w *world) wild(path string, header ...string) (net.Conn, io.Reader) {
	w.t.Helper()
	c := w.bytes(w.handshake(path, header...))
	br := reader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		w.t.Fatalf("%s must be upgraded, not %v, %v", path, resp, err)
	}
	return c, br
}

// ended reads until the server closes, and returns the code of its close frame.
func ended(t *testing.T, from io.Reader) (code int) {
	t.Helper()
	asm := ws.NewAssembler(&ws.Rules{MaxMessage: 4 << 20, FromServer: true})
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if feed := asm.Feed(buf[:n], func(e ws.Event) error {
			if e.Op == ws.OpClose {
				code = int(e.Code)
			}
			return nil
		}); feed != nil {
			t.Fatal(feed)
		}
		if err != nil || code != 0 {
			return code
		}
	}
}

// doors are where frames are taken: the last two before anyone has shown who they are.
func doors(t *testing.T) map[string][]string {
	return map[string][]string{
		"/ws/room": bearer(tokenOf(t, "alice")), "/raw/room": bearer(tokenOf(t, "alice")), "/connection/websocket": nil,
		"/connection/websocket?format=protobuf": nil,
	}
}

func TestNothingIsAllocatedByADeclaredLength(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		w := open(t, testnode.Options{Portable: portable, Gateway: gateway.Options{Tokens: verifier(t), Policy: members()}})
		before := allocated()
		for path, header := range doors(t) {
			for _, op := range []byte{0x81, 0x01, 0x82, 0x02} { // text and binary, final and not
				for _, length := range []uint64{1 << 31, 1 << 32, 1 << 40, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
					c, from := w.wild(path, header...)
					if _, err := c.Write(frame(op, length, []byte("x"))); err != nil {
						t.Fatal(err)
					}
					if code := ended(t, from); code != 1009 && code != 1002 {
						t.Errorf("a frame that declares %d bytes on %s is closed with 1009 or 1002, not %d", length, path, code)
					}
					c.Close()
				}
			}
		}
		for _, request := range []string{
			"GET /sse/room HTTP/1.1\r\nHost: x\r\nContent-Length: 4611686018427387904\r\n\r\nx",
			"POST /sse/room HTTP/1.1\r\nHost: x\r\nContent-Length: 4611686018427387904\r\n\r\nx",
			"POST /connection/http_stream HTTP/1.1\r\nHost: x\r\nContent-Length: 4611686018427387904\r\n\r\n{",
			"POST /emulation HTTP/1.1\r\nHost: x\r\nContent-Length: 4611686018427387904\r\n\r\n{",
			"POST /sse/room HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
		} {
			c := w.bytes(request)
			_ = c.(*net.TCPConn).CloseWrite()
			resp, err := http.ReadResponse(reader(c), nil)
			if err == nil && resp.StatusCode < 400 {
				t.Errorf("%.40q is refused, not answered with %s", request, resp.Status)
			}
			c.Close()
		}
		if grown := allocated() - before; grown > 64<<20 {
			t.Errorf("lengths that were declared made the node allocate %d MiB", grown>>20)
		}
	})
}

func TestFrameLengthsDoNotOverflow(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		w := open(t, testnode.Options{Portable: portable, Gateway: gateway.Options{Tokens: verifier(t), Policy: members()}})
		for path, header := range doors(t) {
			for _, length := range []uint64{1<<63 - 1, 1<<63 - 10, 1<<63 + 1, 1<<64 - 10, 1<<32 - 10, 1<<31 - 10} {
				c, from := w.wild(path, header...)
				first := byte(0x01)
				if strings.Contains(path, "protobuf") {
					first = 0x02
				}
				frames := append(frame(first, 10, []byte("0123456789")), frame(0x80, length, []byte("x"))...) // their sum overflows
				if _, err := c.Write(frames); err != nil {
					t.Fatal(err)
				}
				if code := ended(t, from); code != 1009 && code != 1002 {
					t.Errorf("fragments of 10 and %d bytes on %s are closed with 1009 or 1002, not %d", length, path, code)
				}
				c.Close()
			}
			c, from := w.wild(path, header...)
			if _, err := c.Write(frame(0x89, 1<<40, nil)); err != nil {
				t.Fatal(err)
			}
			if code := ended(t, from); code != 1002 {
				t.Errorf("a ping of a terabyte on %s is closed with 1002, not %d", path, code)
			}
			c.Close()
		}
	})
}

func TestMessagesAreBounded(t *testing.T) {
	w := start(t, gateway.Options{})
	for path, header := range doors(t) {
		c := w.dial(path, header...)
		c.EnableWriteCompression(false)
		kind := websocket.TextMessage
		if strings.Contains(path, "protobuf") {
			kind = websocket.BinaryMessage
		}
		_ = c.WriteMessage(kind, bytes.Repeat([]byte("1"), 64<<10+1))
		if code := c.closed(); code != 1009 {
			t.Errorf("a message of more than 64 KiB on %s is closed with 1009, not %d", path, code)
		}
	}
}

func TestTinyFragmentsHoldLittle(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		w := open(t, testnode.Options{Portable: portable, Gateway: gateway.Options{Tokens: verifier(t), Policy: members(), Ping: time.Minute}})
		const clients, fragments = 20, 60_000
		many := bytes.Repeat(frame(0x00, 1, []byte("x")), fragments)
		var ends []io.Reader
		before := heap()
		for range clients {
			c, from := w.wild("/connection/websocket") // nobody yet
			if _, err := c.Write(append(frame(0x01, 1, []byte("x")), many...)); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, from)
			if _, err := c.Write(frame(0x89, 1, []byte("p"))); err != nil { // a ping is answered in the middle of a message
				t.Fatal(err)
			}
			pong := make([]byte, 3)
			if _, err := io.ReadFull(from, pong); err != nil || pong[0] != 0x8a {
				t.Fatalf("the fragments are taken, and the ping after them is answered: %x, %v", pong, err)
			}
		}
		if each := (heap() - before) / clients; each > 256<<10 {
			t.Errorf("%d fragments of one byte each hold %d KiB, not more than the message they may become", fragments, each>>10)
		}
		runtime.KeepAlive(ends)
		c, from := w.wild("/connection/websocket")
		go func() { // the server ends it in the middle
			_, _ = c.Write(append(frame(0x01, 1, []byte("x")), bytes.Repeat(many, 2)...))
		}()
		if code := ended(t, from); code != 1009 {
			t.Errorf("fragments without an end are closed with 1009, not %d", code)
		}
		empty, from := w.wild("/connection/websocket")
		if _, err := empty.Write(append(frame(0x01, 0, nil), bytes.Repeat(frame(0x00, 0, nil), fragments)...)); err != nil {
			t.Fatal(err)
		}
		if _, err := empty.Write(frame(0x88, 0, nil)); err != nil {
			t.Fatal(err)
		}
		_ = ended(t, from)
		w.alive("tiny fragments")
	})
}

func TestABombBeforeAuthenticationIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		o := gateway.Options{Tokens: verifier(t), Policy: members(), Compression: &session.Compression{}}
		w := open(t, testnode.Options{Portable: portable, Gateway: o})
		var b bytes.Buffer
		z, err := flate.NewWriter(&b, flate.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := z.Write(make([]byte, 32<<20)); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
		bomb := bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
		if len(bomb) > 64<<10 {
			t.Fatalf("the bomb has %d bytes, and passes for a message", len(bomb))
		}
		before := allocated()
		for path := range doors(t) {
			for range 20 {
				c, from := w.wild(path, "Sec-WebSocket-Extensions", "permessage-deflate") // nobody has shown a token
				first := byte(0xc1)
				if strings.Contains(path, "protobuf") {
					first = 0xc2
				}
				if _, err := c.Write(frame(first, uint64(len(bomb)), bomb)); err != nil {
					t.Fatal(err)
				}
				if code := ended(t, from); code != 1009 && code != 3500 {
					t.Errorf("a bomb on %s is closed with 1009, or 3500 unseen, not %d", path, code)
				}
				c.Close()
			}
		}
		if each := (allocated() - before) / 80; each > 2<<20 {
			t.Errorf("a bomb of %d KiB made the node allocate %d KiB", len(bomb)>>10, each>>10)
		}
		w.alive("bombs")
	})
}

func TestASlowHandshakeIsCut(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		w := open(t, testnode.Options{Portable: portable, Handshake: 300 * time.Millisecond})
		for what, text := range map[string]string{
			"nothing":              "",
			"half a request":       "GET /ws/room HTTP/1.1\r\nHost: x\r\n",
			"half a line":          "GE",
			"half a body":          "POST /sse/room HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
			"half a body in parts": "POST /sse/room HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		} {
			c := w.bytes(text)
			began := time.Now()
			if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("a client that sends %s is cut soon, not still there after %s", what, time.Since(began))
			}
			c.Close()
		}
	})
}

func TestAHugeRequestIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		w := open(t, testnode.Options{Portable: portable, Gateway: gateway.Options{Tokens: verifier(t), Policy: members()}})
		for what, request := range map[string]string{
			"a long path":          w.handshake("/ws/" + strings.Repeat("a", 40<<10)),
			"a long field":         w.handshake("/ws/room", "X-Long", strings.Repeat("a", 40<<10)),
			"many fields":          w.handshake("/ws/room", strings.Split(strings.Repeat("X-A,1,", 8000)+"X-A,1", ",")...),
			"a channel of 256":     w.handshake("/ws/" + strings.Repeat("a", 256)),
			"a name of 256":        w.handshake("/ws/room?name=" + strings.Repeat("a", 256)),
			"a key of its own":     strings.Replace(w.handshake("/ws/room"), "dGhlIHNhbXBsZSBub25jZQ==", strings.Repeat("A", 200), 1),
			"two lengths":          strings.Replace(w.handshake("/ws/room"), "\r\n\r\n", "\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nGET /", 1),
			"a length and chunks":  strings.Replace(w.handshake("/ws/room"), "\r\n\r\n", "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 1),
			"two hosts":            w.handshake("/ws/room", "Host", "evil.example"),
			"a folded field":       strings.Replace(w.handshake("/ws/room"), "\r\n\r\n", "\r\nX-A: 1\r\n 2\r\nUpgrade : x\r\n\r\n", 1),
			"a space before colon": strings.Replace(w.handshake("/ws/room"), "Origin", "", 1)[:10] + " HTTP/1.1\r\nHost : x\r\n\r\n",
		} {
			c := w.bytes("")
			_, _ = io.WriteString(c, request) // it may be refused before its end
			resp, err := http.ReadResponse(reader(c), nil)
			if err == nil && resp.StatusCode < 400 {
				t.Errorf("%s is refused, not answered with %s", what, resp.Status)
			}
			c.Close()
		}
		w.alive("huge requests")
	})
}

func TestAHalfOpenConnectionIsFoundOut(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		o := gateway.Options{Tokens: verifier(t), Policy: members(), Ping: 200 * time.Millisecond, Pong: 200 * time.Millisecond}
		w := open(t, testnode.Options{Portable: portable, Gateway: o})
		var all []net.Conn
		for path, header := range doors(t) {
			c, _ := w.wild(path, header...) // it never says anything again
			all = append(all, c)
		}
		eventually(t, "connections that answer no ping are cut", func() bool { return w.Gateway.Stats().Closed.Load() >= int64(len(all)-2) })
		for _, c := range all {
			c.Close()
		}
	})
}

func TestASlowReaderIsCut(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		o := gateway.Options{Tokens: verifier(t), Policy: members(), Write: 500 * time.Millisecond}
		w := open(t, testnode.Options{Portable: portable, Gateway: o})
		token := tokenOf(t, "alice")
		c, _ := w.wild("/ws/room", bearer(token)...)
		defer c.Close()
		s := w.bytes("GET /sse/room HTTP/1.1\r\nHost: " + w.Addr + "\r\nAuthorization: Bearer " + token + "\r\n\r\n")
		defer s.Close()
		eventually(t, "both are members", func() bool { return w.Node.Info("room").Members == 2 })
		data := quote(strings.Repeat("x", 60<<10))
		for i := 0; w.Gateway.Count() > 0; i++ {
			if i > 3000 {
				t.Fatal("who takes no bytes is cut")
			}
			w.publish("room", data)
			time.Sleep(time.Millisecond) // the pace of the flood
		}
	})
}

func TestCommandsArePaced(t *testing.T) {
	const perSecond, burst = 0.1, 10 // so few that they are used up however slowly the flood comes
	w := start(t, gateway.Options{Limits: limit.New(limit.Options{
		Commands: limit.Rate{PerSecond: perSecond, Burst: 2 * burst}, Publishes: limit.Rate{PerSecond: perSecond, Burst: burst},
	})})
	began := time.Now()
	token := tokenOf(t, "alice")
	cf := w.centrifuge(token)
	cf.call(`{"subscribe":{"channel":"room"}}`)
	ws := w.dial("/ws/room", bearer(token)...)
	raw := w.dial("/raw/room", bearer(token)...)
	for path, flood := range map[string]struct {
		*client
		publish string
	}{
		"/ws":                   {ws, `{"publish":{"data":1}}`},
		"/connection/websocket": {cf, `{"id":100,"publish":{"channel":"room","data":1}}`},
		"/raw":                  {raw, "1"},
	} {
		if code := flood.floods(flood.publish); code != 3013 {
			t.Errorf("who goes on for ever is closed on %s with 3013, not %d", path, code)
		}
	}
	page, err := historyOf(w, "room")
	if most := 3 * (burst + perSecond*time.Since(began).Seconds()); err != nil || float64(len(page)) > most {
		t.Errorf("of a flood of publishes no more than %.1f are stored, not %d, %v", most, len(page), err)
	}
}

// floods sends a message again and again until the connection is closed, and returns the code.
func (c *client) floods(message string) (code int) {
	c.t.Helper()
	var sending sync.WaitGroup
	stop := make(chan struct{})
	defer sending.Wait()
	defer close(stop)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	sending.Go(func() {
		for c.WriteMessage(websocket.TextMessage, []byte(message)) == nil {
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	return c.closed()
}

func TestConnectionsAreBounded(t *testing.T) {
	o := gateway.Options{MaxPerAddress: 3, TrustedProxies: proxies(), Limits: limit.New(limit.Options{UserConnections: 2})}
	w := start(t, o)
	paths := []string{"/ws/room", "/raw/room", "/connection/websocket", "/sse/room"}
	for i := range 3 {
		w.dial(paths[i], append(bearer(tokenOf(t, fmt.Sprint("u", i))), "X-Forwarded-For", "203.0.113.7")...)
	}
	for _, from := range []string{"203.0.113.7", "198.51.100.1, 203.0.113.7", "::ffff:203.0.113.7"} {
		for _, path := range paths {
			header := append(bearer(tokenOf(t, "u9")), "X-Forwarded-For", from)
			resp, _ := w.stream(path, header...)
			if path != "/sse/room" {
				_, resp = w.try(path, header...)
			}
			if resp.StatusCode != http.StatusTooManyRequests {
				t.Errorf("the fourth connection of an address, from %q on %s, is refused with 429, not %s", from, path, resp.Status)
			}
		}
	}
	for i := range 3 {
		c := w.dial("/ws/room", append(bearer(tokenOf(t, "many")), "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i))...)
		if got := c.until(`"welcome"`); strings.HasPrefix(got, "closed 3504") != (i == 2) {
			t.Errorf("connection %d of a user: the third is closed with 3504, not %s", i+1, got)
		}
	}
	cf := w.dial("/connection/websocket", "X-Forwarded-For", "198.51.100.9")
	if got := cf.call(connect(tokenOf(t, "many"))); !strings.HasPrefix(got, "closed 3504") {
		t.Errorf("they count for all protocols together: 3504, not %s", got)
	}
}

func TestConnectionsThatEndAreNotCountedOn(t *testing.T) {
	w := start(t, gateway.Options{Limits: limit.New(limit.Options{UserConnections: 1})})
	token := tokenOf(t, "alice")
	counted := func() { // a client may read its greeting before it is counted, and "ended" must not be "not yet there"
		t.Helper()
		eventually(t, "the connection is counted", func() bool { return w.Gateway.Count() == 1 && len(w.Gateway.Connections("alice")) == 1 })
	}
	for i := range 3 {
		for _, path := range []string{"/ws/room", "/raw/room", "/sse/room", "/connection/websocket"} {
			switch path {
			case "/sse/room":
				resp, lines := w.stream(path, bearer(token)...)
				if event(lines, `"welcome"`) == "" {
					t.Fatalf("round %d: alice is let in on %s when her last connection has ended", i, path)
				}
				counted()
				resp.Body.Close()
			case "/connection/websocket":
				c := w.centrifuge(token)
				counted()
				c.Close()
			default:
				c := w.dial(path, bearer(token)...)
				c.send(`{"ping":{}}`)
				if got := c.line(); strings.HasPrefix(got, "closed") {
					t.Fatalf("round %d: alice is let in on %s when her last connection has ended, not %s", i, path, got)
				}
				counted()
				c.Close()
			}
			eventually(t, "the connection ends", func() bool { return w.Gateway.Count() == 0 && len(w.Gateway.Connections("alice")) == 0 })
		}
	}
}

func TestWhoNeverConnectsIsCut(t *testing.T) {
	late := func() time.Time { return time.Now().Add(-9500 * time.Millisecond) }
	w := start(t, gateway.Options{Centrifuge: &centrifuge.Server{Now: late}, Ping: 400 * time.Millisecond})
	c := w.dial("/connection/websocket")
	if code := c.closed(); code != 3502 {
		t.Errorf("a client that shows nothing within 10 s is closed with 3502, not %d", code)
	}
}
