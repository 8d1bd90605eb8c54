package gateway

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/gorilla/websocket"
)

func TestTheFormatIsChosenInTheHandshake(t *testing.T) {
	w := start(t, Options{})
	ping := map[string]string{"json": `{"id":1,"connect":{}}`, "protobuf": "\x04\x08\x01\x22\x00"}
	for _, c := range []struct{ query, offer, chosen, format string }{
		{"", "", "", "json"},
		{"", "centrifuge-json", "centrifuge-json", "json"},
		{"", "centrifuge-protobuf", "centrifuge-protobuf", "protobuf"},
		{"", "other, centrifuge-protobuf, centrifuge-json", "centrifuge-protobuf", "protobuf"},
		{"", "other", "", "json"},
		{"?cf_protocol=protobuf", "", "", "protobuf"},
		{"?format=protobuf", "", "", "protobuf"},
		{"?format=protobuf", "centrifuge-json", "centrifuge-json", "json"},
	} {
		var header []string
		if c.offer != "" {
			header = []string{"Sec-WebSocket-Protocol", c.offer}
		}
		conn := w.dial("/connection/websocket"+c.query, header...)
		kind := websocket.TextMessage
		if c.format == "protobuf" {
			kind = websocket.BinaryMessage
		}
		if err := conn.WriteMessage(kind, []byte(ping[c.format])); err != nil {
			t.Fatal(err)
		}
		got, b, err := conn.ReadMessage()
		if err != nil || got != kind || conn.Subprotocol() != c.chosen {
			t.Errorf("%+v is answered in its format, with its subprotocol, not with %d %q %q, %v", c, got, b, conn.Subprotocol(), err)
		}
	}
}

func TestAMessageOfTheOtherKindEndsTheConnection(t *testing.T) {
	w := start(t, Options{})
	for query, kind := range map[string]int{"": websocket.BinaryMessage, "?format=protobuf": websocket.TextMessage} {
		c := w.dial("/connection/websocket" + query)
		if err := c.WriteMessage(kind, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if e := c.closed(); e.Code != 1003 {
			t.Errorf("a message that is not of the format's kind is closed with 1003, not %v", e)
		}
	}
}

func TestACentrifugeClientIsPingedHoweverMuchItSends(t *testing.T) {
	w := start(t, Options{Ping: 300 * time.Millisecond, Pong: 2 * time.Second})
	c := w.dial("/connection/websocket")
	c.send(`{"id":1,"connect":{}}`)
	stop := make(chan struct{})
	defer close(stop)
	var mu sync.Mutex
	write := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		_ = c.WriteMessage(websocket.TextMessage, []byte(text))
	}
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				write(`{"id":2,"ping":{}}`)
			}
		}
	}()
	for pings := 0; pings < 3; {
		if c.line() == "{}" {
			pings++
			write("{}")
		}
	}
}

func TestASilentCentrifugeClientIsClosed(t *testing.T) {
	w := start(t, Options{Ping: 100 * time.Millisecond, Pong: 100 * time.Millisecond})
	c := w.dial("/connection/websocket")
	c.send(`{"id":1,"connect":{}}`)
	if e := c.closed(); e.Code != 3012 {
		t.Errorf("a client that answers no ping is closed with 3012, not %v", e)
	}
}

func TestOneChannelForAllProtocols(t *testing.T) {
	w := start(t, Options{})
	raw, plain, cf := w.dial("/raw/room"), w.dial("/ws/room"), w.dial("/connection/websocket")
	plain.welcome()
	cf.send(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"room"}}`)
	cf.line()
	cf.line()
	raw.send("one")
	if r := cf.centrifuge(); r.Push == nil || string(r.Push.Pub.Data) != `"one"` || r.Push.Pub.Offset != 1 {
		t.Errorf("a text of /raw is a publication, not %+v", r)
	}
	if m := plain.reply().Message; m == nil || string(m.Data) != `"one"` {
		t.Errorf("and a message of /ws, not %+v", m)
	}
	cf.send(`{"id":3,"publish":{"channel":"room","data":{"a": 2}}}`)
	if m := plain.reply().Message; m == nil || string(m.Data) != `{"a":2}` || m.Offset != 2 {
		t.Errorf("a publication is a message of /ws, not %+v", m)
	}
	if got := raw.line(); got != "one" {
		t.Errorf("/raw is given its own text first, not %q", got)
	}
	if got := raw.line(); got != `{"a":2}` {
		t.Errorf("and then the publication, not %q", got)
	}
}

func TestWithoutItThereIsNoCentrifugeEndpoint(t *testing.T) {
	g := New(Options{Log: slog.New(slog.DiscardHandler)})
	defer g.engine.Close()
	if g.Handles(upgradeRequest("/connection/websocket")) {
		t.Error("without a Server for it the path is not the gateway's")
	}
}

// centrifuge reads the next reply.
func (c *client) centrifuge() *protocol.Reply {
	c.t.Helper()
	line := c.line()
	r, err := protocol.NewJSONReplyDecoder([]byte(line)).Decode()
	if err != nil {
		c.t.Fatalf("%s: %v", line, err)
	}
	return r
}
