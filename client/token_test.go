package client

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"barrage/proto"
)

// granted counts how often a token was given: t1, t2, …
func granted() (source func(context.Context) (string, error), asked *atomic.Int64) {
	asked = new(atomic.Int64)
	return func(context.Context) (string, error) {
		return "t" + strconv.FormatInt(asked.Add(1), 10), nil
	}, asked
}

func welcomeUntil(expires time.Time) string {
	return string(proto.AppendWelcome(nil, proto.Welcome{
		Node: "a", Client: "c", Channel: "room", Epoch: "e", User: "ann", Expires: expires.Unix(),
	}))
}

func TestAnOrdinaryReconnectShowsTheSameToken(t *testing.T) {
	s := serve(t,
		func(c *fakeConn) { c.send(welcomeUntil(time.Now().Add(time.Hour))); c.close(3001) },
		func(c *fakeConn) { c.send(welcomeUntil(time.Now().Add(time.Hour))); c.close(3005) },
		func(c *fakeConn) { c.send(welcome("e", 0)); c.gone() })
	source, _ := granted()
	f := follow(t, Options{URLs: []string{s.url()}, Token: source})
	f.expect("welcome", "disconnected", "welcome", "disconnected", "welcome")
	f.stop()
	if want := []string{"Bearer t1", "Bearer t1", "Bearer t2"}; !slices.Equal(s.shown, want) {
		t.Errorf("a new token is shown after 3005, got %v", s.shown)
	}
}

func TestATokenThatHasExpiredIsNotShownForEver(t *testing.T) {
	s := serve(t, func(c *fakeConn) { c.close(3005) })
	c, err := New(Options{URLs: []string{s.url()}, Channel: "room", Token: StaticToken("old"), Dial: dialPipe, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Run(t.Context(), func(Event) {})
	if closed, ok := errors.AsType[proto.Close](err); !ok || closed.Code != 3005 || !strings.Contains(err.Error(), "there is no newer token") {
		t.Errorf("a client with the expired token alone ends with the server's word for it, 3005, got %v", err)
	}
	if len(s.shown) != 1 {
		t.Errorf("an expired token is shown once, got %v", s.shown)
	}
}

func TestATokenThatWasTakenIsShownAgain(t *testing.T) {
	s := serve(t,
		func(c *fakeConn) { c.send(welcome("e", 0)); c.close(3005) },
		func(c *fakeConn) { c.send(welcome("e", 0)); c.gone() })
	f := follow(t, Options{URLs: []string{s.url()}, Token: StaticToken("good")})
	f.expect("welcome", "disconnected", "welcome") // the server API can end a connection with 3005, whatever its token
	f.stop()
}

func TestATokenIsReplacedOnceAfterItsTime(t *testing.T) {
	source, _ := granted()
	c, err := New(Options{URLs: []string{"ws://127.0.0.1:1"}, Channel: "room", Token: source})
	if err != nil {
		t.Fatal(err)
	}
	c.token = token{text: "t0", expires: time.Now().Add(-time.Hour)}
	for range 3 { // attempts that come to no welcome, which would say when the new one ends
		header, err := c.authorization(t.Context())
		if got := header.Get("Authorization"); err != nil || got != "Bearer t1" {
			t.Errorf("each attempt after the token's time shows the same new one, Bearer t1, got %q, %v", got, err)
		}
	}
}

func TestAWrongClockDoesNotAskAtEachReconnect(t *testing.T) {
	expired := func(c *fakeConn) { c.send(welcomeUntil(time.Now().Add(-time.Hour))); c.close(3001) }
	s := serve(t, expired, expired, expired, func(c *fakeConn) { c.send(welcome("e", 0)); c.gone() })
	source, asked := granted()
	f := follow(t, Options{URLs: []string{s.url()}, Token: source})
	f.expect("welcome", "disconnected", "welcome", "disconnected", "welcome", "disconnected", "welcome")
	f.stop()
	if got := asked.Load(); got != 1 {
		t.Errorf("a token that the server takes is not given up because the clock here is wrong, got %d tokens: %v", got, s.shown)
	}
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	s := serve(t,
		func(c *fakeConn) { c.send(welcome("e", 0)); c.close(3001) },
		func(c *fakeConn) { c.close(3500) },
		func(c *fakeConn) { c.close(3500) })
	source, asked := granted()
	f := follow(t, Options{URLs: []string{s.url()}, Token: source})
	err := f.end()
	if !closedWith(err, proto.CloseBadToken) || asked.Load() != 2 {
		t.Errorf("a second token that is refused ends the client, got %v after %d tokens", err, asked.Load())
	}
}

func TestATokenThatCannotBeHadIsTriedAgain(t *testing.T) {
	s := serve(t, func(c *fakeConn) { c.send(welcome("e", 0)); c.gone() })
	first := true
	f := follow(t, Options{URLs: []string{s.url()}, Token: func(context.Context) (string, error) {
		if first {
			first = false
			return "", errors.New("away")
		}
		return "", nil
	}})
	f.expect("disconnected", "welcome")
	f.stop()
	if s.shown[0] != "" {
		t.Errorf("an empty token is not shown, got %q", s.shown[0])
	}
}

func TestATokenIsRenewedBeforeItExpires(t *testing.T) {
	inFakeTime(t, testATokenIsRenewedBeforeItExpires)
}

func testATokenIsRenewedBeforeItExpires(t *testing.T) {
	renewed := make(chan string, 2)
	s := serve(t, func(c *fakeConn) {
		_ = c.SetReadDeadline(time.Time{})
		c.send(welcomeUntil(time.Now().Add(time.Hour)))
		for range 2 {
			cmd := c.expect(proto.CommandRefresh)
			renewed <- cmd.Token
			c.send(string(proto.AppendRefreshed(nil, proto.Refreshed{ID: cmd.ID, Expires: time.Now().Add(time.Hour).Unix()})))
		}
		c.gone()
	})
	source, _ := granted()
	f := follow(t, Options{URLs: []string{s.url()}, Token: source, Silence: 3 * time.Hour})
	f.expect("welcome")
	for _, want := range []string{"t2", "t3"} {
		began := time.Now()
		if got := <-renewed; got != want {
			t.Errorf("the new token is %s, got %s", want, got)
		}
		if after := time.Since(began); after < 44*time.Minute || after > 55*time.Minute {
			t.Errorf("a token for an hour is renewed after 45 to 54 minutes, got %v", after)
		}
	}
	f.stop()
}

func TestRenewalComesInTime(t *testing.T) {
	for _, tc := range []struct {
		left       time.Duration
		chance     float64
		want, most time.Duration
	}{
		{time.Hour, 0, 45 * time.Minute, 45 * time.Minute},
		{time.Hour, 1, 54 * time.Minute, 54 * time.Minute},
		{10 * time.Millisecond, 0, time.Second, time.Second},
		{-time.Hour, 0.5, clockIsWrong, clockIsWrong},
	} {
		if got := renewIn(tc.left, tc.chance); got < tc.want || got > tc.most+time.Microsecond {
			t.Errorf("with %v left the token is renewed in %v, got %v", tc.left, tc.want, got)
		}
	}
}

func TestMembersAreListedAndTold(t *testing.T) {
	ann := proto.MemberInfo{User: "ann", Client: "c1", Info: json.RawMessage(`{"vip":true}`)}
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 0))
		c.send(string(proto.AppendJoin(nil, &ann)), message(1), string(proto.AppendLeave(nil, &ann)))
		cmd := c.expect(proto.CommandPresence)
		c.send(string(proto.AppendPresence(nil, &proto.Presence{ID: cmd.ID, Roster: proto.Roster{
			Members: []proto.MemberInfo{ann}, Counts: proto.Counts{Clients: 7, Users: 3}, Sampled: true,
		}})))
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}, Members: true})
	f.expect("welcome", "join c1", "message 1", "leave c1")
	who, err := f.client.Presence(f.ctx())
	if err != nil || len(who.Members) != 1 || string(who.Members[0].Info) != `{"vip":true}` || who.Clients != 7 || !who.Sampled || who.Exact {
		t.Errorf("the roster is as the server told it, got %+v, %v", who, err)
	}
	f.stop()
	if got := s.query(0).Get("members"); got != "1" {
		t.Errorf("members=1 asks for joins and leaves, got %q", got)
	}
}

