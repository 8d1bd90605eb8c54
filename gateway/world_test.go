package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"barrage/broker"
	"barrage/broker/local"
	"barrage/channel"
	"barrage/internal/testcert"
	"barrage/journal"
	"barrage/journal/memory"
	"barrage/node"
	"barrage/proto"
	"barrage/session"
	"barrage/session/centrifuge"
	"barrage/ws"
)

// portable chooses the engine of the tests that run now, secure whether they run over TLS.
var portable, secure bool

// TestMain runs all tests on the engine of this system and on the portable one, without TLS and with it.
func TestMain(m *testing.M) {
	code := 0
	for i := 0; i < 4 && code == 0; i++ {
		portable, secure = i%2 == 1, i >= 2
		if code = m.Run(); code != 0 {
			fmt.Fprintf(os.Stderr, "portable %t, over TLS %t\n", portable, secure)
		}
	}
	if err := goleak.Find(lingering); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// lingering is what the public client of the Centrifuge protocol leaves behind for some seconds.
var lingering = goleak.IgnoreTopFunction("github.com/centrifugal/centrifuge-go.(*Client).sendAsync.func1")

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// gated is a journal whose appends and reads can be held up.
type gated struct {
	journal.Journal
	appends, reads gate
}

// gate is open until it is shut.
type gate struct {
	mu      sync.Mutex
	shut    chan struct{}
	waiting int
}

// close holds up what comes until the function that it returns is called.
func (g *gate) close() (open func()) {
	shut := make(chan struct{})
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	return sync.OnceFunc(func() {
		g.mu.Lock()
		g.shut = nil
		g.mu.Unlock()
		close(shut)
	})
}

func (g *gate) pass() {
	g.mu.Lock()
	shut := g.shut
	g.waiting++
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
	g.mu.Lock()
	g.waiting--
	g.mu.Unlock()
}

func (g *gate) await(t *testing.T) {
	t.Helper()
	eventually(t, "something must wait for the journal", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.waiting > 0 })
}

func (j *gated) Append(ctx context.Context, d []journal.Draft) (journal.Appended, error) {
	j.appends.pass()
	return j.Journal.Append(ctx, d)
}

func (j *gated) Read(ctx context.Context, name string, r journal.Range) (journal.Page, error) {
	j.reads.pass()
	return j.Journal.Read(ctx, name, r)
}

// world is a gateway with a node behind it and a server in front.
type world struct {
	t       *testing.T
	gateway *Gateway
	journal *gated
	node    *node.Node
	url     string // ws://…
	addr    string
}

