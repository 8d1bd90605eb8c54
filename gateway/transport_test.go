package gateway

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"barrage/proto"
)

// parrot is a transport by POST: it answers with the request's body, framed, and then says nothing but pings.
var parrot = transport{
	path: "/parrot/", methods: []string{http.MethodPost}, contentType: always(proto.FrameDelimited.ContentType()),
	admit: func(_ *Gateway, _ *http.Request, body []byte) (func(opening) streamed, error) {
		return func(o opening) streamed {
			c := &parrotConn{}
			o.prepare(&c.conn, c)
			c.out.Send(proto.FrameDelimited.Append(o.head, body))
			return c
		}, nil
	},
}

func init() { transports = append(transports, &parrot) }

// parrotConn is its own peer.
type parrotConn struct{ streamConn }

func (c *parrotConn) Full() bool            { return false }
func (c *parrotConn) Message([]byte) []byte { return nil }
func (c *parrotConn) Greeted() bool         { return true }
func (c *parrotConn) Ping() []byte          { return proto.FrameDelimited.Append(nil, nil) }
func (c *parrotConn) Leave(how proto.Close) { c.End(how) }
func (c *parrotConn) Gone()                 {}
func (c *parrotConn) String() string        { return "a parrot" }
func (c *parrotConn) End(how proto.Close) bool {
	c.out.End(proto.FrameDelimited.Append(nil, fmt.Append(nil, how.Code)))
	return true
}

func TestAStreamByPost(t *testing.T) {
	w := start(t, brisk)
	body := strings.Repeat("a body ", 9_000)
	s := w.askStream("POST /parrot/ HTTP/1.1\r\nHost: "+w.addr+"\r\n", "Content-Length", fmt.Sprint(len(body))+"\r\n\r\n"+body)
	if s.resp.StatusCode != http.StatusOK || s.resp.Header.Get("Content-Type") != "application/octet-stream" {
		t.Fatalf("a request with a body opens a stream: %v", s.resp)
	}
	frame := func() string {
		n, err := binary.ReadUvarint(s.br)
		b := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(s.br, b)
		}
		if err != nil {
			t.Fatalf("a frame must come: %v", err)
		}
		return string(b)
	}
	if got := frame(); got != body {
		t.Errorf("the transport is given the body, not %d bytes", len(got))
	}
	if got := frame(); got != "" {
		t.Errorf("a stream is kept alive by its peer's pings, not %q", got)
	}
	w.gateway.mu.Lock()
	c := w.gateway.conns[0]
	w.gateway.mu.Unlock()
	c.leave(proto.CloseShutdown)
	for got := frame(); got != "3001"; got = frame() {
		if got != "" {
			t.Fatalf("a stream ends as its peer says, not with %q", got)
		}
	}
}

func TestBodiesOfStreamsAreBounded(t *testing.T) {
	w := start(t, Options{MaxConnections: 1})
	for range 2 { // what is refused does not count
		s := w.askStream("POST /parrot/ HTTP/1.1\r\nHost: "+w.addr+"\r\n", "Content-Length", "100001\r\n\r\n"+strings.Repeat("x", 100_001))
		if s.resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("a body that is too large is refused with 413, not %s", s.resp.Status)
		}
		s.Close()
	}
	s := w.askStream("GET /parrot/ HTTP/1.1\r\nHost: " + w.addr + "\r\n")
	if s.resp.StatusCode != http.StatusMethodNotAllowed || s.resp.Header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("a transport by POST is not opened by GET: %v", s.resp)
	}
}

// A stream that does not read for a while is given everything once it does, from memory or the journal, with the same ids.
func TestAStalledStreamKeepsItsPlace(t *testing.T) {
	const messages = 60
	w := start(t, Options{})
	s := w.stream("/sse/room")
	takeLittle(t, s.Conn)
	publisher := w.dial("/ws/room?echo=0")
	epoch := publisher.welcome().Epoch
	data := `"` + strings.Repeat("x", 60_000) + `"`
	for range messages {
		publisher.publish(data)
	}
	if n := w.gateway.Writers.Stats.Blocked.Load(); n == 0 {
		t.Error("3.6 MB fill the socket of a client that does not read")
	}
	s.welcome()
	for i := 1; i <= messages; i++ {
		if m, id := s.message(); int(m.Offset) != i || id != fmt.Sprintf("%s/%d", epoch, i) {
			t.Fatalf("message %d comes next with its position, not %d, %q", i, m.Offset, id)
		}
	}
}
