package ws

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server over one connection that answers each message with itself, reading few bytes at a time. It returns
// how the client closed.
func echo(conn net.Conn) (Event, error) {
	defer conn.Close()
	br := bufio.NewReader(conn)
	r, err := http.ReadRequest(br)
	if err != nil {
		return Event{}, err
	}
	u, err := CheckUpgrade(r)
	if err != nil {
		return Event{}, err
	}
	protocol := ""
	if len(u.Protocols) > 0 {
		protocol = u.Protocols[0]
	}
	if _, err := conn.Write(AppendResponse(nil, u.Key, protocol, http.Header{"X-Node": {"a"}})); err != nil {
		return Event{}, err
	}
	a := NewAssembler(&Rules{MaxMessage: 1 << 20})
	buf := make([]byte, 1000)
	var end Event
	for end.Op == 0 {
		n, err := br.Read(buf)
		if err != nil {
			return Event{}, err
		}
		var out []byte
		err = a.Feed(buf[:n], func(ev Event) error {
			switch ev.Op {
			case OpPing:
				out = AppendFrame(out, OpPong, ev.Payload)
			case OpText, OpBinary:
				out = AppendFrame(out, ev.Op, ev.Payload)
			case OpClose:
				end = Event{Op: OpClose, Code: ev.Code, Payload: bytes.Clone(ev.Payload)}
				out = AppendClose(out, ev.Code, string(ev.Payload))
			}
			return nil
		})
		if err != nil {
			return Event{}, err
		}
		if len(out) == 0 { // an empty write would be an empty read at the other end of the pipe
			continue
		}
		if _, err := conn.Write(out); err != nil {
			return Event{}, err
		}
	}
	return end, nil
}

type ending struct {
	ev  Event
	err error
}

// serve runs echo on one end of a pipe and returns the other.
func serve(t *testing.T) (net.Conn, <-chan ending) {
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	if err := client.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	done := make(chan ending, 1)
	go func() {
		ev, err := echo(server)
		done <- ending{ev, err}
	}()
	return client, done
}

func (e ending) check(t *testing.T) {
	t.Helper()
	if e.err != nil || e.ev.Code != 1000 || string(e.ev.Payload) != "bye" {
		t.Errorf("the server should see the client close with 1000, bye; it saw %d, %s (%v)", e.ev.Code, e.ev.Payload, e.err)
	}
}

var echoed = []string{"", "hello", "大家好", strings.Repeat("x", 125), strings.Repeat("x", 126), strings.Repeat("ä", 5000), strings.Repeat("y", 70000)}

func TestGorillaClient(t *testing.T) {
	conn, done := serve(t)
	pongs := 0
	d := websocket.Dialer{Subprotocols: []string{"chat", "other"}, EnableCompression: true, WriteBufferSize: 512, // longer messages are fragmented
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	c, resp, err := d.Dial("ws://server/ws/room", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "chat" || resp.Header.Get("X-Node") != "a" {
		t.Errorf("the client should see the subprotocol chat and the field X-Node, not %q and %v", c.Subprotocol(), resp.Header)
	}
	c.SetPongHandler(func(s string) error {
		pongs++
		if s != "p" {
			t.Errorf("the pong should carry p, not %q", s)
		}
		return nil
	})
	for _, s := range echoed {
		for _, op := range []int{websocket.TextMessage, websocket.BinaryMessage} {
			if err := c.WriteControl(websocket.PingMessage, []byte("p"), time.Now().Add(10*time.Second)); err != nil {
				t.Fatal(err)
			}
			// A pipe has no buffer: read while writing.
			wrote := make(chan error, 1)
			go func() { wrote <- c.WriteMessage(op, []byte(s)) }()
			gotOp, got, err := c.ReadMessage()
			if err != nil || gotOp != op || string(got) != s {
				t.Fatalf("a message of %d bytes should come back; %d bytes came (%v)", len(s), len(got), err)
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
		}
	}
	if pongs != 2*len(echoed) {
		t.Errorf("%d pings should give as many pongs, not %d", 2*len(echoed), pongs)
	}
	if err := c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "bye"), time.Now().Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, 1000) {
		t.Errorf("the client should see its close answered with 1000, not %v", err)
	}
	(<-done).check(t)
}

func TestGobwasClient(t *testing.T) {
	conn, done := serve(t)
	u, err := url.Parse("ws://server/ws/room")
	if err != nil {
		t.Fatal(err)
	}
	br, hs, err := gobwas.Dialer{Protocols: []string{"chat"}}.Upgrade(conn, u)
	if err != nil || hs.Protocol != "chat" || br != nil {
		t.Fatalf("the client should upgrade to the subprotocol chat, not %q (%v)", hs.Protocol, err)
	}
	for _, s := range echoed {
		wrote := make(chan error, 1)
		go func() { wrote <- wsutil.WriteClientText(conn, []byte(s)) }()
		got, err := wsutil.ReadServerText(conn)
		if err != nil || string(got) != s {
			t.Fatalf("a message of %d bytes should come back; %d bytes came (%v)", len(s), len(got), err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
	bye := gobwas.MaskFrame(gobwas.NewCloseFrame(gobwas.NewCloseFrameBody(1000, "bye")))
	wrote := make(chan error, 1)
	go func() { wrote <- gobwas.WriteFrame(conn, bye) }()
	answer := make([]byte, len("\x88\x05\x03\xe8bye"))
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "\x88\x05\x03\xe8bye" {
		t.Errorf("the client should see its close answered with 1000, bye, not %x (%v)", answer, err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	(<-done).check(t)
}
