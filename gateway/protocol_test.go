package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"barrage/ws"
)

func TestRawAndJSONShareAChannel(t *testing.T) {
	w := start(t, Options{})
	raw, js := w.dial("/raw/room"), w.dial("/ws/room?name=ann")
	if got := js.welcome(); got.Node != "a" || got.Channel != "room" || got.Offset != 0 || got.Epoch == "" || got.Client == "" {
		t.Errorf("a welcome tells node, client, channel, epoch and head, not %+v", got)
	}
	raw.send("hello \"you\"\n弹幕")
	if got := raw.line() + "\n" + raw.line(); got != "hello \"you\"\n弹幕" {
		t.Errorf("a text that goes through /raw comes out unchanged, not %q", got)
	}
	if m := js.reply().Message; m == nil || string(m.Data) != `"hello \"you\"\n弹幕"` || m.Offset != 1 {
		t.Errorf("a text from /raw is a JSON string on /ws, not %+v", m)
	}
	if at := js.publish(`"again"`); at != 2 {
		t.Errorf("both share the offsets: 2 comes after 1, not %d", at)
	}
	if got := raw.line(); got != "again" {
		t.Errorf("a JSON string from /ws is its text on /raw, not %q", got)
	}
	js.publish(`{"a": 1}`)
	if got := raw.line(); got != `{"a":1}` {
		t.Errorf("other JSON from /ws is its JSON on /raw, not %q", got)
	}
}

func TestNamesOfChannels(t *testing.T) {
	w := start(t, Options{})
	long := strings.Repeat("x", 255)
	for path, name := range map[string]string{
		"/ws/a%2Fb":              "a/b",
		"/ws/a//b":               "a//b",
		"/ws//":                  "/",
		"/ws/..":                 "..",
		"/ws/../x":               "../x",
		"/ws/%2E%2E/%2e":         "../.",
		"/ws/a+b%20c":            "a+b c",
		"/ws/%E5%BC%B9%E5%B9%95": "弹幕",
		"/ws/a%3Fb%23c%25":       "a?b#c%",
		"/ws/" + long:            long,
		"/ws/raw/x":              "raw/x",
	} {
		c := w.wild(path)
		if got := c.text(); !strings.Contains(got, `"channel":`+fmt.Sprintf("%q", name)+`,`) {
			t.Errorf("%s names the channel %q, not %s", path, name, got)
		}
		c.Close()
	}
}

func TestHistoryAndInfo(t *testing.T) {
	w := start(t, Options{})
	c := w.dial("/ws/room")
	epoch := c.welcome().Epoch
	for i := range 5 {
		c.publish(fmt.Sprint(i))
	}
	ask := func(command string) (offsets string, more bool) {
		t.Helper()
		c.send(command)
		for {
			if h := c.reply().History; h != nil {
				for _, m := range h.Messages {
					offsets += fmt.Sprint(m.Offset, " ")
				}
				if h.Epoch != epoch || h.Offset != 5 || h.ID != "h" {
					t.Errorf("history tells id, epoch and head, not %+v", h)
				}
				return strings.TrimSpace(offsets), h.More
			}
		}
	}
	for command, want := range map[string]string{
		`{"history":{"id":"h"}}`:                          "1 2 3 4 5",
		`{"history":{"id":"h","limit":2}}`:                "4 5, more",
		`{"history":{"id":"h","since":1,"limit":2}}`:      "2 3, more",
		`{"history":{"id":"h","since":3}}`:                "4 5",
		`{"history":{"id":"h","since":5}}`:                "",
		`{"history":{"id":"h","since":9007199254740991}}`: "",
		`{"history":{"id":"h","before":3,"limit":1}}`:     "2, more",
		`{"history":{"id":"h","before":3}}`:               "1 2",
		`{"history":{"id":"h","before":1}}`:               "",
	} {
		got, more := ask(command)
		if more {
			got += ", more"
		}
		if got != want {
			t.Errorf("%s gives %q, not %q", command, want, got)
		}
	}
	other := w.dial("/raw/room")
	eventually(t, "info counts the members of a channel", func() bool {
		c.send(`{"info":{"id":"i"}}`)
		i := c.reply().Info
		return i != nil && i.ID == "i" && i.Members == 2 && i.Nodes == 1
	})
	other.Close()
}

