//go:build system

package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
)

func TestRawAndJSONShareAChannel(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	raw := dial(t, n.URL(), Channel("raw", "a/room", "name=ann"))
	ws, _ := join(t, n.URL(), "a/room")
	send(t, raw, `hello "you"`)
	m := nextMessage(t, ws)
	if string(m.Data) != `"hello \"you\""` || m.User != "ann" || m.Offset != 1 || m.Client == "" {
		t.Errorf("a text from /raw is a JSON string on /ws, with its publisher's name: got %+v", m)
	}
	if late := time.Since(time.UnixMilli(m.Time)); late < -time.Minute || late > time.Minute {
		t.Errorf("time is when the message was stored: it is off by %s", late)
	}
	publish(t, ws, `"to raw"`)
	publish(t, ws, `{"a": [1, 2]}`)
	for _, want := range []string{`hello "you"`, "to raw", `{"a":[1,2]}`} {
		if got, err := raw.Frame(defaultWait); err != nil || got != want {
			t.Errorf("/raw gets a JSON string as its text and another value as its JSON: got %q, %v; want %q", got, err, want)
		}
	}
	late := dial(t, n.URL(), Channel("raw", "a/room", "last=2"))
	if got, err := late.Frame(defaultWait); err != nil || got != "to raw" {
		t.Errorf("/raw starts with the last messages when asked: got %q, %v", got, err)
	}
}

func TestJoiningAndResuming(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	_, w := join(t, n.URL(), "any")
	epoch := w.Welcome.Epoch
	for i, tt := range []struct {
		name, query string
		reset       bool
		first       uint64 // message that comes first, up to 10; 0 for none before a new one
	}{
		{"without a position only new messages come", "", false, 0},
		{"since=0 starts at the beginning", "since=0", false, 1},
		{"since=4 with the epoch resumes", "since=4&epoch=" + epoch, false, 5},
		{"since=4 without an epoch counts", "since=4", false, 5},
		{"since=head has nothing to catch up with", "since=10&epoch=" + epoch, false, 0},
		{"last=3 starts with three", "last=3", false, 8},
		{"last=0 starts with none", "last=0", false, 0},
		{"last=1000 starts with all there are", "last=1000", false, 1},
		{"a wrong epoch is reset", "since=4&epoch=other", true, 0},
		{"a position beyond the head is reset", "since=11&epoch=" + epoch, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			channel := fmt.Sprint("room-", i)
			publisher, _ := join(t, n.URL(), channel, "echo=0")
			for i := 1; i <= 10; i++ {
				publish(t, publisher, fmt.Sprint(i))
			}
			c := dial(t, n.URL(), Channel("ws", channel, tt.query))
			checkStart(t, c, tt.reset)
			for offset := tt.first; offset > 0 && offset <= 10; offset++ {
				if m := nextMessage(t, c); m.Offset != offset || string(m.Data) != fmt.Sprint(offset) {
					t.Fatalf("message %d comes: got %+v", offset, m)
				}
			}
			publish(t, publisher, `"new"`)
			if m := nextMessage(t, c); m.Offset != 11 || string(m.Data) != `"new"` {
				t.Fatalf("then the new message comes: got %+v", m)
			}
		})
	}
}

// checkStart reads the first lines of a connection to a channel of ten messages: a reset if expected, and the welcome.
func checkStart(t *testing.T, c *Client, reset bool) {
	t.Helper()
	l := next(t, c)
	if (l.Reset != nil) != reset {
		t.Fatalf("reset comes first if and only if the position cannot be continued (%t): got %s", reset, l.Text)
	}
	if reset {
		if l.Reset.Epoch == "" || l.Reset.Reason == "" || l.Reset.Offset != 10 {
			t.Errorf("a reset says epoch, head and reason: %s", l.Text)
		}
		l = next(t, c)
	}
	if l.Welcome == nil || l.Welcome.Offset != 10 {
		t.Fatalf("the welcome comes, with the head: got %s", l.Text)
	}
}

