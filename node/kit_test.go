package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/broker"
	"barrage/broker/brokertest"
	"barrage/broker/local"
	"barrage/channel"
	"barrage/fanout"
	"barrage/journal"
	"barrage/proto"
)

// plain is a Codec whose frames are lines.
type plain struct{}

func (plain) AppendFrame(dst []byte, _ string, m *proto.Message) []byte {
	return fmt.Appendf(dst, "%d ", m.Offset)
}

func (plain) Skipped(_ string, n uint64) fanout.Notice {
	return fanout.Notice{Frames: fmt.Appendf(nil, "skipped %d\n", n)}
}

func (plain) Reset(_ string, p proto.Position, _ string) fanout.Notice {
	return fanout.Notice{Frames: fmt.Appendf(nil, "reset %s/%d ", p.Epoch, p.Offset)}
}

// start starts a node on j, alone when hub is nil. It returns the node's id in the hub too.
func start(t testing.TB, j journal.Journal, hub *brokertest.Hub) (n *Node, id string) {
	n, err := New(Options{
		Name: "n", Journal: j, Codecs: []channel.Codec{plain{}}, Writers: 1,
		Namespaces: channel.Namespaces{Named: map[string]channel.Namespace{"live": {Live: true}}}, Log: slog.New(slog.DiscardHandler),
		OpenBroker: func(nodeID string, h broker.Handler) (broker.Broker, error) {
			id = nodeID
			if hub == nil {
				return local.Open(h), nil
			}
			return hub.Join(nodeID, h), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, id
}

func stop(t testing.TB, n *Node) {
	if err := n.Close(context.Background()); err != nil {
		t.Errorf("a node must close without an error, but said %v", err)
	}
}

// listener is a connection that writes down what it is given.
type listener struct {
	out   *fanout.Outlet
	ready chan channel.Joined
	mu    sync.Mutex
	got   strings.Builder
}

func (l *listener) TryWrite(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got.Write(b)
}
func (l *listener) ArmWrite()   {}
func (l *listener) Finish()     {}
func (l *listener) Abort(error) {}

func (l *listener) heard() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(l.got.String())
}

func join(n *Node, name string) *listener {
	l := &listener{ready: make(chan channel.Joined, 1)}
	l.out = fanout.NewOutlet(n.Writers(), l, 0)
	n.Join(name, channel.JoinRequest{Outlet: l.out, Ready: func(j channel.Joined) bool { l.ready <- j; return true }})
	return l
}

// joined joins and waits until that is done.
func joined(t testing.TB, n *Node, name string) *listener {
	t.Helper()
	l := join(n, name)
	select {
	case j := <-l.ready:
		if j.Err != nil {
			t.Fatalf("a member must be placed, but got %v", j.Err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a member was not placed within 10 s")
	}
	return l
}

// store appends n messages of size bytes to a channel of a journal.
func store(t testing.TB, j journal.Journal, name string, n, size int) {
	t.Helper()
	for ; n > 0; n -= min(n, journal.MaxBatch) {
		drafts := make([]journal.Draft, min(n, journal.MaxBatch))
		for i := range drafts {
			drafts[i] = journal.Draft{Channel: name, Data: make([]byte, size)}
		}
		if _, err := j.Append(context.Background(), drafts); err != nil {
			t.Fatal(err)
		}
	}
}

func offsetsOf(h proto.History) (offsets []proto.Offset) {
	for i := range h.Messages {
		offsets = append(offsets, h.Messages[i].Offset)
	}
	return offsets
}
