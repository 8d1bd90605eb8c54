package client

import (
	"context"
	"errors"
	"slices"
	"testing"

	"barrage/proto"
)

// eventsUntil runs a client whose handler ends the context at one event, and gives all events that it was called with.
func eventsUntil(t *testing.T, last string, opt Options) (*Client, []string) {
	t.Helper()
	opt.Channel, opt.Dial = "room", dialPipe
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var events []string
	err = c.Run(ctx, func(e Event) {
		events = append(events, eventText(e))
		if events[len(events)-1] == last {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Run ends with its context at %q, got %v after %q", last, err, events)
	}
	return c, events
}

func TestNothingIsHandedOverOnceTheHandlerEndedIt(t *testing.T) {
	s := serve(t, func(c *fakeConn) { c.send(welcome("e", 0), message(1), message(2), reset("f", 7)); c.gone() })
	c, events := eventsUntil(t, "message 1", Options{URLs: []string{s.url()}})
	if want := []string{"welcome", "message 1"}; !slices.Equal(events, want) {
		t.Errorf("nothing comes after the message at which the context ended, want %q, got %q", want, events)
	}
	if at, ok := c.Position(); !ok || at != (proto.Position{Epoch: "e", Offset: 1}) {
		t.Errorf("the position is the last message that was handed over, got %v, %v", at, ok)
	}
}

func TestAGapThatEndedItIsWhereItStands(t *testing.T) {
	s := serve(t, func(c *fakeConn) { c.send(welcome("e", 0), message(1), message(4)); c.gone() })
	c, events := eventsUntil(t, "gap 2..3", Options{URLs: []string{s.url()}})
	if want := []string{"welcome", "message 1", "gap 2..3"}; !slices.Equal(events, want) {
		t.Errorf("the message after a gap at which the context ended is not handed over, want %q, got %q", want, events)
	}
	if at, ok := c.Position(); !ok || at.Offset != 3 {
		t.Errorf("the position is before the message that was not handed over, 3, got %v, %v", at, ok)
	}
}

func TestNoWelcomeFollowsAResetThatEndedIt(t *testing.T) {
	s := serve(t, func(c *fakeConn) { c.send(welcome("f", 3)); c.gone() })
	since := proto.Offset(9)
	_, events := eventsUntil(t, "reset f 3", Options{URLs: []string{s.url()}, Since: &since, Epoch: "e"})
	if want := []string{"reset f 3"}; !slices.Equal(events, want) {
		t.Errorf("no welcome comes after a reset at which the context ended, want %q, got %q", want, events)
	}
}
