package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"barrage/proto"
)

func itoa(o proto.Offset) string { return strconv.FormatUint(uint64(o), 10) }

func TestMessagesComeInOrder(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 2))
		c.send(message(3), message(4))
		c.send(message(5))
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}, Channel: "a/b ü", Name: "ann & co"})
	f.expect("welcome", "message 3", "message 4", "message 5")
	f.stop()
	if at, ok := f.client.Position(); !ok || at != (proto.Position{Epoch: "e", Offset: 5}) {
		t.Errorf("the position is where the last message was, got %v, %v", at, ok)
	}
	if q := s.query(0); q.Get("name") != "ann & co" || q.Has("since") || q.Has("last") || q.Has("echo") {
		t.Errorf("a fresh client sends only its name, got %v", q)
	}
	if s.paths[0] != "/ws/a%2Fb%20%C3%BC" {
		t.Errorf("the channel is one percent-encoded part of the path, got %s", s.paths[0])
	}
}

func TestCompressionIsOfferedWhenAskedFor(t *testing.T) {
	for offered, compression := range map[string]bool{"": false, "permessage-deflate; server_no_context_takeover; client_no_context_takeover": true} {
		s := serve(t, func(c *fakeConn) {
			c.send(welcome("e", 2))
			c.send(message(3), strings.Repeat(" ", 5000))
			c.gone()
		})
		f := follow(t, Options{URLs: []string{s.url()}, Compression: compression})
		f.expect("welcome", "message 3")
		f.stop()
		if s.offers[0] != offered {
			t.Errorf("with compression %v the client offers %q, not %q", compression, offered, s.offers[0])
		}
	}
}

func TestResumesAfterALostConnection(t *testing.T) {
	s := serve(t,
		func(c *fakeConn) { c.send(welcome("e", 0), message(1), message(2)) }, // ends without a close frame
		func(c *fakeConn) { c.send(welcome("e", 4), message(2), message(3), message(4)); c.close(3001) },
		func(c *fakeConn) { c.send(welcome("e", 4)); c.send(message(5)); c.gone() },
	)
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome", "message 1", "message 2", "disconnected", "welcome", "message 3", "message 4", "disconnected",
		"welcome", "message 5")
	f.stop()
	for n, want := range map[int]string{1: "epoch=e&since=2", 2: "epoch=e&since=4"} {
		if got := s.query(n).Encode(); got != want {
			t.Errorf("connection %d resumes with %s, got %s", n+1, want, got)
		}
	}
	if st := f.client.Stats(); st.Repeats != 1 || st.Connects != 3 || st.Messages != 5 || st.Missing != 0 {
		t.Errorf("one repeat was dropped in three connections, got %+v", st)
	}
}

func TestTakesTheNextURLOnEachAttempt(t *testing.T) {
	a := serve(t, func(c *fakeConn) { c.send(welcome("e", 0), message(1)); c.close(3001) },
		func(c *fakeConn) { c.send(welcome("e", 2)); c.gone() })
	b := serve(t, func(c *fakeConn) { c.send(welcome("e", 1), message(2)); c.close(3004) })
	f := follow(t, Options{URLs: []string{a.url(), b.url()}})
	f.expect("welcome", "message 1", "disconnected", "welcome", "message 2", "disconnected", "welcome")
	f.stop()
	if b.query(0).Get("since") != "1" || a.query(1).Get("since") != "2" {
		t.Errorf("the position follows the client from node to node")
	}
}

func TestStartsWhereAsked(t *testing.T) {
	for _, tc := range []struct {
		name string
		opt  Options
		want string
	}{
		{"since", Options{Since: new(proto.Offset(0))}, "since=0"},
		{"since and epoch", Options{Since: new(proto.Offset(7)), Epoch: "e"}, "epoch=e&since=7"},
		{"last", Options{Last: 5}, "last=5"},
		{"no echo", Options{NoEcho: true}, "echo=0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, func(c *fakeConn) { c.send(welcome("e", 9)); c.gone() })
			tc.opt.URLs = []string{s.url()}
			f := follow(t, tc.opt)
			f.expect("welcome")
			f.stop()
			if got := s.query(0).Encode(); got != tc.want {
				t.Errorf("the query is %s, got %s", tc.want, got)
			}
		})
	}
}

