package security

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"barrage/auth"
	"barrage/gateway"
	"barrage/httpapi/apikey"
	"barrage/httpapi/serverapi"
	"barrage/internal/testnode"
	"barrage/node"
	"barrage/proto"
)

// atEnd is called when all tests are over.
var atEnd []func()

func TestMain(m *testing.M) {
	code := m.Run()
	for _, end := range atEnd {
		end()
	}
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// secret signs the tokens of tests.
const secret = "a-secret-of-these-tests-0123456789"

// sign makes a token of claims.
func sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	token, err := auth.Signer{Key: []byte(secret)}.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// tokenOf makes a token of a user, good for a minute.
func tokenOf(t *testing.T, user string) string {
	t.Helper()
	return sign(t, map[string]any{"sub": user, "exp": time.Now().Add(time.Minute).Unix()})
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// verifier accepts what sign makes.
func verifier(t *testing.T) *auth.Verifier {
	t.Helper()
	v, err := auth.NewVerifier(auth.Keys{Secrets: []string{secret}}, auth.VerifierOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// members lets users subscribe, and subscribers do the rest, as a chat would.
func members() *auth.Policy {
	return &auth.Policy{Default: auth.Namespace{Rules: [...]auth.Rule{auth.User, auth.Subscriber, auth.Subscriber, auth.Subscriber}}}
}

// world is a node.
type world struct {
	*testnode.Server
	t *testing.T
}

// start starts a node with authentication and the policy members, unless o says otherwise.
func start(t *testing.T, o gateway.Options) *world {
	t.Helper()
	if o.Tokens == nil && o.UserHeader == "" {
		o.Tokens = verifier(t)
	}
	if o.Policy == nil {
		o.Policy = members()
	}
	return open(t, testnode.Options{Gateway: o, Handshake: patience})
}

// open starts a node.
func open(t *testing.T, o testnode.Options) *world {
	t.Helper()
	s, err := testnode.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Node.SetConnections(s.Gateway)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{Server: s, t: t}
}

// onBoth runs a test on the engine of this system and on the portable one.
func onBoth(t *testing.T, test func(t *testing.T, portable bool)) {
	for name, portable := range testnode.Engines {
		t.Run(name, func(t *testing.T) { test(t, portable) })
	}
}

// proxies are what addresses of this machine are trusted with.
func proxies() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

func eventually(t *testing.T, sentence string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(sentence)
		}
	}
}

func fields(pairs []string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// client is a WebSocket client.
type client struct {
	t *testing.T
	*websocket.Conn
	lines []string
	id    int
}

// try connects, and returns the answer when that is refused.
func (w *world) try(path string, header ...string) (*client, *http.Response) {
	w.t.Helper()
	c, resp, err := (&websocket.Dialer{HandshakeTimeout: patience, EnableCompression: true}).Dial("ws://"+w.Addr+path, fields(header))
	if err != nil {
		if resp == nil {
			w.t.Fatalf("%s must be answered: %v", path, err)
		}
		return nil, resp
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(patience))
	return &client{t: w.t, Conn: c}, resp
}

// dial connects.
func (w *world) dial(path string, header ...string) *client {
	w.t.Helper()
	c, resp := w.try(path, header...)
	if c == nil {
		w.t.Fatalf("%s must be connected, not answered with %s", path, resp.Status)
	}
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("sending: %v", err)
	}
}

// line reads the next line. An end is a line too: "closed CODE REASON".
func (c *client) line() string {
	c.t.Helper()
	for len(c.lines) == 0 {
		_, b, err := c.ReadMessage()
		if e := (*websocket.CloseError)(nil); errors.As(err, &e) {
			return fmt.Sprintf("closed %d %s", e.Code, e.Text)
		}
		if err != nil {
			c.t.Fatalf("a line must come: %v", err)
		}
		c.lines = strings.Split(strings.TrimSpace(string(b)), "\n")
	}
	line := c.lines[0]
	c.lines = c.lines[1:]
	return line
}

// until reads lines until one holds a text, or the connection ends, and returns that one.
func (c *client) until(text string) string {
	c.t.Helper()
	for {
		if line := c.line(); strings.Contains(line, text) || strings.HasPrefix(line, "closed ") {
			return line
		}
	}
}

// closed reads until the connection ends, and returns its code.
func (c *client) closed() int {
	c.t.Helper()
	code := 0
	if _, err := fmt.Sscanf(c.until("\x00"), "closed %d", &code); err != nil {
		c.t.Fatal(err)
	}
	return code
}

// ask sends a command of /ws and returns its answer, or the end.
func (c *client) ask(command string) string {
	c.t.Helper()
	c.id++
	name, body, _ := strings.Cut(strings.TrimPrefix(command, "{"), ":{")
	id := fmt.Sprintf(`"id":"q%d"`, c.id)
	if !strings.HasPrefix(body, "}") {
		id += ","
	}
	c.send("{" + name + ":{" + id + body)
	return c.until(fmt.Sprintf(`"id":"q%d"`, c.id))
}

// call sends a command of the Centrifuge protocol and returns its reply, or the end.
func (c *client) call(command string) string {
	c.t.Helper()
	c.id++
	c.send(fmt.Sprintf(`{"id":%d,%s`, c.id, strings.TrimPrefix(command, "{")))
	return c.until(fmt.Sprintf(`{"id":%d,`, c.id))
}

// centrifuge connects a client of the Centrifuge protocol; without a token it does not send connect.
func (w *world) centrifuge(token string, header ...string) *client {
	w.t.Helper()
	c := w.dial("/connection/websocket", header...)
	if token != "" {
		if got := c.call(connect(token)); !strings.Contains(got, `"connect":`) {
			w.t.Fatalf("the client must be connected, not answered with %s", got)
		}
	}
	return c
}

func connect(token string) string { return `{"connect":{"token":"` + token + `"}}` }

// stream asks for an event stream and returns the status and, when it is 200, its reader.
func (w *world) stream(path string, header ...string) (*http.Response, *bufio.Scanner) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+w.Addr+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header = fields(header)
	resp := w.do(r)
	w.t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return resp, lines
}

// do sends a request on a connection of its own.
func (w *world) do(r *http.Request) *http.Response {
	w.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: patience}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		w.t.Fatalf("%s %s must be answered: %v", r.Method, r.URL.Path, err)
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return resp
}