func TestEchoCanBeSwitchedOff(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	loud, _ := join(t, n.URL(), "room")
	quiet, _ := join(t, n.URL(), "room", "echo=0")
	publish(t, quiet, `"quiet"`)
	publish(t, loud, `"loud"`)
	if m := nextMessage(t, quiet); string(m.Data) != `"loud"` || m.Offset != 2 {
		t.Errorf("with echo=0 a connection gets the messages of others only: got %+v", m)
	}
	history := ask(t, loud, `{"history":{}}`)
	if len(history.History.Messages) != 2 {
		t.Errorf("echo concerns delivery only: history has both: %s", history.Text)
	}
}

func TestPublishersOwnMessageComesBack(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, w := join(t, n.URL(), "room", "name=bob")
	send(t, c, `{"publish":{"data":{"x":1},"id":"k"}}`)
	var ack, message bool
	for range 2 {
		switch l := next(t, c); {
		case l.Ack != nil:
			ack = l.Ack.ID == "k" && l.Ack.Offset == 1 && !l.Ack.Repeated
		case l.Message != nil:
			message = l.Message.Client == w.Welcome.Client && l.Message.User == "bob" && string(l.Message.Data) == `{"x":1}`
		}
	}
	if !ack || !message {
		t.Errorf("a publisher gets its acknowledgement and, as everyone, its message: ack %t, message %t", ack, message)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, _ := join(t, n.URL(), "room", "echo=0")
	first := ask(t, c, `{"publish":{"data":1,"id":"same"}}`)
	other, _ := join(t, n.URL(), "room", "echo=0")
	again := ask(t, other, `{"publish":{"data":1,"id":"same"}}`)
	if first.Ack.Repeated || !again.Ack.Repeated || again.Ack.Offset != first.Ack.Offset {
		t.Errorf("the same id is stored once: first %s, again %s", first.Text, again.Text)
	}
	elsewhere, _ := join(t, n.URL(), "lobby", "echo=0")
	if l := ask(t, elsewhere, `{"publish":{"data":1,"id":"same"}}`); l.Ack == nil || l.Ack.Repeated {
		t.Errorf("an id belongs to its channel: in another one it is new: %s", l.Text)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	c, _ = join(t, n.URL(), "room", "echo=0")
	if l := ask(t, c, `{"publish":{"data":1,"id":"same"}}`); !l.Ack.Repeated || l.Ack.Offset != first.Ack.Offset {
		t.Errorf("an id is remembered over a crash of the node: %s", l.Text)
	}
}

func TestAcknowledgementsKeepTheOrderOfPublishes(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, _ := join(t, n.URL(), "room", "echo=0")
	const count = 300
	var lines []string
	for i := range count {
		lines = append(lines, fmt.Sprintf(`{"publish":{"data":%d,"id":"k%d"}}`, i, i))
	}
	send(t, c, strings.Join(lines[:50], "\n")) // several lines in one frame
	for _, l := range lines[50:] {
		send(t, c, l)
	}
	for i := range count {
		if l := next(t, c); l.Ack == nil || l.Ack.ID != fmt.Sprint("k", i) || l.Ack.Offset != uint64(i+1) {
			t.Fatalf("acknowledgement %d is of k%d at offset %d: got %s", i, i, i+1, l.Text)
		}
	}
}

func TestHistory(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, _ := join(t, n.URL(), "room", "echo=0")
	for i := 1; i <= 250; i++ {
		publish(t, c, fmt.Sprint(i))
	}
	for _, tt := range []struct {
		command     string
		first, last uint64
		more        bool
	}{
		{`{"since":0,"limit":10}`, 1, 10, true},
		{`{"since":245,"limit":10}`, 246, 250, false},
		{`{"since":240,"limit":10}`, 241, 250, false},
		{`{"since":250}`, 0, 0, false},
		{`{"since":0}`, 1, 100, true}, // the default limit
		{`{"since":0,"limit":1000}`, 1, 250, false},
		{`{"before":11,"limit":5}`, 6, 10, true},
		{`{"before":6,"limit":5}`, 1, 5, false},
		{`{"before":1}`, 0, 0, false},
		{`{"limit":3}`, 248, 250, true},
		{`{}`, 151, 250, true},
	} {
		l := ask(t, c, `{"history":`+tt.command+`}`)
		h := l.History
		if h == nil || h.Offset != 250 || h.Epoch == "" || h.More != tt.more {
			t.Errorf("history %s: the page has head 250, an epoch, and more is %t: got %.200s", tt.command, tt.more, l.Text)
			continue
		}
		var want []uint64
		for o := tt.first; o != 0 && o <= tt.last; o++ {
			want = append(want, o)
		}
		var got []uint64
		for _, m := range h.Messages {
			got = append(got, m.Offset)
			if string(m.Data) != fmt.Sprint(m.Offset) {
				t.Errorf("history %s: message %d has its own data: %s", tt.command, m.Offset, m.Data)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("history %s has offsets %d to %d, ascending: got %v", tt.command, tt.first, tt.last, got)
		}
	}
	if l := ask(t, c, `{"history":{"since":0,"limit":1,"id":"h1"}}`); l.History == nil || l.History.ID != "h1" {
		t.Errorf("an answer repeats the id of its command: %s", l.Text)
	}
}

func TestBadCommandsAreErrorsAndTheConnectionStaysOpen(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, _ := join(t, n.URL(), "room", "echo=0")
	long := strings.Repeat("x", 129)
	for _, tt := range []struct{ line, word string }{
		{`nonsense`, ""},
		{`{"publish"`, ""},
		{`[]`, "object"},
		{`"x"`, "object"},
		{`7`, "object"},
		{`null`, "object"},
		{`{}`, ""},
		{`{"publish":{"data":1},"ping":{}}`, ""},
		{`{"nope":{}}`, "nope"},
		{`{"publish":{}}`, "data"},
		{`{"publish":{"id":"a"}}`, "data"},
		{`{"publish":7}`, ""},
		{`{"publish":{"data":1,"foo":2}}`, "foo"},
		{`{"publish":{"data":1,"id":7}}`, "id"},
		{`{"publish":{"data":1,"id":"` + long + `"}}`, "128"},
		{`{"publish":{"data":1,"id":"a\u0000b"}}`, "control"},
		{`{"publish":{"data":1e}}`, ""},
		{`{"publish":{"data":1}} {"ping":{}}`, ""},
		{`{"history":{"since":-1}}`, "since"},
		{`{"history":{"since":"1"}}`, "since"},
		{`{"history":{"since":1.5}}`, "since"},
		{`{"history":{"limit":-1}}`, "limit"},
		{`{"history":{"before":-5}}`, "before"},
		{`{"history":{"since":1,"before":5}}`, ""},
		{`{"history":{"sinse":1}}`, "sinse"},
		{`{"history":{"since":99999999999999999999999}}`, "since"},
		{`{"ping":{"x":1}}`, "x"},
		{`{"ping":7}`, ""},
	} {
		l := ask(t, c, tt.line)
		if l.Error == nil || l.Error.Code != 107 || l.Error.Retry || !strings.Contains(strings.ToLower(l.Error.Message), tt.word) {
			t.Errorf("%.80s is error 107, not to be retried, that speaks of %q: got %s", tt.line, tt.word, l.Text)
		}
	}
	if l := ask(t, c, `{"ping":{"id":"p"}}`); l.Pong == nil || l.Pong.ID != "p" {
		t.Errorf("after all these errors the connection still answers a ping: %s", l.Text)
	}
	if offset := publish(t, c, `1`); offset != 1 {
		t.Errorf("none of the bad publishes was stored: the first good one has offset %d", offset)
	}
}

func TestInfoCountsMembers(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, _ := join(t, n.URL(), "room")
	for range 2 {
		join(t, n.URL(), "room")
	}
	join(t, n.URL(), "elsewhere")
	if l := ask(t, c, `{"info":{}}`); l.Info == nil || l.Info.Members != 3 || l.Info.Nodes != 1 {
		t.Errorf("info counts the connections of this channel: got %s", l.Text)
	}
}

func TestBadAddressesAreRefused(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	long := strings.Repeat("n", 256)
	for _, tt := range []struct{ path, word string }{
		{"/ws/", "channel"},
		{"/ws/" + long, "255"},
		{"/ws/a%0Ab", "control"},
		{"/ws/a%FFb", "utf-8"},
		{"/raw/" + long, "255"},
		{"/ws/room?since=-1", "since"},
		{"/ws/room?since=x", "since"},
		{"/ws/room?since=99999999999999999999999", "since"},
		{"/ws/room?last=1001", "1000"},
		{"/ws/room?last=-1", "last"},
		{"/ws/room?last=5&since=1", "last"},
		{"/ws/room?name=" + long, "255"},
		{"/ws/room?name=a%00b", "control"},
		{"/ws/room?echo=maybe", "echo"},
	} {
		_, err := Dial(n.URL(), tt.path, nil)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(strings.ToLower(refused.Text), tt.word) {
			t.Errorf("%.60s is refused with 400 and a sentence about %q: got %v", tt.path, tt.word, err)
		}
	}
	for _, good := range []string{"/ws/" + long[:255], "/ws/%E5%BC%B9%E5%B9%95", "/ws/a%2Fb", "/ws/a/b", "/raw/%20"} {
		dial(t, n.URL(), good)
	}
}

func TestOriginsAreChecked(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Env: []string{"BARRAGE_ORIGINS=https://example.org,http://other.example:81"}})
	for origin, allowed := range map[string]bool{
		"":                                 true, // no browser
		n.URL():                            true,
		"https://example.org":              true,
		"http://other.example:81":          true,
		"http://example.org":               false,
		"http://other.example":             false,
		"https://example.org.evil.example": false,
		"http://127.0.0.1":                 false,
		"null":                             false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		c, err := Dial(n.URL(), "/ws/room", header)
		if err == nil {
			c.Close()
		}
		var refused *RefusedError
		if allowed && err != nil || !allowed && (!errors.As(err, &refused) || refused.Status != 403) {
			t.Errorf("origin %q is allowed (%t), others are refused with 403: got %v", origin, allowed, err)
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Env: []string{
		"BARRAGE_LIMITS_CONNECTIONS=5", "BARRAGE_LIMITS_CONNECTIONS_PER_ADDRESS=3", "BARRAGE_TRUSTED_PROXIES=127.0.0.1",
	}})
	from := func(address string) http.Header { return http.Header{"X-Forwarded-For": {address}} }
	var open []*Client
	enter := func(address string) error {
		c, err := Dial(n.URL(), "/ws/room", from(address))
		if err == nil {
			t.Cleanup(c.Close)
			open = append(open, c)
		}
		return err
	}
	for range 3 {
		if err := enter("192.0.2.1"); err != nil {
			t.Fatalf("three connections of one address are allowed: %v", err)
		}
	}
	var refused *RefusedError
	if err := enter("192.0.2.1"); !errors.As(err, &refused) || refused.Status != 429 && refused.Status != 503 {
		t.Errorf("the fourth connection of one address is refused with 429 or 503: got %v", err)
	}
	for range 2 {
		if err := enter("192.0.2.2"); err != nil {
			t.Fatalf("another address has a limit of its own: %v", err)
		}
	}
	if err := enter("192.0.2.3"); !errors.As(err, &refused) || refused.Status != 503 {
		t.Errorf("the sixth connection of the node is refused with 503: got %v", err)
	}
	open[0].Close()
	eventually(t, 10*time.Second, "the place of a connection that ended is free again", func() bool {
		return enter("192.0.2.3") == nil
	})
}

func TestMessagesOfAnySizeUpToTheLimit(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, _ := join(t, n.URL(), "room")
	for _, size := range []int{0, 1, 124, 125, 126, 127, 65000} {
		text, _ := json.Marshal(strings.Repeat("é", size/2) + strings.Repeat("x", size%2))
		send(t, c, `{"publish":{"data":`+string(text)+`}}`)
		var got *Message
		for range 2 {
			if l := next(t, c); l.Message != nil {
				got = l.Message
			}
		}
		var back, sent string
		if got == nil || json.Unmarshal(got.Data, &back) != nil || json.Unmarshal(text, &sent) != nil || back != sent {
			t.Errorf("a text of %d bytes comes back as it was", size)
		}
	}
}