func TestLastIsAskedAgainUntilAMessageCame(t *testing.T) {
	s := serve(t,
		func(c *fakeConn) { c.send(welcome("e", 9)) },
		func(c *fakeConn) { c.send(welcome("e", 9), message(8), message(9)) },
		func(c *fakeConn) { c.send(welcome("e", 9)); c.gone() })
	f := follow(t, Options{URLs: []string{s.url()}, Last: 2})
	f.expect("welcome", "disconnected", "welcome", "message 8", "message 9", "disconnected", "welcome")
	f.stop()
	if got := s.query(1).Encode() + " " + s.query(2).Encode(); got != "last=2 epoch=e&since=9" {
		t.Errorf("got queries %s", got)
	}
}

func TestResetMovesThePosition(t *testing.T) {
	s := serve(t,
		func(c *fakeConn) { c.send(reset("new", 50), welcome("new", 50), message(51)); c.close(3010) },
		func(c *fakeConn) { c.send(welcome("new", 51)); c.send(reset("new", 60)); c.send(message(61)); c.gone() })
	f := follow(t, Options{URLs: []string{s.url()}, Since: new(proto.Offset(7)), Epoch: "old"})
	f.expect("reset new 50", "welcome", "message 51", "disconnected", "welcome", "reset new 60", "message 61")
	f.stop()
	if got := s.query(1).Encode(); got != "epoch=new&since=51" {
		t.Errorf("after a reset the new position counts, got %s", got)
	}
}

func TestAnEpochThatChangesWithoutAResetIsOne(t *testing.T) {
	s := serve(t, func(c *fakeConn) { c.send(welcome("new", 3), message(4)); c.gone() })
	f := follow(t, Options{URLs: []string{s.url()}, Since: new(proto.Offset(7)), Epoch: "old"})
	f.expect("reset new 3", "welcome", "message 4")
	f.stop()
}

func TestAfterANewEpochTheStreamGoesOnFromItsHead(t *testing.T) {
	s := serve(t,
		func(c *fakeConn) { c.send(welcome("new", 3)) }, // is lost before a message came
		func(c *fakeConn) { c.send(welcome("new", 5), message(4), message(5)); c.gone() })
	f := follow(t, Options{URLs: []string{s.url()}, Since: new(proto.Offset(7)), Epoch: "old"})
	f.expect("reset new 3", "welcome", "disconnected", "welcome", "message 4", "message 5")
	f.stop()
	if got := s.query(1).Encode(); got != "epoch=new&since=3" {
		t.Errorf("after a reset the stream goes on from where it said, and not with the next new message: got %q", got)
	}
}

// A live channel has no positions: nothing is resumed, and what was skipped is reported.
func TestALiveChannelIsNotResumed(t *testing.T) {
	live := string(proto.AppendWelcome(nil, proto.Welcome{Node: "a", Client: "c", Channel: "room", Live: true}))
	s := serve(t,
		func(c *fakeConn) {
			c.send(live, message(0), message(0))
			c.send(string(proto.AppendSkipped(nil, proto.Skipped{Count: 7})), message(0))
		},
		func(c *fakeConn) { c.send(live, message(0)); c.gone() },
	)
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome", "message 0", "message 0", "skipped 7", "message 0", "disconnected", "welcome", "message 0")
	f.stop()
	if got := s.query(1).Encode(); got != "" {
		t.Errorf("there is nothing to resume, but the second connection asks for %s", got)
	}
	if st := f.client.Stats(); st.Messages != 4 || st.Skipped != 7 || st.Missing != 0 || st.Repeats != 0 {
		t.Errorf("four messages came and seven were skipped, got %+v", st)
	}
}

func TestGapsAreReported(t *testing.T) {
	s := serve(t, func(c *fakeConn) { c.send(welcome("e", 0), message(1), message(4), message(4), message(5)); c.gone() })
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome", "message 1", "gap 2..3", "message 4", "message 5")
	f.stop()
	if st := f.client.Stats(); st.Missing != 2 || st.Repeats != 1 {
		t.Errorf("two messages are missing and one came twice, got %+v", st)
	}
}

func TestCloseCodesThatForbidComingBack(t *testing.T) {
	for code, comeBack := range map[int]bool{
		1000: false, 1001: true, 1002: false, 1003: false, 1007: false, 1009: false, 1011: true,
		3001: true, 3008: true, 3013: true, 3500: false, 3999: false, 4000: true, 4500: false,
	} {
		s := serve(t, func(c *fakeConn) { c.send(welcome("e", 0)); c.close(code) },
			func(c *fakeConn) { c.send(welcome("e", 0)); c.gone() })
		f := follow(t, Options{URLs: []string{s.url()}})
		f.expect("welcome")
		if comeBack {
			f.expect("disconnected", "welcome")
			f.stop()
			continue
		}
		var closed proto.Close
		if err := f.end(); !errors.As(err, &closed) || int(closed.Code) != code || closed.Reason != "because" {
			t.Errorf("code %d ends the client with that code, got %v", code, err)
		}
	}
}