// event reads lines of a stream until one holds a text; empty when the stream ends before.
func event(lines *bufio.Scanner, text string) string {
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return lines.Text()
		}
	}
	return ""
}

// bytes sends bytes as they are on a connection of its own.
func (w *world) bytes(text string) net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.Addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// handshake is an opening handshake.
func (w *world) handshake(path string, extra ...string) string {
	request := "GET " + path + " HTTP/1.1\r\nHost: " + w.Addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for i := 0; i < len(extra); i += 2 {
		request += extra[i] + ": " + extra[i+1] + "\r\n"
	}
	return request + "\r\n"
}

// publish publishes as the server API does.
func (w *world) publish(channel, data string) {
	w.t.Helper()
	done := make(chan *proto.Error, 1)
	w.Node.Publish(node.Publication{Channel: channel, Data: []byte(data)}, func(_ node.Published, err *proto.Error) { done <- err })
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// Keys of the server API, by scope.
var apiKeys = map[string]string{
	"publish": "publish-0123456789abcdef", "read": "read-0123456789abcdef", "admin": "admin-0123456789abcdef",
}

// apiOptions are those of the server API of the node.
func (w *world) apiOptions() serverapi.Options {
	w.t.Helper()
	var items []string
	for scope, key := range apiKeys {
		items = append(items, scope+":"+scope+":"+key)
	}
	keys, err := apikey.ParseList(items)
	if err != nil {
		w.t.Fatal(err)
	}
	ring, err := apikey.Open(keys, "", slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return serverapi.Options{
		Backend: serverapi.Backend{Messages: w.Node, Presence: w.Node, Eraser: w.Node, Users: w.Node}, Keys: ring, Address: w.Gateway.ClientAddr,
	}
}

// api serves the server API of the node as the program does, beside the gateway.
func (w *world) api(edit func(*serverapi.Options)) *httptest.Server {
	w.t.Helper()
	o := w.apiOptions()
	if edit != nil {
		edit(&o)
	}
	mux := http.NewServeMux()
	serverapi.New(o).Register(mux)
	s := httptest.NewServer(mux)
	w.t.Cleanup(s.Close)
	return s
}

// command sends a command of the server API and returns the status and the answer.
func (w *world) command(s *httptest.Server, key, method, body string, header ...string) (status int, answer string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.URL+"/api/"+method, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header = fields(header)
	if key != "" {
		r.Header.Set("X-API-Key", key)
	}
	resp := w.do(r)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// record is text that several goroutines write.
type record struct {
	mu   sync.Mutex
	text strings.Builder // owner: mu
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// quote is a text as a JSON string.
func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// reader reads an answer by hand.
func reader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

// pathOf is a channel's name in a path.
func pathOf(channel string) string { return url.PathEscape(channel) }