func TestResumeOverAReconnect(t *testing.T) {
	w := start(t, Options{})
	c, other := w.dial("/ws/room"), w.dial("/ws/room")
	epoch := c.welcome().Epoch
	for i := range 10 {
		other.publish(fmt.Sprint(i))
	}
	if got := c.offsets(4); got != "1 2 3 4" {
		t.Fatalf("messages come in order, not %s", got)
	}
	c.Close()
	c = w.dial("/ws/room?since=4&epoch=" + string(epoch))
	if c.welcome().Offset != 10 {
		t.Error("the welcome tells the head")
	}
	other.publish("10")
	if got := c.offsets(7); got != "5 6 7 8 9 10 11" {
		t.Errorf("since=4 resumes with 5 and goes on without gap or repeat, not %s", got)
	}

	for _, query := range []string{"since=4&epoch=other", "since=99", "since=99&epoch=" + string(epoch)} {
		c := w.dial("/ws/room?" + query)
		if r := c.reply().Reset; r == nil || r.Epoch != epoch || r.Offset != 11 || r.Reason == "" {
			t.Errorf("%s cannot be resumed; a reset with the head and a reason comes before the welcome, not %+v", query, r)
		}
		c.welcome()
		raw := w.dial("/raw/room?" + query)
		if e := raw.closed(); e.Code != 3010 || e.Text == "" {
			t.Errorf("/raw can say so only by closing with 3010 and a reason, not %v", e)
		}
	}
	for query, want := range map[string]string{"since=9": "10 11", "since=0": "1 2 3 4 5 6 7 8 9 10 11", "last=3": "9 10 11", "last=1000": "1 2 3 4 5 6 7 8 9 10 11"} {
		c := w.dial("/ws/room?" + query)
		if got := c.offsets(strings.Count(want, " ") + 1); got != want {
			t.Errorf("%s starts with %s, not %s", query, want, got)
		}
	}
}

func TestEchoCanBeLeftOut(t *testing.T) {
	w := start(t, Options{})
	quiet, other := w.dial("/ws/room?echo=0"), w.dial("/ws/room")
	quiet.welcome()
	other.welcome()
	quiet.publish("1")
	other.publish("2")
	quiet.publish("3")
	other.publish("4")
	if got := quiet.offsets(2); got != "2 4" {
		t.Errorf("with echo=0 a connection is sent the messages of others, 2 and 4, not %s", got)
	}
	if got := other.offsets(4); got != "1 2 3 4" {
		t.Errorf("others are sent everything, not %s", got)
	}
}

// What a client sends with its handshake, or before its channel is open, is taken after it has joined: it gets its own messages.
func TestFramesSentTogetherWithTheHandshake(t *testing.T) {
	w := start(t, Options{})
	open := w.journal.reads.close()
	js := w.knock("/ws/room", append(text(`{"publish":{"data":1,"id":"k"}}`), text(`{"ping":{}}`)...)...)
	raw := w.knock("/raw/other", text("hello")...)
	raw.write(text("world"))
	w.journal.reads.await(t)
	open()
	js.answer()
	raw.answer()
	if got := js.text(); !strings.HasPrefix(got, `{"welcome"`) || !strings.Contains(got, `"offset":0,`) {
		t.Errorf("the welcome comes first, from before the first message, not %s", got)
	}
	var seen [3]bool
	for range 3 {
		got := js.text()
		seen[0] = seen[0] || got == `{"ack":{"id":"k","offset":1}}`
		seen[1] = seen[1] || got == `{"pong":{}}`
		seen[2] = seen[2] || strings.HasPrefix(got, `{"message":{"offset":1,`)
	}
	if seen != [3]bool{true, true, true} {
		t.Errorf("commands that come with the handshake are answered, and the own message comes back: %v", seen)
	}
	if got := raw.text() + raw.text(); got != "helloworld" {
		t.Errorf("texts sent before the channel is open come back in order, not %q", got)
	}
}