func TestRefusedHandshakes(t *testing.T) {
	for status, want := range map[int]string{400: "since must be a number", 404: "", 503: "again", 429: "again"} {
		answers := 0
		s := refuseAll(t, func(w http.ResponseWriter, _ *http.Request) {
			if answers++; answers > 1 {
				status = 410
			}
			http.Error(w, want, status)
		})
		first := status
		f := follow(t, Options{URLs: []string{s.url()}})
		var refused *RefusedError
		err := f.end()
		if !errors.As(err, &refused) || refused.Text != want {
			t.Errorf("HTTP %d ends the client with its text, got %v", first, err)
		}
		if again := answers == 2; again != (want == "again") {
			t.Errorf("after HTTP %d there were %d attempts", first, answers)
		}
	}
}

func TestGivesUp(t *testing.T) { inFakeTime(t, testGivesUp) }

func testGivesUp(t *testing.T) {
	f := follow(t, Options{URLs: []string{"ws://127.0.0.1:1"}, GiveUpFirst: 5 * time.Second})
	if err := f.end(); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a client that cannot connect gives up and says why, got %v", err)
	}
	if _, err := f.client.Publish(f.ctx(), json.RawMessage(`1`), ""); !errors.Is(err, ErrEnded) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("a publish of a client that has ended fails with the reason, got %v", err)
	}
	s := serve(t, func(c *fakeConn) { c.send(welcome("e", 0)) }, func(c *fakeConn) {}, func(c *fakeConn) { c.close(3004) })
	lost := follow(t, Options{URLs: []string{s.url()}, GiveUpLost: time.Nanosecond})
	if err := lost.end(); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a client whose connection is lost for too long gives up, got %v", err)
	}
}

func TestSilenceIsALostConnection(t *testing.T) { inFakeTime(t, testSilenceIsALostConnection) }

func testSilenceIsALostConnection(t *testing.T) {
	hold := make(chan struct{})
	s := serve(t, func(c *fakeConn) { c.send(welcome("e", 0)); <-hold },
		func(c *fakeConn) { c.send(welcome("e", 0)); c.gone() })
	f := follow(t, Options{URLs: []string{s.url()}, Silence: 8 * time.Second})
	f.expect("welcome")
	began := time.Now()
	f.expect("disconnected", "welcome")
	if after := time.Since(began); after < 7*time.Second || after > 8*time.Second+20*time.Millisecond {
		t.Errorf("a connection counts as dead after Silence, or up to an eighth earlier, got %v", after)
	}
	close(hold)
	f.stop()
}

func TestPingsKeepAConnectionAliveAndAreAnswered(t *testing.T) {
	pongs := make(chan string, 10)
	s := serve(t, func(c *fakeConn) {
		c.SetPongHandler(func(p string) error { pongs <- p; return nil })
		c.send(welcome("e", 0))
		_ = c.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(time.Second))
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome")
	if p := <-pongs; p != "x" {
		t.Errorf("a ping is answered with its payload, got %q", p)
	}
	f.stop()
}

func TestPublishWaitsForItsAck(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 0))
		for i := range 3 {
			cmd := c.expect(proto.CommandPublish)
			if string(cmd.Data) != `{"a":[1,2]}` || cmd.ID == "" {
				c.t.Errorf("the data is compact and the id is set, got %+v", cmd)
			}
			c.ack(cmd.ID, proto.Offset(i+1))
		}
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	for i, id := range []string{"", "mine", ""} {
		got, err := f.client.Publish(f.ctx(), json.RawMessage("{\"a\": [1,\n 2]}"), id)
		if err != nil || got != proto.Offset(i+1) {
			t.Errorf("publish %d is stored at %d, got %d, %v", i+1, i+1, got, err)
		}
	}
	if _, err := f.client.Publish(f.ctx(), json.RawMessage("{"), ""); err == nil || !strings.Contains(err.Error(), "not one JSON value") {
		t.Errorf("what is no JSON is not sent, got %v", err)
	}
	if _, err := f.client.Publish(f.ctx(), json.RawMessage("1"), strings.Repeat("x", 129)); !errors.Is(err, proto.ErrKey) {
		t.Errorf("an id that is too long is not sent, got %v", err)
	}
	f.stop()
}

