package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"barrage/proto"
)

func TestAServerThatAsksForTimeIsGivenIt(t *testing.T) {
	inFakeTime(t, testAServerThatAsksForTimeIsGivenIt)
}

func testAServerThatAsksForTimeIsGivenIt(t *testing.T) {
	for _, status := range []int{429, 503} {
		var moments []time.Time
		s := refuseAll(t, func(w http.ResponseWriter, _ *http.Request) {
			if moments = append(moments, time.Now()); len(moments) == 4 {
				status = http.StatusGone
			}
			w.Header().Set("Retry-After", "5")
			http.Error(w, "later", status)
		})
		c, err := New(Options{URLs: []string{s.url()}, Channel: "room", Dial: dialPipe, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		var refused *RefusedError
		if err := c.Run(t.Context(), nil); !errors.As(err, &refused) || refused.RetryAfter != 5*time.Second {
			t.Errorf("a refusal says what the server asks for, got %v", err)
		}
		for i := 1; i < len(moments); i++ {
			if pause := moments[i].Sub(moments[i-1]); pause < 5*time.Second || pause > 6500*time.Millisecond {
				t.Errorf("Retry-After: 5 means 5 to 6.25 s, got %v", pause)
			}
		}
	}
}

func TestNoServerKeepsAClientAwayForHours(t *testing.T) {
	turn := turns{until: make([]time.Time, 1)}
	if _, pause := turn.after(0, &RefusedError{Status: 503, RetryAfter: 1000 * time.Hour}, time.Second); pause > maxRetryAfter*5/4 {
		t.Errorf("a client stays away for some minutes at most, got %v", pause)
	}
}

// Nodes that end, one after the other, are left at once; a cluster that only ever shuts down must not be asked twice a second by
// everyone.
func TestNodesThatOnlyShutDownAreNoReasonForAStorm(t *testing.T) {
	inFakeTime(t, testNodesThatOnlyShutDownAreNoReasonForAStorm)
}

func testNodesThatOnlyShutDownAreNoReasonForAStorm(t *testing.T) {
	const attempts = 40
	scripts := make([]func(*fakeConn), attempts)
	for i := range scripts {
		scripts[i] = func(c *fakeConn) { c.send(welcome("e", 0)); c.close(3001) }
	}
	s := serve(t, scripts...) // then it is gone
	c, err := New(Options{URLs: []string{s.url()}, Channel: "room", Dial: dialPipe})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var refused *RefusedError
	if err := c.Run(t.Context(), nil); !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*time.Minute {
		t.Errorf("%d attempts that each end after the welcome wait longer and longer, some 5 minutes in all, got %v", attempts, took)
	}
}

func TestATokenThatNeverComesIsAnAttemptThatFailed(t *testing.T) {
	inFakeTime(t, testATokenThatNeverComesIsAnAttemptThatFailed)
}

func testATokenThatNeverComesIsAnAttemptThatFailed(t *testing.T) {
	asked := 0
	c, err := New(Options{
		URLs: []string{"ws://nobody"}, Channel: "room", Dial: dialPipe, GiveUpFirst: time.Minute,
		Token: func(ctx context.Context) (string, error) {
			asked++
			<-ctx.Done()
			return "", ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = c.Run(t.Context(), nil)
	if took := time.Since(began); !errors.Is(err, ErrUnreachable) || took > time.Minute+2*time.Second || asked < 2 {
		t.Errorf("whoever gives no token is asked again, and given up in time: %v after %v and %d questions", err, took, asked)
	}
}

func TestAPauseThatTheServerAskedForOutlivesTheConnection(t *testing.T) {
	inFakeTime(t, testAPauseThatTheServerAskedForOutlivesTheConnection)
}

func testAPauseThatTheServerAskedForOutlivesTheConnection(t *testing.T) {
	const pause = 4 * time.Second
	var refused, again time.Time
	s := serve(t,
		func(c *fakeConn) {
			c.send(welcome("e", 0))
			cmd := c.expect(proto.CommandPublish)
			refused = time.Now()
			c.send(string(proto.AppendError(nil, cmd.ID, proto.ErrTooMany.After(pause))))
			c.close(3004)
		},
		func(c *fakeConn) {
			c.send(welcome("e", 0))
			cmd := c.expect(proto.CommandPublish)
			again = time.Now()
			c.ack(cmd.ID, 1)
			c.gone()
		})
	f := follow(t, Options{URLs: []string{s.url()}})
	if _, err := f.client.Publish(f.ctx(), json.RawMessage(`1`), ""); err != nil {
		t.Errorf("the publish is stored in the end, got %v", err)
	}
	f.stop()
	s.running.Wait()
	if waited := again.Sub(refused); waited < pause || waited > pause*5/4 {
		t.Errorf("a server's limit holds on the next connection too: waited %v instead of %v to a quarter more", waited, pause)
	}
}

func TestNothingIsSentForWhoHasLeft(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 0))
		if cmd := c.expect(proto.CommandPublish); cmd.ID != "last" {
			c.t.Errorf("a publish whose context had ended before is not sent, got %s", cmd.ID)
		}
		c.ack("last", 1)
		c.ack("last", 1) // an answer that comes twice changes nothing
		c.ack(c.expect(proto.CommandPublish).ID, 2)
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}, Window: 1})
	f.expect("welcome")
	left, leave := context.WithCancel(t.Context())
	leave()
	for range 20 {
		if _, err := f.client.Publish(left, json.RawMessage(`1`), ""); !errors.Is(err, context.Canceled) {
			t.Errorf("a publish ends with its context, got %v", err)
		}
	}
	if at, err := f.client.Publish(f.ctx(), json.RawMessage(`1`), "last"); err != nil || at != 1 {
		t.Errorf("what is published then is stored at 1, got %d, %v", at, err)
	}
	if at, err := f.client.Publish(f.ctx(), json.RawMessage(`1`), "next"); err != nil || at != 2 {
		t.Errorf("what follows an answer that came twice is stored at 2, got %d, %v", at, err)
	}
	f.stop()
}

