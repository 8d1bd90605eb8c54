package gateway

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"barrage/internal/testcert"
	"barrage/session"
	"barrage/ws"
)

// compressing starts a gateway that compresses from a few bytes on.
func compressing(t *testing.T) *world {
	t.Helper()
	return start(t, Options{Compression: &session.Compression{Threshold: 100}})
}

// wire counts what a client reads.
type wire struct {
	net.Conn
	read *int
}

func (w wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	*w.read += n
	return n, err
}

// dialCompressed connects a client that offers permessage-deflate. read is what it has read, and is to be looked at between its
// reads.
func (w *world) dialCompressed(path string) (c *client, read *int) {
	w.t.Helper()
	read = new(int)
	d := websocket.Dialer{EnableCompression: true, TLSClientConfig: testcert.Client(authority), NetDial: func(network, addr string) (net.Conn, error) {
		conn, err := net.Dial(network, addr)
		return wire{conn, read}, err
	}}
	conn, resp, err := d.Dial(w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	const want = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); w.gateway.Compression != nil && got != want {
		w.t.Errorf("the offer is accepted with %q, not %q", want, got)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	return &client{t: w.t, Conn: conn}, read
}

func TestCompressedAndPlainClientsShareARoom(t *testing.T) {
	w := compressing(t)
	raw, plainRaw := w.dial("/raw/room"), w.dial("/raw/room")
	deflatedRaw, rawRead := w.dialCompressed("/raw/room")
	plain := w.dial("/ws/room")
	deflated, read := w.dialCompressed("/ws/room?name=ann")
	plain.welcome()
	deflated.welcome()
	long := strings.Repeat("大家好 hello everyone! ", 200) // 5,600 bytes
	before, rawBefore := *read, *rawRead
	texts := []string{long, "short", "", long + "again", strings.Repeat("x", 60_000)}
	for i, text := range texts {
		from := []*client{raw, deflatedRaw}[i%2]
		from.send(text)
		for _, c := range []*client{raw, plainRaw, deflatedRaw} {
			if got := c.line(); got != text {
				t.Errorf("a text of %d bytes comes out of /raw unchanged, not as %d bytes", len(text), len(got))
			}
		}
		for _, c := range []*client{plain, deflated} {
			if m := c.reply().Message; m == nil || string(m.Data) != `"`+text+`"` || int(m.Offset) != i+1 {
				t.Errorf("message %d comes to /ws, compressed or not, not %+v", i+1, m)
			}
		}
	}
	if n, m := *read-before, *rawRead-rawBefore; n > 3000 || m > 3000 {
		t.Errorf("what was negotiated is used: 71,000 bytes that repeat themselves come in far fewer, not in %d and %d", n, m)
	}
	deflated.publish(`"` + long + `"`)
	if got := plainRaw.line(); got != long {
		t.Error("what a client of /ws sends compressed comes to a plain client")
	}
	s := w.gateway.Stats()
	if s.Received.Load() != 6 || s.Inflated.Load() != 3 {
		t.Errorf("3 of 6 messages came compressed, not %d of %d", s.Inflated.Load(), s.Received.Load())
	}
	c := w.gateway.Compression
	if before, after := c.Before.Load(), c.After.Load(); c.Deflated.Load() != 8 || before < 140_000 || after > before/20 {
		t.Errorf("each of the 4 long messages is compressed once per format: %d times, %d bytes to %d", c.Deflated.Load(), before, after)
	}
}

func TestCompressedClientsResume(t *testing.T) {
	w := start(t, Options{Compression: &session.Compression{Threshold: 250}}) // which some messages reach
	publisher := w.dial("/ws/room?echo=0")
	publisher.welcome()
	rng := rand.New(rand.NewPCG(1, 1))
	var texts []string
	for range 1100 { // more than memory keeps
		texts = append(texts, fmt.Sprint(rng.Uint64(), strings.Repeat("na", rng.IntN(100))))
	}
	for from := 0; from < len(texts); from += 50 {
		_ = publisher.SetReadDeadline(time.Now().Add(patience))
		for _, text := range texts[from : from+50] {
			publisher.send(`{"publish":{"data":"` + text + `"}}`)
		}
		for range 50 {
			if r := publisher.reply(); r.Ack == nil {
				t.Fatalf("a publish is acknowledged, not answered with %+v", r)
			}
		}
	}
	for _, since := range []int{0, 700, 1099} {
		c, _ := w.dialCompressed(fmt.Sprintf("/ws/room?since=%d", since))
		c.welcome()
		raw, _ := w.dialCompressed(fmt.Sprintf("/raw/room?since=%d", since))
		for i := since; i < len(texts); i++ {
			if m := c.reply().Message; m == nil || int(m.Offset) != i+1 || string(m.Data) != `"`+texts[i]+`"` {
				t.Fatalf("since=%d gives message %d, not %+v", since, i+1, m)
			}
			if got := raw.line(); got != texts[i] {
				t.Fatalf("since=%d gives %s on /raw, not %s", since, texts[i], got)
			}
		}
		c.Close()
		raw.Close()
	}
	c, read := w.dialCompressed("/ws/room")
	c.welcome()
	before := *read
	c.send(`{"history":{"limit":500}}`)
	h := c.reply().History
	if h == nil || len(h.Messages) != 500 || string(h.Messages[499].Data) != `"`+texts[1099]+`"` {
		t.Fatalf("history is complete, not %+v", h)
	}
	if n := *read - before; n > 500*80 {
		t.Errorf("a page of history is compressed: about 100,000 bytes come in far fewer, not in %d", n)
	}
}

// offer is the opening of a connection that offers extensions and sends frames at once.
func (w *world) offer(extensions string, frames ...byte) *wild {
	w.t.Helper()
	c, err := w.connect()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	opening := strings.TrimSuffix(handshake(w.addr, "/raw/room"), "\r\n") + "Sec-WebSocket-Extensions: " + extensions + "\r\n\r\n"
	if _, err := c.Write(append([]byte(opening), frames...)); err != nil {
		w.t.Fatal(err)
	}
	return newWild(w.t, c)
}

// accepted reads the answer to the handshake.
func (c *wild) accepted() (extensions string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		c.t.Fatalf("the handshake succeeds whatever is offered, not with %v, %v", resp, err)
	}
	return resp.Header.Get("Sec-Websocket-Extensions")
}