func TestPublishSurvivesALostConnection(t *testing.T) {
	var first, second proto.Command
	s := serve(t,
		func(c *fakeConn) { c.send(welcome("e", 0)); first = c.expect(proto.CommandPublish) },
		func(c *fakeConn) {
			c.send(welcome("e", 1))
			second = c.expect(proto.CommandPublish)
			c.send(string(proto.AppendAck(nil, proto.Ack{ID: second.ID, Offset: 1, Repeated: true})))
			c.gone()
		})
	f := follow(t, Options{URLs: []string{s.url()}})
	got, err := f.client.Publish(f.ctx(), json.RawMessage(`"x"`), "")
	f.stop()
	s.running.Wait()
	if err != nil || got != 1 || first.ID != second.ID || first.ID == "" {
		t.Errorf("the publish is sent again with the same id: got %d, %v, ids %q and %q", got, err, first.ID, second.ID)
	}
	if st := f.client.Stats(); st.Resent != 1 {
		t.Errorf("one command was sent again, got %+v", st)
	}
}

func TestPublishesKeepTheirOrder(t *testing.T) { inFakeTime(t, testPublishesKeepTheirOrder) }

func testPublishesKeepTheirOrder(t *testing.T) {
	const n = 20
	var got []string
	s := serve(t,
		func(c *fakeConn) {
			c.send(welcome("e", 0))
			for i := range 5 {
				c.ack(c.expect(proto.CommandPublish).ID, proto.Offset(i+1))
			}
			c.expect(proto.CommandPublish) // is lost
		},
		func(c *fakeConn) {
			c.send(welcome("e", 5))
			refused := c.expect(proto.CommandPublish)
			c.send(string(proto.AppendError(nil, refused.ID, proto.ErrUnavailable)))
			for i := 5; i < n; {
				cmd := c.expect(proto.CommandPublish)
				if i == 5 && cmd.ID != refused.ID {
					// Written before the error was read: refused as well.
					c.send(string(proto.AppendError(nil, cmd.ID, proto.ErrUnavailable)))
					continue
				}
				got = append(got, string(cmd.Data))
				i++
				c.ack(cmd.ID, proto.Offset(i))
			}
			c.gone()
		})
	f := follow(t, Options{URLs: []string{s.url()}, Window: 8, BackoffMin: 100 * time.Millisecond, BackoffMax: 100 * time.Millisecond})
	calls := make(chan *Call, n)
	go func() {
		defer close(calls)
		for i := range n {
			call, err := f.client.Start(f.ctx(), json.RawMessage(strconv.Itoa(i)), "")
			if err != nil {
				t.Error(err)
				return
			}
			calls <- call
		}
	}()
	want := proto.Offset(0)
	for call := range calls {
		want++
		if o, err := call.Wait(); err != nil || o != want {
			t.Errorf("publish %d is stored in its order, got offset %d, %v", want, o, err)
		}
	}
	f.stop()
	s.running.Wait()
	for i, data := range got {
		if data != strconv.Itoa(i+5) {
			t.Fatalf("publishes go out in order, got %v", got)
		}
	}
}

func TestPublishRefusedForGood(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 0))
		cmd := c.expect(proto.CommandPublish)
		c.send(string(proto.AppendError(nil, cmd.ID, proto.ErrBadRequest.With("no"))))
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	_, err := f.client.Publish(f.ctx(), json.RawMessage(`1`), "")
	if !errors.Is(err, proto.ErrBadRequest) || !strings.Contains(err.Error(), "no") {
		t.Errorf("a refusal is returned as it came, got %v", err)
	}
	f.stop()
}

func TestWindowBoundsWhatIsUnderWay(t *testing.T) { inFakeTime(t, testWindowBoundsWhatIsUnderWay) }

