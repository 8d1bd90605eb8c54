package client

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"barrage/proto"
)

// welcomeWith is a welcome that tells the largest message.
func welcomeWith(limit int) string {
	return string(proto.AppendWelcome(nil, proto.Welcome{Node: "a", Client: "c", Channel: "room", Epoch: "e", MaxPayload: limit}))
}

// textOf is a JSON string of so many bytes.
func textOf(size int) json.RawMessage {
	return json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`)
}

// sizeOf is how many bytes a publish has on the wire.
func sizeOf(data json.RawMessage, id string) int {
	return len(proto.AppendCommand(nil, proto.Command{Kind: proto.CommandPublish, ID: id, Data: data}))
}

func mustStart(t *testing.T, f *follower, data json.RawMessage, id string) *Call {
	t.Helper()
	call, err := f.client.Start(f.ctx(), data, id)
	if err != nil {
		t.Fatalf("publish %s must start: %v", id, err)
	}
	return call
}

func TestWhatIsTooLargeIsNotSent(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcomeWith(sizeOf(textOf(100), "k")))
		for want := range 2 {
			c.ack(c.expect(proto.CommandPublish).ID, proto.Offset(want+1))
		}
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome")
	if _, err := f.client.Publish(f.ctx(), textOf(100), "k"); err != nil {
		t.Errorf("a publish of just the limit is stored, got %v", err)
	}
	_, err := f.client.Publish(f.ctx(), textOf(101), "k")
	var large *TooLargeError
	if !errors.As(err, &large) || large.Size != large.Limit+1 {
		t.Errorf("a publish of one byte more fails and says size and limit, got %v", err)
	}
	if _, err := f.client.Publish(f.ctx(), textOf(3), "k"); err != nil {
		t.Errorf("what follows is stored, got %v", err)
	}
	f.stop()
	if st := f.client.Stats(); st.Connects != 1 {
		t.Errorf("the connection stays, got %+v", st)
	}
}

func TestWhatWaitedForAConnectionIsJudgedByItsLimit(t *testing.T) {
	ready := make(chan struct{})
	s := serve(t, func(c *fakeConn) {
		<-ready
		c.send(welcomeWith(100))
		cmd := c.expect(proto.CommandPublish)
		c.ack(cmd.ID, 1)
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}, Window: 2})
	large, small := mustStart(t, f, textOf(200), "large"), mustStart(t, f, textOf(3), "small")
	close(ready)
	var e *TooLargeError
	if _, err := large.Wait(); !errors.As(err, &e) || e.Limit != 100 {
		t.Errorf("the publish that is too large fails once the limit is known, got %v", err)
	}
	if at, err := small.Wait(); err != nil || at != 1 {
		t.Errorf("the other one is stored, got %d, %v", at, err)
	}
	f.stop()
}

// An older server tells no limit: only the close says that one of the commands that it has not answered was too large.
func TestTheCommandForWhichTheServerClosedEndsAlone(t *testing.T) {
	var again []string
	s := serve(t,
		func(c *fakeConn) {
			c.send(welcome("e", 0))
			for range 3 {
				c.expect(proto.CommandPublish)
			}
			c.ack("a", 1)
			c.close(1009)
		},
		func(c *fakeConn) {
			c.send(welcome("e", 1))
			for i := range 2 {
				cmd := c.expect(proto.CommandPublish)
				again = append(again, cmd.ID)
				c.ack(cmd.ID, proto.Offset(i+2))
			}
			c.gone()
		})
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome")
	a, b, c := mustStart(t, f, textOf(500), "a"), mustStart(t, f, textOf(50), "b"), mustStart(t, f, textOf(200), "c")
	var large *TooLargeError
	if _, err := c.Wait(); !errors.As(err, &large) || large.Limit != 0 || large.Size != sizeOf(textOf(200), "c") {
		t.Errorf("the largest one without an answer was too large, got %v", err)
	}
	d := mustStart(t, f, textOf(3), "d")
	for want, call := range []*Call{a, b, d} {
		if at, err := call.Wait(); err != nil || at != proto.Offset(want+1) {
			t.Errorf("the others are stored in their order: want %d, got %d, %v", want+1, at, err)
		}
	}
	f.expect("disconnected", "welcome")
	f.stop()
	s.running.Wait()
	if strings.Join(again, " ") != "b d" {
		t.Errorf("what was answered, or too large, is not sent again, got %v", again)
	}
}

// The one that was too large may be one that nobody waits for any more: no other may be blamed for it.
func TestACommandThatWasGivenUpIsNobodyElsesFault(t *testing.T) {
	gone := make(chan struct{})
	s := serve(t,
		func(c *fakeConn) {
			c.send(welcome("e", 0))
			c.expect(proto.CommandPublish)
			c.expect(proto.CommandPublish)
			<-gone
			c.close(1009)
		},
		func(c *fakeConn) {
			c.send(welcome("e", 0))
			c.ack(c.expect(proto.CommandPublish).ID, 1)
			c.gone()
		})
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome")
	ctx, giveUp := context.WithCancel(f.ctx())
	large, err := f.client.Start(ctx, textOf(500), "large")
	if err != nil {
		t.Fatal(err)
	}
	small := mustStart(t, f, textOf(50), "small")
	giveUp()
	if _, err := large.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("a publish ends with its context, got %v", err)
	}
	close(gone)
	if at, err := small.Wait(); err != nil || at != 1 {
		t.Errorf("a publish is not blamed for a larger one that was given up, got %d, %v", at, err)
	}
	f.stop()
}

// With nothing to blame coming back would end the same way.
func TestACloseThatNoCommandExplainsEndsIt(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 0))
		c.ack(c.expect(proto.CommandPublish).ID, 1)
		c.close(1009)
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	if _, err := f.client.Publish(f.ctx(), textOf(50), ""); err != nil {
		t.Fatal(err)
	}
	if err := f.end(); !closedWith(err, proto.CloseTooBig) {
		t.Errorf("1009 ends a client that waits for no answer, got %v", err)
	}
}