func TestOffersOfCompression(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for offer, want := range map[string]string{
		"permessage-deflate; client_max_window_bits":                           plain,
		"permessage-deflate; server_max_window_bits=9, permessage-deflate":     plain,
		"permessage-deflate; server_max_window_bits=15":                        plain + "; server_max_window_bits=15",
		"permessage-deflate; server_max_window_bits=9":                         "",
		"permessage-deflate; client_no_context_takeover=1":                     "",
		"permessage-deflate; server_no_context_takeover; unknown":              "",
		"permessage-deflate; client_max_window_bits; client_max_window_bits=9": "",
		"x-webkit-deflate-frame":                                               "",
	} {
		if got := compressing(t).offer(offer).accepted(); got != want {
			t.Errorf("the offer %s is answered with %q, not %q", offer, want, got)
		}
		if got := start(t, Options{}).offer(offer).accepted(); got != "" {
			t.Errorf("with compression off no offer is accepted, not %s with %q", offer, got)
		}
	}
	for _, o := range []Options{{}, {Compression: &session.Compression{}}} {
		resp, err := http.ReadResponse(start(t, o).offer("permessage-deflate; =").br, nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("an offer that cannot be read fails the handshake with 400, compression or not: %v, %v", resp, err)
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// deflated is a masked frame with RSV1.
func deflated(fin bool, op ws.Opcode, payload string) []byte {
	b := frame(fin, op, payload)
	b[0] |= 0x40
	return b
}

func TestBadCompressedMessages(t *testing.T) {
	const offer = "permessage-deflate"
	bomb := string(ws.AppendFrame(nil, ws.OpText, []byte(strings.Repeat("x", 1<<20))))
	shrunk, _ := ws.DeflateFrame([]byte(bomb), 0)
	_, n, _ := ws.ParseHeader(shrunk)
	bomb = string(shrunk[n:])
	for what, c := range map[string]struct {
		frames []byte
		code   uint16
	}{
		"a bomb":                            {deflated(true, ws.OpText, bomb), 1009},
		"a bomb in fragments":               {append(deflated(false, ws.OpText, bomb[:100]), frame(true, ws.OpContinuation, bomb[100:])...), 1009},
		"corrupt data":                      {deflated(true, ws.OpText, "\xff\xff\xff"), 1007},
		"text that is not UTF-8":            {deflated(true, ws.OpText, "\x00\x01\x00\xfe\xff\xff\x00"), 1007},
		"a compressed ping":                 {deflated(true, ws.OpPing, ""), 1002},
		"RSV1 on the second fragment":       {append(frame(false, ws.OpText, "a"), deflated(true, ws.OpContinuation, "\x00")...), 1002},
		"a binary message":                  {deflated(true, ws.OpBinary, "\x00"), 1003},
		"a message after the close is past": {append(frame(true, ws.OpClose, "\x03\xe8"), deflated(true, ws.OpText, bomb)...), 1000},
	} {
		w := compressing(t)
		wild := w.offer(offer, c.frames...)
		wild.accepted()
		if ev := wild.closing(); ev.Code != c.code {
			t.Errorf("%s closes with %d, not with %d %s", what, c.code, ev.Code, ev.Payload)
		}
		if bombs := &w.gateway.Stats().Bombs; c.code == 1009 {
			eventually(t, what+" is counted", func() bool { return bombs.Load() == 1 })
		} else if n := bombs.Load(); n != 0 {
			t.Errorf("%s is not counted as a bomb, but %d are", what, n)
		}
	}
	wild := start(t, Options{Compression: &session.Compression{}}).wild("/raw/room", deflated(true, ws.OpText, "\x00")...)
	if ev := wild.closing(); ev.Code != 1002 {
		t.Errorf("a client that has not negotiated compression must not use it: 1002, not %d %s", ev.Code, ev.Payload)
	}
}