// A frame may hold more commands than may be under way: all are answered, and the node is not flooded.
func TestAFrameOfManyCommands(t *testing.T) {
	w := start(t, Options{})
	c := w.dial("/ws/room")
	c.welcome()
	open := w.journal.appends.close()
	c.send(strings.Repeat(`{"publish":{"data":1}}`+"\n", 1000))
	w.journal.appends.await(t)
	c.send(`{"ping":{"id":"last"}}`)
	open()
	acks, last := 0, false
	for !last {
		r := c.reply()
		if r.Ack != nil {
			acks++
		}
		last = r.Pong != nil && r.Pong.ID == "last"
	}
	if acks < 1000-session64 {
		t.Errorf("what comes after a frame waits until all of it was taken: %d of 1000 publishes had an answer", acks)
	}
}

const session64 = 64

func TestViolations(t *testing.T) {
	big := strings.Repeat("x", 64<<10)
	for name, tt := range map[string]struct {
		frames []byte
		code   uint16
	}{
		"an unmasked frame":                   {ws.AppendFrame(nil, ws.OpText, []byte("x")), 1002},
		"reserved bits":                       {[]byte{0xC1, 0x80, 0, 0, 0, 0}, 1002},
		"a reserved opcode":                   {[]byte{0x83, 0x80, 0, 0, 0, 0}, 1002},
		"a length that is not minimal":        {[]byte{0x81, 0xFE, 0, 1, 0, 0, 0, 0, 'x'}, 1002},
		"a length with the highest bit set":   {[]byte{0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1002},
		"a fragmented ping":                   {frame(false, ws.OpPing, ""), 1002},
		"a ping of 126 bytes":                 {frame(true, ws.OpPing, big[:126]), 1002},
		"a continuation of nothing":           {frame(true, ws.OpContinuation, "x"), 1002},
		"a message within a message":          {append(frame(false, ws.OpText, "x"), text("y")...), 1002},
		"a close frame of one byte":           {frame(true, ws.OpClose, "x"), 1002},
		"a close code that must not be sent":  {frame(true, ws.OpClose, "\x03\xED"), 1002},
		"a binary frame":                      {frame(true, ws.OpBinary, "x"), 1003},
		"text that is not UTF-8":              {text("\xff"), 1007},
		"half a character at the end":         {append(frame(false, ws.OpText, "\xE5\xBC"), frame(true, ws.OpContinuation, "")...), 1007},
		"a close reason that is not UTF-8":    {frame(true, ws.OpClose, "\x03\xE8\xff"), 1007},
		"a message that is too large":         {text(big + "x"), 1009},
		"fragments that are too large":        {append(frame(false, ws.OpText, big), frame(true, ws.OpContinuation, "x")...), 1009},
		"a size announced in the header only": {text(big + "x")[:14], 1009},
		"a size of exabytes":                  {[]byte{0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, 1009},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, Options{})
			for i, path := range []string{"/ws/room", "/raw/room"} {
				c := w.wild(path)
				c.write(append(text(`{"publish":{"data":1}}`), tt.frames...))
				ev := c.closing()
				if ev.Code != tt.code || len(ev.Payload) == 0 {
					t.Errorf("%s closes with %d and a reason, not with %d %q", name, tt.code, ev.Code, ev.Payload)
				}
				// The client may see its end before it is counted.
				eventually(t, "each violation is counted once", func() bool { return w.gateway.Stats().Violation.Load() == int64(i+1) })
				c.Close()
			}
		})
	}
}

