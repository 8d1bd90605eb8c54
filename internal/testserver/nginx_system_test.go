//go:build system

package testserver

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// backend is a WebSocket server that says its name and then echoes; over plain HTTP it tells the headers it got.
func backend(t *testing.T, name string, status *atomic.Int64) *httptest.Server {
	t.Helper()
	up := websocket.Upgrader{} // checks that Origin and Host agree, as nodes do
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status != nil && status.Load() != 0 {
			w.WriteHeader(int(status.Load()))
			return
		}
		if !websocket.IsWebSocketUpgrade(r) {
			w.Write([]byte(strings.Join([]string{
				name, r.Host, r.Header.Get("X-Forwarded-For"),
				r.Header.Get("X-Forwarded-Proto"), r.Header.Get("Connection"),
			}, "|")))
			return
		}
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		c.WriteMessage(websocket.TextMessage, []byte(name))
		for {
			kind, data, err := c.ReadMessage()
			if err != nil {
				return
			}
			c.WriteMessage(kind, data)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func startNginx(t *testing.T, backends ...string) *Nginx {
	t.Helper()
	n, err := StartNginx(backends)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// connect opens a WebSocket through nginx and returns it with the name of the backend.
func connect(t *testing.T, n *Nginx, header http.Header) (*websocket.Conn, string) {
	t.Helper()
	c, _, err := websocket.DefaultDialer.Dial("ws://"+n.Addr()+"/ws/room", header)
	if err != nil {
		t.Fatalf("a WebSocket opens through nginx: %v\n%s", err, n.Logs())
	}
	t.Cleanup(func() { c.Close() })
	return c, read(t, c)
}

func read(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, data, err := c.ReadMessage()
	if err != nil {
		t.Fatalf("a message arrives: %v", err)
	}
	return string(data)
}

func addr(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

func TestNginxSpreadsConnectionsAndSkipsDeadNodes(t *testing.T) {
	a, b := backend(t, "a", nil), backend(t, "b", nil)
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	n := startNginx(t, addr(a), addr(b), "127.0.0.1:"+strconv.Itoa(port))
	seen := map[string]int{}
	for range 30 {
		c, name := connect(t, n, nil)
		seen[name]++
		c.WriteMessage(websocket.TextMessage, []byte("hello"))
		if got := read(t, c); got != "hello" {
			t.Fatalf("what is sent through nginx comes back: got %q", got)
		}
	}
	if seen["a"] < 8 || seen["b"] < 8 {
		t.Fatalf("30 connections spread over the two live nodes, none lost to the dead one: %v", seen)
	}
}

func TestNginxAsksAnotherNodeWhenOneIsDraining(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusServiceUnavailable)
	a, b := backend(t, "a", &status), backend(t, "b", nil)
	n := startNginx(t, addr(a), addr(b))
	for range 10 {
		if _, name := connect(t, n, nil); name != "b" {
			t.Fatalf("a node that answers 503 is not used: connected to %s", name)
		}
	}
	// All connections stay open, so that nginx has not seen one of them end well.
	status.Store(0)
	back := 0
	for range 20 {
		if _, name := connect(t, n, nil); name == "a" {
			back++
		}
	}
	if back < 8 {
		t.Errorf("a node that is back has the fewest connections and gets most of the new ones at once: %d of 20", back)
	}
}

func TestNginxKeepsHostAndTellsTheClientsAddress(t *testing.T) {
	a := backend(t, "a", nil)
	n := startNginx(t, addr(a))
	// The backend refuses another origin than its host, port included.
	connect(t, n, http.Header{"Origin": {n.URL()}})
	if _, _, err := websocket.DefaultDialer.Dial("ws://"+n.Addr()+"/", http.Header{"Origin": {"http://127.0.0.1"}}); err == nil {
		t.Fatal("an origin without nginx's port is another origin")
	}
	req, _ := http.NewRequest(http.MethodGet, n.URL()+"/", nil)
	req.Header.Set("X-Forwarded-For", "9.9.9.9")
	if got, want := body(t, req), "a|"+n.Addr()+"|127.0.0.1|http|"; got != want {
		t.Fatalf("Host has its port, the client's own X-Forwarded-For is not believed, and a plain request has no Connection header: got %q, want %q", got, want)
	}
	req, _ = http.NewRequest(http.MethodGet, n.URL()+"/metrics", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusNotFound {
		t.Fatalf("metrics are not to be had through the balancer: %v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestNginxReloadAddsNodesAndKeepsConnections(t *testing.T) {
	a, b := backend(t, "a", nil), backend(t, "b", nil)
	n := startNginx(t, addr(a))
	old, _ := connect(t, n, nil)
	if err := n.Reload([]string{addr(b)}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, name := connect(t, n, nil); name == "b" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("new connections go to the new node after a reload")
		}
	}
	old.WriteMessage(websocket.TextMessage, []byte("still here"))
	if got := read(t, old); got != "still here" {
		t.Fatalf("a connection to the old node lives on over a reload: got %q", got)
	}
	if err := n.Reload([]string{"not an address"}); err == nil {
		t.Fatal("a configuration that nginx refuses is an error")
	}
}

func body(t *testing.T, req *http.Request) string {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