func TestRetryAfterIsObeyed(t *testing.T) { inFakeTime(t, testRetryAfterIsObeyed) }

func testRetryAfterIsObeyed(t *testing.T) {
	const pause = 3 * time.Second
	var waited time.Duration
	var order []string
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 0))
		var refusals []string
		for range 3 {
			refusals = append(refusals, string(proto.AppendError(nil, c.expect(proto.CommandPublish).ID, proto.ErrTooMany.After(pause))))
		}
		c.send(refusals...)
		refused := time.Now()
		for i := range 3 {
			cmd := c.expect(proto.CommandPublish)
			if i == 0 {
				waited = time.Since(refused)
			}
			order = append(order, string(cmd.Data))
			c.ack(cmd.ID, proto.Offset(i+1))
		}
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome")
	var calls []*Call
	for _, data := range []string{"1", "2", "3"} {
		call, err := f.client.Start(f.ctx(), json.RawMessage(data), "")
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	for i, call := range calls {
		if at, err := call.Wait(); err != nil || at != proto.Offset(i+1) {
			t.Errorf("publish %d is stored in its order, got %d, %v", i+1, at, err)
		}
	}
	f.stop()
	s.running.Wait()
	if waited < pause || waited > pause*5/4 || !slices.Equal(order, []string{"1", "2", "3"}) {
		t.Errorf("nothing is sent for %v to a quarter more, and then in order: waited %v, got %v", pause, waited, order)
	}
}

func TestPagesFollowOneAnother(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 9))
		for _, page := range [][]proto.Offset{{1, 2}, {3}, {8, 9}, {7}} {
			cmd := c.expect(proto.CommandHistory)
			h := proto.History{ID: cmd.ID, Epoch: "e", Offset: 9, More: len(page) == 2}
			for _, o := range page {
				h.Messages = append(h.Messages, proto.Message{Offset: o, Data: []byte("1")})
			}
			at := cmd.Since
			if page[0] > 5 {
				at = cmd.Before
			}
			if want, first := map[proto.Offset]proto.Offset{1: 0, 3: 2, 7: 8}[page[0]], page[0] == 8; !first && (at == nil || *at != want) {
				c.t.Errorf("the page %v is asked for by %d, got %+v", page, want, cmd)
			}
			c.send(string(proto.AppendHistory(nil, h)))
		}
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	for _, tc := range []struct {
		page Page
		want []proto.Offset
	}{{Page{Since: new(proto.Offset(0)), Limit: 2}, []proto.Offset{1, 2, 3}}, {Page{Limit: 2}, []proto.Offset{8, 9, 7}}} {
		var got []proto.Offset
		for h, err := range f.client.Pages(f.ctx(), tc.page) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range h.Messages {
				got = append(got, h.Messages[i].Offset)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("all pages are walked through: want %v, got %v", tc.want, got)
		}
	}
	f.stop()
}
