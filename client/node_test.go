package client

import (
	"encoding/json"
	"errors"
	"net"
	"testing"

	"barrage/gateway"
	"barrage/internal/testnode"
	"barrage/proto"
)

// startNode starts a real node with an empty journal, whose epoch is a new one.
func startNode(t *testing.T, o gateway.Options) *testnode.Server {
	t.Helper()
	n, err := testnode.Start(testnode.Options{Gateway: o})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// followNode is follow over the network.
func followNode(t *testing.T, opt Options) *follower {
	t.Helper()
	opt.Dial = new(net.Dialer).DialContext
	return follow(t, opt)
}

func (f *follower) publish(n int) {
	f.t.Helper()
	for i := range n {
		if _, err := f.client.Publish(f.ctx(), json.RawMessage(`"x"`), ""); err != nil {
			f.t.Fatalf("publish %d of %d must be stored: %v", i+1, n, err)
		}
	}
}

// A cluster that lost its journal while a client was away cannot resume it, whatever its new head: it must say so, and the client
// must say so before anything else.
func TestAJournalThatWasLostIsSaid(t *testing.T) {
	for _, head := range []int{0, 2, 5, 8} { // fewer messages than the client has seen, as many, more
		before, after := startNode(t, gateway.Options{}), startNode(t, gateway.Options{})
		writer := followNode(t, Options{URLs: []string{"ws://" + after.Addr}})
		writer.publish(head)
		f := followNode(t, Options{URLs: []string{"ws://" + before.Addr, "ws://" + after.Addr}})
		f.expect("welcome")
		f.publish(5)
		f.expect("message 1", "message 2", "message 3", "message 4", "message 5")
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		e := <-f.events
		for e.Disconnected != nil {
			e = <-f.events
		}
		if e.Reset == nil || int(e.Reset.Offset) != head || e.Reset.Epoch == "" {
			t.Errorf("with head %d the first thing to hear is a reset to it, got %s", head, eventText(e))
		}
		f.expect("welcome")
		writer.publish(1)
		f.expect("message " + itoa(proto.Offset(head+1)))
		at, ok := f.client.Position()
		f.stop()
		writer.stop()
		if !ok || int(at.Offset) != head+1 || at.Epoch != e.Reset.Epoch {
			t.Errorf("with head %d the position is of the new epoch, got %v, %v", head, at, ok)
		}
		if st := f.client.Stats(); st.Resets != 1 || st.Missing != 0 {
			t.Errorf("with head %d there is one reset, got %+v", head, st)
		}
		if err := after.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestARealNodeTellsItsLimit(t *testing.T) {
	n := startNode(t, gateway.Options{MaxMessage: 1000})
	f := followNode(t, Options{URLs: []string{"ws://" + n.Addr}})
	f.expect("welcome")
	var large *TooLargeError
	if _, err := f.client.Publish(f.ctx(), textOf(1<<20), ""); !errors.As(err, &large) || large.Limit != 1000 {
		t.Errorf("a publish beyond the node's limit fails alone, and says the limit, got %v", err)
	}
	room := 1000 - (sizeOf(textOf(10), "k") - 10)
	if at, err := f.client.Publish(f.ctx(), textOf(room), "k"); err != nil || at != 1 {
		t.Errorf("a publish of just the limit is stored on the same connection, got %d, %v", at, err)
	}
	f.stop()
	if st := f.client.Stats(); st.Connects != 1 {
		t.Errorf("the connection stays, got %+v", st)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// Against an older node, which does not tell its limit, the close must be understood: the client is not given the welcome's field.
func TestANodeThatOnlyClosesEndsThePublishAlone(t *testing.T) {
	n := startNode(t, gateway.Options{MaxMessage: 1000})
	f := followNode(t, Options{URLs: []string{"ws://" + n.Addr}})
	f.expect("welcome")
	f.client.mu.Lock()
	f.client.limit = 0
	f.client.mu.Unlock()
	large, small := mustStart(t, f, textOf(1<<20), "large"), mustStart(t, f, textOf(10), "small")
	var e *TooLargeError
	if _, err := large.Wait(); !errors.As(err, &e) || e.Limit != 0 {
		t.Errorf("the publish for which the node closed fails, got %v", err)
	}
	if at, err := small.Wait(); err != nil || at != 1 {
		t.Errorf("the other one is stored on the next connection, got %d, %v", at, err)
	}
	f.expect("disconnected", "welcome")
	f.stop()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