func testWindowBoundsWhatIsUnderWay(t *testing.T) {
	f := follow(t, Options{URLs: []string{"ws://127.0.0.1:1"}, Window: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var calls []*Call
	for range 2 {
		call, err := f.client.Start(ctx, json.RawMessage(`1`), "")
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	short, cancelShort := context.WithTimeout(t.Context(), time.Second)
	defer cancelShort()
	if _, err := f.client.Start(short, json.RawMessage(`1`), ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a full window makes the next publish wait, got %v", err)
	}
	cancel()
	for _, call := range calls {
		if _, err := call.Wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("a publish ends with its context, got %v", err)
		}
	}
	if _, err := f.client.Start(f.ctx(), json.RawMessage(`1`), "same"); err != nil {
		t.Errorf("an abandoned publish gives its place back, got %v", err)
	}
	if _, err := f.client.Start(f.ctx(), json.RawMessage(`1`), "same"); !errors.Is(err, ErrBusy) {
		t.Errorf("an id can be under way once, got %v", err)
	}
	f.stop()
}

func TestHistoryAndInfo(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 9))
		cmd := c.expect(proto.CommandHistory)
		if cmd.Before == nil || *cmd.Before != 5 || cmd.Limit != 2 {
			c.t.Errorf("got %+v", cmd)
		}
		c.send(string(proto.AppendHistory(nil, proto.History{
			ID: cmd.ID, Epoch: "e", Offset: 9, More: true,
			Messages: []proto.Message{{Offset: 3, Data: []byte(`1`)}, {Offset: 4, Data: []byte(`2`)}},
		})))
		cmd = c.expect(proto.CommandInfo)
		c.send(string(proto.AppendInfo(nil, proto.Info{ID: cmd.ID, Members: 3, Nodes: 2})))
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	h, err := f.client.History(f.ctx(), Page{Before: new(proto.Offset(5)), Limit: 2})
	if err != nil || len(h.Messages) != 2 || h.Messages[1].Offset != 4 || !h.More || h.Offset != 9 {
		t.Errorf("got %+v, %v", h, err)
	}
	i, err := f.client.Info(f.ctx())
	if err != nil || i.Members != 3 || i.Nodes != 2 {
		t.Errorf("got %+v, %v", i, err)
	}
	f.stop()
}

func TestWhatIsNotUnderstoodIsCounted(t *testing.T) {
	s := serve(t, func(c *fakeConn) {
		c.send(welcome("e", 0), "not JSON", `{"later":{}}`, `{"error":{"code":107,"message":"x"}}`, message(1))
		c.gone()
	})
	f := follow(t, Options{URLs: []string{s.url()}})
	f.expect("welcome", "message 1")
	f.stop()
	if st := f.client.Stats(); st.Unknown != 2 {
		t.Errorf("a bad line and an error of no command are counted, got %+v", st)
	}
}

func TestRunsOnce(t *testing.T) {
	f := follow(t, Options{URLs: []string{"ws://127.0.0.1:1"}})
	f.expect("disconnected")
	if err := f.client.Run(t.Context(), nil); !errors.Is(err, ErrStarted) {
		t.Errorf("a client runs once, got %v", err)
	}
	f.stop()
}

func TestBadOptions(t *testing.T) {
	good := []string{"ws://127.0.0.1:8000"}
	for _, tc := range []struct {
		want string
		opt  Options
	}{
		{"there is no URL", Options{Channel: "a"}},
		{"does not begin with ws:// or wss://", Options{URLs: []string{"ftp://h"}, Channel: "a"}},
		{"is not a URL", Options{URLs: []string{"localhost:8000"}, Channel: "a"}},
		{"must end with its host", Options{URLs: []string{"ws://h?x=1"}, Channel: "a"}},
		{"bad channel name", Options{URLs: good}},
		{"bad user name", Options{URLs: good, Channel: "a", Name: "\n"}},
		{"cannot be combined", Options{URLs: good, Channel: "a", Since: new(proto.Offset(1)), Last: 1}},
		{"last is 1001", Options{URLs: good, Channel: "a", Last: 1001}},
		{"give since too", Options{URLs: good, Channel: "a", Epoch: "e"}},
		{"window is 65", Options{URLs: good, Channel: "a", Window: 65}},
	} {
		if _, err := New(tc.opt); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("want an error with %q, got %v", tc.want, err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, tc := range [][3]string{
		{"ws://h:1", "room", "ws://h:1/ws/room"},
		{"http://h:1/", "a/b", "ws://h:1/ws/a%2Fb"},
		{"https://h/prefix/", "弹幕", "wss://h/prefix/ws/%E5%BC%B9%E5%B9%95"},
		{"ws://h", "..", "ws://h/ws/%2E%2E"},
		{"ws://h", "a?b#c%d e", "ws://h/ws/a%3Fb%23c%25d%20e"},
	} {
		u, err := endpoint(tc[0], tc[1])
		if err != nil || u.String() != tc[2] {
			t.Errorf("channel %q at %s is %s, got %v, %v", tc[1], tc[0], tc[2], u, err)
		}
	}
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	b := backoff{least: 100 * time.Millisecond, most: time.Second}
	for i := range 40 {
		ceiling := min(time.Second, 100*time.Millisecond<<min(i, 10))
		if d := b.next(nil); d < 0 || d > ceiling {
			t.Errorf("pause %d is at most %v, got %v", i+1, ceiling, d)
		}
	}
	b.failures = 0
	if d := b.next(proto.CloseUnavailable); d < b.least {
		t.Errorf("after code 3013 the pause is at least %v, got %v", b.least, d)
	}
}