func newNode(t testing.TB, codecs []channel.Codec) (*node.Node, *gated) {
	t.Helper()
	j := &gated{Journal: memory.New()}
	n, err := node.New(node.Options{
		Name: "a", Journal: j, Codecs: codecs, Writers: 2,
		Namespaces: channel.Namespaces{Named: map[string]channel.Namespace{"live": {Live: true}}},
		OpenBroker: func(_ string, h broker.Handler) (broker.Broker, error) { return local.Open(h), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, j
}

// start starts a gateway; what o leaves open is filled in.
func start(t *testing.T, o Options) *world {
	t.Helper()
	return startLogged(t, o, slog.New(slog.DiscardHandler))
}

func startLogged(t *testing.T, o Options, log *slog.Logger) *world {
	t.Helper()
	w := &world{t: t}
	var n *node.Node
	codecs := session.Codecs()
	if o.Compression != nil {
		codecs = session.DeflatedCodecs(o.Compression)
	}
	if o.Centrifuge == nil {
		o.Centrifuge = &centrifuge.Server{}
	}
	o.Centrifuge.First = len(codecs)
	n, w.journal = newNode(t, append(codecs, centrifuge.Codecs(o.Compression)...))
	o.Backend, o.Writers = n, n.Writers()
	if o.Node == "" {
		o.Node, o.Forwarder = "a", n
	}
	w.node, o.Log = n, log
	if secure {
		o.TLS = &tls.Config{Certificates: []tls.Certificate{authority.TLS()}}
	}
	w.gateway = New(o)
	server := httptest.NewUnstartedServer(w.gateway)
	rest, err := w.gateway.Listen(server.Listener, time.Second*10, portable)
	if err != nil {
		t.Fatal(err)
	}
	server.Listener = rest
	server.Start()
	w.addr = server.Listener.Addr().String()
	w.url = "ws://" + w.addr
	if secure {
		w.url = "wss://" + w.addr
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // at once
		w.gateway.Shutdown(ctx)
		server.Close()
		http.DefaultClient.CloseIdleConnections()
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func eventually(t *testing.T, sentence string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(sentence)
		}
	}
}

// client is a well-behaved WebSocket client.
type client struct {
	t *testing.T
	*websocket.Conn
	lines []string
}

// dial connects; header pairs are added to the request.
func (w *world) dial(path string, header ...string) *client {
	w.t.Helper()
	dialer := websocket.Dialer{TLSClientConfig: testcert.Client(authority)}
	c, resp, err := dialer.Dial(w.url+path, pairs(header))
	if err != nil {
		body := ""
		if resp != nil {
			b, _ := io.ReadAll(resp.Body)
			body = resp.Status + ": " + string(b)
		}
		w.t.Fatalf("%s must be connected: %v %s", path, err, body)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(patience))
	return &client{t: w.t, Conn: c}
}

func pairs(header []string) http.Header {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	return h
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("sending: %v", err)
	}
}

// line reads the next line.
func (c *client) line() string {
	c.t.Helper()
	for len(c.lines) == 0 {
		_, b, err := c.ReadMessage()
		if err != nil {
			c.t.Fatalf("a line must come: %v", err)
		}
		c.lines = strings.Split(string(b), "\n")
	}
	line := c.lines[0]
	c.lines = c.lines[1:]
	return line
}

// reply reads the next line of /ws.
func (c *client) reply() proto.Reply {
	c.t.Helper()
	line := c.line()
	r, err := proto.ParseReply([]byte(line))
	if err != nil {
		c.t.Fatalf("%s: %v", line, err)
	}
	return r
}

// welcome reads the welcome.
func (c *client) welcome() *proto.Welcome {
	c.t.Helper()
	r := c.reply()
	if r.Welcome == nil {
		c.t.Fatalf("a welcome must come, not %+v", r)
	}
	return r.Welcome
}

// publish publishes on /ws and waits for the acknowledgement; other lines are read later.
func (c *client) publish(data string) proto.Offset {
	c.t.Helper()
	c.send(`{"publish":{"data":` + data + `}}`)
	var later []string
	for {
		line := c.line()
		switch r, err := proto.ParseReply([]byte(line)); {
		case err != nil || r.Error != nil:
			c.t.Fatalf("a publish must be acknowledged, not answered with %s, %v", line, err)
		case r.Ack != nil:
			c.lines = append(later, c.lines...)
			return r.Ack.Offset
		}
		later = append(later, line)
	}
}

// offsets reads n messages and returns their offsets.
func (c *client) offsets(n int) string {
	c.t.Helper()
	var list []string
	for len(list) < n {
		if r := c.reply(); r.Message != nil {
			list = append(list, fmt.Sprint(r.Message.Offset))
		}
	}
	return strings.Join(list, " ")
}

// closed reads until the connection ends, ends its side, and returns how it was closed.
func (c *client) closed() *websocket.CloseError {
	c.t.Helper()
	defer c.Close()
	for {
		_, _, err := c.ReadMessage()
		e := &websocket.CloseError{}
		if errors.As(err, &e) {
			return e
		}
		if err != nil {
			c.t.Fatalf("the connection must end with a close frame, not with %v", err)
		}
	}
}

// wild is a client that sends bytes as it likes.
type wild struct {
	t *testing.T
	net.Conn
	br  *bufio.Reader
	asm ws.Assembler
	buf []byte
	evs []ws.Event
}

func handshake(addr, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// wild connects and sends frames together with the handshake.
func (w *world) wild(path string, frames ...byte) *wild {
	w.t.Helper()
	c := w.knock(path, frames...)
	c.answer()
	return c
}

// authority is the certificate of the tests over TLS.
var authority = testcert.New(1)

// connect connects, over TLS when that is the tests' turn.
func (w *world) connect() (net.Conn, error) {
	if secure {
		return tls.Dial("tcp", w.addr, testcert.Client(authority))
	}
	return net.Dial("tcp", w.addr)
}

// knock is wild without waiting for the answer to the handshake; answer does that.
func (w *world) knock(path string, frames ...byte) *wild {
	w.t.Helper()
	c, err := w.connect()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(append([]byte(handshake(w.addr, path)), frames...)); err != nil {
		w.t.Fatal(err)
	}
	return newWild(w.t, c)
}

// knockFrom connects as a trusted proxy does for a client, and returns the answer.
func (w *world) knockFrom(path, from string) *http.Response {
	w.t.Helper()
	c, err := w.connect()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	request := strings.Replace(handshake(w.addr, path), "\r\n\r\n", "\r\nX-Forwarded-For: "+from+"\r\n\r\n", 1)
	if _, err := c.Write([]byte(request)); err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func newWild(t *testing.T, c net.Conn) *wild {
	return &wild{t: t, Conn: c, br: bufio.NewReader(c), asm: ws.NewAssembler(&ws.Rules{MaxMessage: 4 << 20, FromServer: true}), buf: make([]byte, 64<<10)}
}

// reset ends the connection without a goodbye.
func (c *wild) reset() {
	_ = c.tcp().SetLinger(0)
	c.tcp().Close()
}

// tcp is the connection under it all.
func (c *wild) tcp() *net.TCPConn {
	under := c.Conn
	if over, ok := under.(*tls.Conn); ok {
		under = over.NetConn()
	}
	return under.(*net.TCPConn)
}

// answer reads the answer to the handshake.
func (c *wild) answer() {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		c.t.Fatalf("the handshake must succeed, not %v, %v", resp, err)
	}
}

// event reads the next message or control frame.
func (c *wild) event() ws.Event {
	c.t.Helper()
	for len(c.evs) == 0 {
		n, err := c.br.Read(c.buf)
		if err != nil {
			c.t.Fatalf("a frame must come: %v", err)
		}
		err = c.asm.Feed(c.buf[:n], func(ev ws.Event) error {
			ev.Payload = append([]byte(nil), ev.Payload...)
			c.evs = append(c.evs, ev)
			return nil
		})
		if err != nil {
			c.t.Fatalf("the server's frames must be right: %v", err)
		}
	}
	ev := c.evs[0]
	c.evs = c.evs[1:]
	return ev
}

func (c *wild) text() string {
	c.t.Helper()
	ev := c.event()
	if ev.Op != ws.OpText {
		c.t.Fatalf("a text must come, not opcode %d, %d %q", ev.Op, ev.Code, ev.Payload)
	}
	return string(ev.Payload)
}

// closing reads until the close frame and checks that the server ends its side after it.
func (c *wild) closing() ws.Event {
	c.t.Helper()
	for {
		if ev := c.event(); ev.Op == ws.OpClose {
			if n, err := c.br.Read(c.buf); err != io.EOF {
				c.t.Errorf("after its close frame the server ends its side, and sends nothing more: %d bytes, %v", n, err)
			}
			return ev
		}
	}
}

func (c *wild) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("sending: %v", err)
	}
}

// frame is a masked frame of a client.
func frame(fin bool, op ws.Opcode, payload string) []byte {
	key := [4]byte{1, 2, 3, 4}
	b := ws.AppendHeader(nil, ws.Header{Fin: fin, Op: op, Masked: true, Key: key, Length: uint64(len(payload))})
	n := len(b)
	b = append(b, payload...)
	ws.Mask(key, 0, b[n:])
	return b
}

func text(s string) []byte { return frame(true, ws.OpText, s) }