// The pause that the server names ends before the one that the client makes of its own accord: it is a promise all the same.
func TestAShortPauseThatTheServerAskedForOutlivesTheConnection(t *testing.T) {
	for range 10 { // the pause before the next connection is random
		inFakeTime(t, testAShortPauseThatTheServerAskedForOutlivesTheConnection)
	}
}

func testAShortPauseThatTheServerAskedForOutlivesTheConnection(t *testing.T) {
	const pause = 4 * time.Second
	var refused, again time.Time
	s := serve(t,
		func(c *fakeConn) {
			c.send(welcome("e", 0))
			a, b := c.expect(proto.CommandPublish), c.expect(proto.CommandPublish)
			refused = time.Now()
			c.send(string(proto.AppendError(nil, a.ID, proto.ErrUnavailable)))
			c.send(string(proto.AppendError(nil, b.ID, proto.ErrTooMany.After(pause))))
			c.close(3004)
		},
		func(c *fakeConn) {
			c.send(welcome("e", 0))
			for range 2 {
				cmd := c.expect(proto.CommandPublish)
				if again.IsZero() {
					again = time.Now()
				}
				c.ack(cmd.ID, 1)
			}
			c.gone()
		})
	f := follow(t, Options{URLs: []string{s.url()}, BackoffMin: 5 * time.Second, BackoffMax: 5 * time.Second})
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := f.client.Publish(f.ctx(), json.RawMessage(`1`), ""); err != nil {
				t.Errorf("the publish is stored in the end, got %v", err)
			}
		})
	}
	both.Wait()
	f.stop()
	s.running.Wait()
	if waited := again.Sub(refused); waited < pause {
		t.Errorf("a server's limit holds on the next connection too: waited %v instead of %v", waited, pause)
	}
}

func TestAServerThatAsksForMoreTimeThanThereIsIsNotAskedAgain(t *testing.T) {
	inFakeTime(t, testAServerThatAsksForMoreTimeThanThereIsIsNotAskedAgain)
}

func testAServerThatAsksForMoreTimeThanThereIsIsNotAskedAgain(t *testing.T) {
	asked := 0
	s := refuseAll(t, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Retry-After", "60")
		http.Error(w, "later", http.StatusServiceUnavailable)
	})
	c, err := New(Options{URLs: []string{s.url()}, Channel: "room", Dial: dialPipe, GiveUpFirst: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var refused *RefusedError
	if err := c.Run(t.Context(), nil); !errors.Is(err, ErrUnreachable) || !errors.As(err, &refused) {
		t.Errorf("whoever does not wait so long gives up, and says why, got %v", err)
	}
	if took := time.Since(began); took != 10*time.Second || asked != 1 {
		t.Errorf("before Retry-After is over nobody asks again: within %v it was asked %d times", took, asked)
	}
}

// A node that is full, or ends, asks to be left alone: that is no reason to wait before another one is asked.
func TestAServerThatAsksForTimeDoesNotKeepAnyoneFromAnother(t *testing.T) {
	inFakeTime(t, testAServerThatAsksForTimeDoesNotKeepAnyoneFromAnother)
}

func testAServerThatAsksForTimeDoesNotKeepAnyoneFromAnother(t *testing.T) {
	var moments []time.Time
	full := refuseAll(t, func(w http.ResponseWriter, _ *http.Request) {
		moments = append(moments, time.Now())
		w.Header().Set("Retry-After", "5")
		http.Error(w, "connect to another", http.StatusServiceUnavailable)
	})
	scripts := make([]func(*fakeConn), 8)
	for i := range scripts {
		scripts[i] = func(c *fakeConn) { c.send(welcome("e", 0)); c.close(3004) }
	}
	other := serve(t, scripts...) // then it is gone
	c, err := New(Options{
		URLs: []string{full.url(), other.url()}, Channel: "room", Dial: dialPipe, BackoffMin: time.Second, BackoffMax: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var connected time.Duration
	var refused *RefusedError
	err = c.Run(t.Context(), func(e Event) {
		if e.Welcome != nil && connected == 0 {
			connected = time.Since(began)
		}
	})
	if !errors.As(err, &refused) || refused.Status != http.StatusGone {
		t.Fatal(err)
	}
	if connected > time.Second {
		t.Errorf("another server is asked after the usual pause of up to 1 s, not after %v", connected)
	}
	for i := 1; i < len(moments); i++ {
		if pause := moments[i].Sub(moments[i-1]); pause < 5*time.Second {
			t.Errorf("the one that asked for 5 s has them, but was asked again after %v", pause)
		}
	}
}