func TestTheClientsCloseIsAnswered(t *testing.T) {
	w := start(t, Options{})
	for payload, want := range map[string]uint16{"": ws.NoStatus, "\x03\xE8": 1000, "\x03\xE9going": 1001, "\x0F\x9F\xE5\xBC\xB9": 3999} {
		c := w.wild("/ws/room")
		c.write(append(frame(true, ws.OpClose, payload), text(`{"publish":{"data":"after the close"}}`)...))
		if ev := c.closing(); ev.Code != want {
			t.Errorf("a close frame is answered with its code, %d, not %d", want, ev.Code)
		}
		c.Close()
	}
	c := w.dial("/ws/room")
	if head := c.welcome().Offset; head != 0 {
		t.Errorf("nothing is taken after a close frame: the head is 0, not %d", head)
	}
	if n := w.gateway.Stats().Violation.Load() + w.gateway.Stats().Slow.Load(); n != 0 {
		t.Errorf("a client that closes breaks nothing and is not slow: %d", n)
	}
	eventually(t, "a connection whose client went is released", func() bool { return w.gateway.Count() == 1 })
}

func TestFragmentsWithPingsBetween(t *testing.T) {
	w := start(t, Options{})
	c := w.wild("/raw/room")
	all := append(frame(false, ws.OpText, "弹\xE5"), frame(true, ws.OpPing, "1")...)
	all = append(all, frame(false, ws.OpContinuation, "")...)
	all = append(all, frame(true, ws.OpPong, "unasked")...)
	all = append(all, frame(true, ws.OpContinuation, "\xB9\x95!")...)
	for _, b := range all { // byte by byte
		c.write([]byte{b})
	}
	if ev := c.event(); ev.Op != ws.OpPong || string(ev.Payload) != "1" {
		t.Errorf("a ping between fragments is answered at once, with its payload, not %+v", ev)
	}
	if got := c.text(); got != "弹幕!" {
		t.Errorf("fragments make one message, not %q", got)
	}
}

func TestTheWelcomeTellsTheLimit(t *testing.T) {
	for limit, want := range map[int]string{0: `"max_payload":65536}}`, 1000: `"max_payload":1000}}`} {
		w := start(t, Options{MaxMessage: limit})
		for _, channel := range []string{"room", "live:room"} {
			c := w.dial("/ws/" + channel)
			if got := c.line(); !strings.HasPrefix(got, `{"welcome":{`) || !strings.HasSuffix(got, want) {
				t.Errorf("the welcome to %s tells the limit, %s, not %s", channel, want, got)
			}
		}
	}
}

// A client that sends more than fits into the buffers of the network must hear the code too, not that its connection broke.
func TestAMessageFarBeyondTheLimitIsToldWhy(t *testing.T) {
	w := start(t, Options{MaxMessage: 1000})
	c := w.dial("/ws/room")
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_ = c.WriteMessage(websocket.TextMessage, make([]byte, 8<<20)) // fails once the server has closed
	}()
	if got := c.line(); !strings.HasPrefix(got, `{"welcome"`) {
		t.Fatal(got)
	}
	if e := c.closed(); e.Code != websocket.CloseMessageTooBig {
		t.Errorf("a message far beyond the limit closes with 1009, not %v", e)
	}
	c.Close()
	<-sent
}

func TestMessagesUpToTheLimit(t *testing.T) {
	w := start(t, Options{MaxMessage: 1000})
	c := w.dial("/raw/room")
	for _, size := range []int{0, 1, 125, 126, 1000} {
		text := strings.Repeat("x", size)
		c.send(text)
		if _, b, err := c.ReadMessage(); err != nil || string(b) != text {
			t.Fatalf("a message of %d bytes comes back as it was, not %d bytes, %v", size, len(b), err)
		}
	}
	c.send(strings.Repeat("x", 1001))
	if e := c.closed(); e.Code != websocket.CloseMessageTooBig || !strings.Contains(e.Text, "1000") {
		t.Errorf("a message beyond the limit closes with 1009 and names the limit, not %v", e)
	}
}
