package gateway

import (
	"log/slog"
	"testing"
	"unsafe"

	"barrage/engine"
	"barrage/session"
	"barrage/session/centrifuge"
)

// Size classes of the allocator.
const (
	maxPlain      = 320
	maxCentrifuge = 352
	maxListening  = 352
	maxEmulated   = 480
)

func TestAConnectionIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(plainConn{}); n > maxPlain {
		t.Errorf("a connection, with its session and its outlet, takes at most %d bytes, not %d", maxPlain, n)
	}
	if n := unsafe.Sizeof(centrifugeConn{}); n > maxCentrifuge {
		t.Errorf("a connection of the Centrifuge protocol, with its session and its outlet, takes at most %d bytes, not %d", maxCentrifuge, n)
	}
}

func TestAStreamOfTheCentrifugeProtocolIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(listeningConn{}); n > maxListening {
		t.Errorf("a stream whose client only listens, with its session and its outlet, takes at most %d bytes, not %d", maxListening, n)
	}
	if n := unsafe.Sizeof(emulatedConn{}); n > maxEmulated {
		t.Errorf("a stream whose client sends commands in requests, with its session and its outlet, takes at most %d bytes, not %d", maxEmulated, n)
	}
}

func TestAnIdleCentrifugeConnectionHoldsLittle(t *testing.T) {
	if portable || secure {
		return // the engine has no part in it
	}
	const conns, limit = 2000, 700 // of at most 1,200, of which the engine has the rest
	codecs := session.Codecs()
	clients := &centrifuge.Server{First: len(codecs)}
	n, j := newNode(t, append(codecs, centrifuge.Codecs(nil)...))
	defer j.Close()
	defer n.Close(t.Context())
	g := New(Options{Node: "a", Backend: n, Writers: n.Writers(), Centrifuge: clients, Log: slog.New(slog.DiscardHandler)})
	defer g.engine.Close()
	r := upgradeRequest("/connection/websocket")
	before := heap()
	handlers := make([]engine.Handler, conns)
	for i := range handlers {
		refusal, open := g.Upgrade(r)
		if refusal != nil {
			t.Fatalf("the request must be accepted, not refused with %s", refusal)
		}
		handlers[i] = open(deafSocket{})
		handlers[i].Read(text(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"lobby"}}`))
	}
	eventually(t, "everyone must be subscribed", func() bool { return n.Info("lobby").Members == conns })
	if held := (int64(heap()) - int64(before)) / conns; held > limit { // less than nothing if earlier tests let go of something only now
		t.Errorf("an idle connection with one subscription holds at most %d bytes besides the engine's, not %d", limit, held)
	} else {
		t.Logf("an idle connection with one subscription holds %d bytes besides the engine's", held)
	}
	for _, h := range handlers {
		h.Closed(nil)
	}
	if n := unsafe.Sizeof(eventConn{}); n > limit {
		t.Errorf("an event stream, with its session and its outlet, takes at most %d bytes, not %d", limit, n)
	}
}
