package stress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"barrage/ws"
)

// maxMessage is the limit of the node in bytes.
const maxMessage = 256 << 10

// rooms is how many channels there are; most visits go to the first.
const rooms = 20

// tally counts what happened to all guests.
type tally struct {
	visits, messages, acks, resets atomic.Int64

	mu     sync.Mutex
	closes map[uint16]int // owner: mu
}

func (c *tally) closed(code uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closes == nil {
		c.closes = map[uint16]int{}
	}
	c.closes[code]++
}

func (c *tally) codes() map[uint16]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.closes)
}

// guest is a client that visits again and again, each time in another way.
type guest struct {
	t      *testing.T
	addr   string
	rnd    *rand.Rand
	tally  *tally
	lazy   bool // some stalls are longer than the node allows
	ending bool // the node may end at any moment: nothing is demanded
}

// visit is one connection, or an attempt.
func (g *guest) visit() {
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		if !g.ending {
			g.t.Errorf("a node takes connections: %v", err)
		}
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	g.tally.visits.Add(1)
	tcp := c.(*net.TCPConn)
	switch g.rnd.IntN(12) {
	case 0:
		g.torn(tcp)
	case 1:
		g.pages(tcp)
	case 2:
		g.violate(tcp)
	case 3, 4:
		g.stall(tcp)
	case 5, 6:
		g.echo(tcp)
	default:
		g.join(tcp)
	}
	if g.rnd.IntN(3) == 0 {
		_ = tcp.SetLinger(0) // ends with a reset
	}
}

func (g *guest) pause(most time.Duration) { time.Sleep(time.Duration(g.rnd.Int64N(int64(most)))) }

// path of a channel, with a query of some kind.
func (g *guest) path(format string) (path string, start int64) {
	room := 0
	if g.rnd.IntN(2) == 0 {
		room = g.rnd.IntN(rooms)
	}
	path = fmt.Sprintf("/%s/room-%d", format, room)
	switch g.rnd.IntN(5) {
	case 0:
		return fmt.Sprintf("%s?last=%d", path, g.rnd.IntN(1000)), anywhere
	case 1:
		start = g.rnd.Int64N(2000)
		return fmt.Sprintf("%s?since=%d", path, start), start
	case 2:
		return path + "?echo=0", anywhere
	}
	return path, atHead
}

func (g *guest) request(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// frame is a masked frame.
func (g *guest) frame(op ws.Opcode, payload string) []byte {
	return ws.AppendMaskedFrame(nil, op, [4]byte{1, 2, 3, byte(g.rnd.Uint32())}, []byte(payload))
}

// torn sends a part of a request or of a frame.
func (g *guest) torn(c *net.TCPConn) {
	path, _ := g.path("ws")
	text := g.request(path) + string(g.frame(ws.OpText, `{"ping":{}}`))
	_, _ = io.WriteString(c, text[:g.rnd.IntN(len(text))]) // the node may be closing
	g.pause(20 * time.Millisecond)
}

// pages asks for pages before a channel, on one connection.
func (g *guest) pages(c *net.TCPConn) {
	br := bufio.NewReader(c)
	for range g.rnd.IntN(3) {
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			g.demand(false, "a page is answered: %v", err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	path, start := g.path("ws")
	m := &member{guest: g, conn: c, start: start}
	if m.enter(br, path) {
		m.say(br, g.rnd.IntN(10))
	}
}

// violate sends what is no frame, after some that are.
func (g *guest) violate(c *net.TCPConn) {
	path, _ := g.path([]string{"ws", "raw"}[g.rnd.IntN(2)])
	junk := make([]byte, g.rnd.IntN(300))
	for i := range junk {
		junk[i] = byte(g.rnd.Uint32())
	}
	text := g.request(path) + string(g.frame(ws.OpPing, "x")) + string(junk)
	_, _ = io.WriteString(c, text)
	if g.rnd.IntN(2) == 0 {
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the end, or a reset
	}
}

// stall publishes, asks and reads nothing.
func (g *guest) stall(c *net.TCPConn) {
	_ = c.SetReadBuffer(4 << 10)
	path, _ := g.path([]string{"ws", "raw"}[g.rnd.IntN(2)])
	var out bytes.Buffer
	out.WriteString(g.request(path))
	for range g.rnd.IntN(200) {
		if g.rnd.IntN(20) == 0 {
			out.Write(g.frame(ws.OpText, `{"history":{"limit":1000}}`))
		}
		out.Write(g.frame(ws.OpText, `{"publish":{"data":"`+strings.Repeat("stall", g.rnd.IntN(40))+`"}}`))
	}
	_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) // it may not be read from
	_, _ = c.Write(out.Bytes())
	most := 100 * time.Millisecond
	if g.lazy && g.rnd.IntN(20) == 0 {
		most = 2 * slowness
	}
	g.pause(most)
	if g.rnd.IntN(2) == 0 {
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = io.CopyN(io.Discard, c, g.rnd.Int64N(1<<20))
	}
}

// echo demands its messages back, or leaves them behind.
func (g *guest) echo(c *net.TCPConn) {
	br := bufio.NewReader(c)
	m := &member{guest: g, conn: c}
	if !m.enter(br, "/echo") {
		return
	}
	m.mute = true
	text := strings.Repeat("e", g.rnd.IntN(maxMessage))
	n := 1 + g.rnd.IntN(4)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range n {
			_, _ = c.Write(ws.AppendMaskedFrame(nil, ws.OpBinary, [4]byte{9, 8, 7, 6}, []byte(text)))
		}
	}()
	defer func() { c.Close(); <-sent }()
	if g.rnd.IntN(3) == 0 {
		g.pause(50 * time.Millisecond)
		return
	}
	for got := 0; got < n; {
		ev, err := m.event(br)
		if err != nil {
			g.demand(false, "an echo comes back: %v", err)
			return
		}
		if ev.Op == ws.OpBinary {
			g.demand(string(ev.Payload) == text, "an echo is what was sent: %d bytes", len(ev.Payload))
			got++
		}
	}
}

// join reads and publishes on a channel.
func (g *guest) join(c *net.TCPConn) {
	br := bufio.NewReader(c)
	format := []string{"ws", "ws", "raw"}[g.rnd.IntN(3)]
	path, start := g.path(format)
	m := &member{guest: g, conn: c, start: start, raw: format == "raw"}
	if !m.enter(br, path) {
		return
	}
	if !m.say(br, g.rnd.IntN(30)) {
		return
	}
	switch g.rnd.IntN(3) {
	case 0:
		m.leave(br)
	case 1:
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, br)
	}
}

// demand reports what went wrong, unless the node is ending.
func (g *guest) demand(ok bool, format string, args ...any) {
	if !ok && !g.ending {
		g.t.Errorf(format, args...)
	}
}

var errClosed = errors.New("closed")
