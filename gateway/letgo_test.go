package gateway

import (
	"fmt"
	"log/slog"
	"testing"

	"barrage/engine"
	"barrage/session"
	"barrage/session/centrifuge"
)

func TestAChannelThatEveryoneLeftIsLetGoWhileTheyStay(t *testing.T) {
	if portable || secure {
		return // the engine has no part in it
	}
	const conns = 10
	codecs := session.Codecs()
	n, j := newNode(t, append(codecs, centrifuge.Codecs(nil)...))
	defer j.Close()
	defer n.Close(t.Context())
	g := New(Options{
		Node: "a", Backend: n, Writers: n.Writers(), Centrifuge: &centrifuge.Server{First: len(codecs)}, Log: slog.New(slog.DiscardHandler),
	})
	defer g.engine.Close()
	handlers := make([]engine.Handler, conns)
	for i := range handlers {
		_, open := g.Upgrade(upgradeRequest("/connection/websocket"))
		handlers[i] = open(deafSocket{})
		handlers[i].Read(text(fmt.Sprintf(`{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"channel":"lobby"}}`+"\n"+`{"id":3,"subscribe":{"channel":"room%d"}}`, i)))
	}
	eventually(t, "everyone must be subscribed", func() bool { return n.Info("lobby").Members == conns && n.Hub().Channels() == conns+1 })
	for i, h := range handlers {
		h.Read(text(fmt.Sprintf(`{"id":4,"unsubscribe":{"channel":"lobby"}}`+"\n"+`{"id":5,"unsubscribe":{"channel":"room%d"}}`, i)))
	}
	eventually(t, "channels that nobody is in are let go while the connections stay", func() bool { return n.Hub().Channels() == 0 })
	if got := g.Count(); got != conns {
		t.Errorf("the connections stay, not %d of %d", got, conns)
	}
	for _, h := range handlers {
		h.Closed(nil)
	}
}
