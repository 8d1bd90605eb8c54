package gateway

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"barrage/proto"
	"barrage/session"
	"barrage/session/centrifuge"
)

// openStream opens a stream of the Centrifuge protocol on a socket that takes everything.
func (g *Gateway) openStream(t *testing.T, commands string) *emulatedConn {
	t.Helper()
	r := upgradeRequest("/connection/http_stream")
	r.Method, r.Body, r.Header = http.MethodPost, io.NopCloser(strings.NewReader(commands)), http.Header{}
	open, err := g.admitStream(&emulatedLines, r, bodyless{}, http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	return open(deafSocket{}).(*emulatedConn)
}

// bodyless is a ResponseWriter that takes no deadlines.
type bodyless struct{ http.ResponseWriter }

func TestAStreamThatEndsWhileItsCommandsAreTakenEndsOnce(t *testing.T) {
	if portable || secure {
		return // the engine has no part in it
	}
	codecs := session.Codecs()
	n, j := newNode(t, append(codecs, centrifuge.Codecs(nil)...))
	defer j.Close()
	defer n.Close(t.Context())
	var c *emulatedConn
	var done []func([]byte, *proto.Error)
	g := New(Options{
		Node: "a", Backend: n, Writers: n.Writers(), Log: slog.New(slog.DiscardHandler),
		Centrifuge: &centrifuge.Server{First: len(codecs), RPC: func(call centrifuge.Call) {
			if done = append(done, call.Done); len(done) == session.Limit { // the last that is taken
				c.Closed(nil)
			}
		}},
	})
	defer g.engine.Close()
	c = g.openStream(t, `{"id":1,"connect":{}}`)
	c.take([]byte(strings.Repeat(`{"id":2,"rpc":{}}`+"\n", session.Limit+1)))
	if len(done) != session.Limit || g.Count() != 0 {
		t.Fatalf("the stream has ended with %d calls under way, and %d connections are left", len(done), g.Count())
	}
	other := g.openStream(t, `{"id":1,"connect":{}}`)
	for _, answer := range done {
		answer(nil, proto.ErrInternal)
	}
	eventually(t, "what is answered late ends nothing", func() bool {
		c.inbox.mu.Lock()
		defer c.inbox.mu.Unlock()
		return !c.inbox.busy
	})
	if closed := g.stats.Closed.Load(); closed != 1 || g.Count() != 1 {
		t.Errorf("a stream ends once, not %d times, and the other one stays: %d", closed, g.Count())
	}
	other.Closed(nil)
}
