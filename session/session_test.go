package session

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"barrage/channel"
	"barrage/node"
	"barrage/proto"
	"barrage/ws"
)

func itoa(n int) string { return strconv.Itoa(n) }

const welcome = `{"welcome":{"node":"a","client":"c1","channel":"room","epoch":"e","offset":7}}`

// A story: what a client says, what the node does, and what the client hears.
func TestEachCommandAndItsAnswer(t *testing.T) {
	c := open(t, JSON, "name=ann").join()
	c.expect(welcome)

	c.says(`{"ping":{}}`)
	c.expect(`{"pong":{}}`)
	c.says(`{"ping":{"id":"p"}}`)
	c.expect(`{"pong":{"id":"p"}}`)
	c.says(`{"info":{"id":"i"}}`)
	c.expect(`{"info":{"id":"i","members":3,"nodes":2}}`)

	c.says(`{"publish":{"data":{"a": [1, 2]},"id":"k"}}`)
	if p := c.backend.published[0]; p.Channel != "room" || p.Key != "\x01\x01k" || p.User != "ann" || p.Client != "c1" || string(p.Data) != `{"a":[1,2]}` {
		t.Errorf("a publish goes to its channel with key, user, client and data, not as %+v", p)
	}
	c.backend.ack(node.Published{Offset: 8}, nil)
	c.expect(`{"ack":{"id":"k","offset":8}}`)
	c.says(`{"publish":{"data":"x"}}`)
	c.backend.ack(node.Published{Offset: 9}, nil)
	c.expect(`{"ack":{"offset":9}}`)
	c.says(`{"publish":{"data":1,"id":"k"}}`)
	c.backend.ack(node.Published{Offset: 8, Repeated: true}, nil)
	c.expect(`{"ack":{"id":"k","offset":8,"repeated":true}}`)

	c.says(`{"history":{"since":3,"limit":2,"id":"h"}}`)
	if q := c.backend.queries[0]; q.Since == nil || *q.Since != 3 || q.Before != nil || q.Limit != 2 {
		t.Errorf("a history request is passed on as it is, not as %+v", q)
	}
	c.backend.page(proto.History{Epoch: "e", Offset: 9, More: true, Messages: []proto.Message{{Offset: 4, Time: 5, Data: []byte(`"x"`)}}}, nil)
	c.expect(`{"history":{"id":"h","epoch":"e","offset":9,"messages":[{"offset":4,"time":5,"data":"x"}],"more":true}}`)

	// Several lines in a frame, empty ones passed over.
	c.says("{\"ping\":{\"id\":\"1\"}}\r\n\n  \n{\"ping\":{\"id\":\"2\"}}\n")
	c.expect(`{"pong":{"id":"1"}}`, `{"pong":{"id":"2"}}`)
}

func TestTheWelcomeTellsTheLargestMessage(t *testing.T) {
	c := open(t, JSON, "")
	c.server.MaxPayload = 1000
	c.join().expect(`{"welcome":{"node":"a","client":"c1","channel":"room","epoch":"e","offset":7,"max_payload":1000}}`)
}

// A live channel has no offsets: the welcome and the acknowledgement say so instead.
func TestALiveChannelHasNoOffsets(t *testing.T) {
	c := open(t, JSON, "since=5&epoch=x")
	c.backend.joins[0].Ready(channel.Joined{Live: true})
	c.expect(`{"welcome":{"node":"a","client":"c1","channel":"room","live":true}}`)
	c.says(`{"publish":{"data":1,"id":"k"}}`)
	c.backend.ack(node.Published{Live: true}, nil)
	c.expect(`{"ack":{"id":"k","live":true}}`)
	m := &proto.Message{Time: 5, User: "ann", Data: []byte(`1`)}
	for format, want := range map[int]string{Raw: "1", JSON: `{"message":{"time":5,"user":"ann","data":1}}`} {
		if got := string(Codecs()[format].AppendFrame(nil, "", m)[2:]); got != want {
			t.Errorf("format %d writes a live message as %s, want %s", format, got, want)
		}
	}
	if got := Codecs()[Raw].Skipped("", 3); len(got.Frames) != 0 || got.End {
		t.Errorf("a raw client that was too slow is told nothing and stays, not %+v", got)
	}
	if got := Codecs()[JSON].Skipped("", 3); string(got.Frames[2:]) != `{"skipped":{"count":3}}` || got.End {
		t.Errorf("a JSON client that was too slow is told how much it missed and stays, not %s", got.Frames)
	}
}

func TestAnswersToErrorsRepeatTheID(t *testing.T) {
	c := open(t, JSON, "").join()
	c.expect(welcome)
	for _, wrong := range []struct{ line, id, says string }{
		{`{"publish":{"id":"a"}}`, "a", "data"},
		{`{"publish":{"id":"a","data":1,"dta":2}}`, "a", "dta"},
		{`{"history":{"id":"a","since":-1}}`, "a", "since"},
		{`{"history":{"id":"a","since":1,"before":2}}`, "a", "before"},
		{`{"history":{"id":"a","limit":1001}}`, "a", "limit"},
		{`{"jump":{"id":"a"}}`, "", "jump"},
		{`[]`, "", "object"},
		{`7`, "", "object"},
		{`{`, "", "byte"},
		{`{"ping":{}} x`, "", "byte"},
		{" \n ", "", "no command"},
		{"", "", "no command"},
	} {
		c.says(wrong.line)
		f, err := proto.ParseReply([]byte(c.next(1)[0]))
		if err != nil || f.Error == nil || f.Error.Code != 107 || f.Error.Retry || !strings.Contains(f.Error.Message, wrong.says) {
			t.Errorf("%s is error 107 that speaks of %q, not %+v, %v", wrong.line, wrong.says, f.Error, err)
			continue
		}
		if wrong.id != "" && f.Error.ID != wrong.id {
			t.Errorf("the error for %s repeats the id %q, not %q", wrong.line, wrong.id, f.Error.ID)
		}
	}
	c.says(`{"publish":{"data":1,"id":"k"}}`)
	c.backend.ack(node.Published{}, proto.ErrUnavailable)
	c.expect(`{"error":{"code":120,"message":"storage is unavailable; try again later","id":"k","retry":true}}`)
	c.says(`{"history":{"id":"h"}}`)
	c.backend.page(proto.History{}, proto.ErrTooMany)
	c.expect(`{"error":{"code":111,"message":"too many requests at once; slow down","id":"h","retry":true}}`)
	c.says(`{"ping":{}}`)
	c.expect(`{"pong":{}}`) // and the connection stays open
}

func TestAcksComeInTheOrderOfThePublishes(t *testing.T) {
	c := open(t, JSON, "").join()
	c.expect(welcome)
	var want []string
	for i := range 10 {
		c.says(fmt.Sprintf(`{"publish":{"data":%d,"id":"%d"}}`, i, i))
		want = append(want, fmt.Sprintf(`{"ack":{"id":"%d","offset":%d}}`, i, i+8))
	}
	for i := range 10 {
		c.backend.ack(node.Published{Offset: proto.Offset(i + 8)}, nil)
	}
	c.expect(want...)
}

func TestASessionThatIsNotAMemberIsFull(t *testing.T) {
	c := open(t, JSON, "")
	if !c.Full() {
		t.Error("until it has joined a session is full")
	}
	if c.join(); c.resumed() != 1 || c.Full() {
		t.Error("joining makes room, and says so")
	}
	quiet := open(t, JSON, "")
	if quiet.join(); quiet.resumed() != 0 {
		t.Error("nobody is told of room who did not ask for it")
	}
}

func TestSixtyFourPublishesMakeASessionFull(t *testing.T) {
	c := open(t, JSON, "").join()
	for i := range Limit {
		if c.Full() {
			t.Fatalf("%d publishes may be under way, not %d", Limit, i)
		}
		c.says(`{"publish":{"data":1}}`)
	}
	if !c.Full() {
		t.Fatalf("with %d publishes under way a session is full", Limit)
	}
	for range Limit / 2 {
		if c.resumed() != 0 {
			t.Fatal("reading goes on when half of the publishes have their answer, not before")
		}
		c.backend.ack(node.Published{}, nil)
	}
	if c.resumed() != 1 || c.Full() {
		t.Error("reading goes on when half of the publishes have their answer, and that is said once")
	}
	for range Limit / 2 {
		c.backend.ack(node.Published{}, nil)
	}
	if c.resumed() != 1 {
		t.Errorf("Resume is called once for each time that Full reported true, not %d times", c.resumed())
	}
}

func TestEightHistoriesMakeASessionFull(t *testing.T) {
	c := open(t, JSON, "").join()
	for i := range maxHistories {
		if c.Full() {
			t.Fatalf("%d reads of history may be under way, not %d", maxHistories, i)
		}
		c.says(`{"history":{}}`)
	}
	if !c.Full() {
		t.Fatalf("with %d reads of history under way a session is full", maxHistories)
	}
	for range maxHistories / 2 {
		c.backend.page(proto.History{}, nil)
	}
	if c.resumed() != 1 || c.Full() {
		t.Error("reading goes on when half of the reads have their answer")
	}
}

// One frame may hold thousands of lines: its session takes as many as it may and gives back the rest.
func TestAFrameOfManyCommandsKeepsTheLimits(t *testing.T) {
	for line, limit := range map[string]int{`{"publish":{"data":1}}`: Limit, `{"history":{}}`: maxHistories} {
		c := open(t, JSON, "").join()
		const lines = 1000
		rest := c.says(strings.Repeat(line+"\n", lines))
		begun := func() int { return len(c.backend.published) + len(c.backend.queries) }
		if begun() != limit || len(rest) != (lines-limit)*(len(line)+1)-1 {
			t.Errorf("of a frame of %d lines %s %d are taken at once, not %d, and the rest is given back", lines, line, limit, begun())
		}
		for done := 0; done < lines; {
			for len(c.backend.acks) > 0 {
				c.backend.ack(node.Published{}, nil)
				done++
			}
			for len(c.backend.pages) > 0 {
				c.backend.page(proto.History{}, nil)
				done++
			}
			if !c.Full() && rest != "" {
				rest = c.says(rest)
			}
		}
		if rest != "" || begun() != lines {
			t.Errorf("every line of a frame is taken once, not %d of %d, with the rest %q", begun(), lines, rest)
		}
	}
	c := open(t, JSON, "").join()
	if rest := c.says(strings.Repeat(`{"publish":{"data":1}}`+"\n", Limit) + " \n\n"); rest != "" {
		t.Errorf("empty lines are not worth coming back for: %q", rest)
	}
}

func TestResetPrecedesTheWelcome(t *testing.T) {
	c := open(t, JSON, "since=99&epoch=old")
	r := c.backend.joins[0]
	if r.Since == nil || *r.Since != 99 || r.Epoch != "old" || r.Format != JSON || r.Skip != 0 {
		t.Errorf("the query is passed on to the channel, not as %+v", r)
	}
	r.Ready(channel.Joined{Position: proto.Position{Epoch: "e", Offset: 7}, Next: 5, Reset: true, Reason: "no longer kept"})
	c.expect(`{"reset":{"epoch":"e","offset":4,"reason":"no longer kept"}}`, welcome)
}

func TestARawResetCloses3010(t *testing.T) {
	c := open(t, Raw, "since=99")
	c.backend.joins[0].Ready(channel.Joined{Reset: true, Reason: "no longer kept", Next: 5})
	c.expect("close 3010 no longer kept")
}

func TestAJoinThatFailsCloses3013(t *testing.T) {
	for _, format := range []int{Raw, JSON} {
		c := open(t, format, "")
		c.Full()
		c.backend.joins[0].Ready(channel.Joined{Err: channel.ErrNotOpen})
		c.expect("close 3013 storage is unavailable")
		if c.Full() {
			t.Error("a session that has ended is not full: what it is given is ignored")
		}
		if c.says("x"); c.backend.publishes() != 0 {
			t.Error("a session that has ended takes nothing")
		}
	}
}

func TestEchoCanBeLeftOut(t *testing.T) {
	c := open(t, JSON, "echo=0&last=5")
	if r := c.backend.joins[0]; r.Skip != channel.SenderOf("c1") || r.Last != 5 {
		t.Errorf("echo=0 spares a connection its own messages: %+v", r)
	}
}

func TestRaw(t *testing.T) {
	c := open(t, Raw, "name=ann").join()
	c.says(`{"not":"a command"}` + "\n\"\x01")
	if p := c.backend.published[0]; string(p.Data) != `"{\"not\":\"a command\"}\n\"\u0001"` || p.Key != "" || p.User != "ann" {
		t.Errorf("a raw text is published as a JSON string, whatever it holds, not as %+v", p)
	}
	c.backend.ack(node.Published{Offset: 1}, nil)
	c.says("")
	c.backend.ack(node.Published{}, proto.ErrUnavailable.With("the journal is away"))
	c.expect("close 3013 your last text was not stored: the journal is away") // and no ack before it
	if c.says("more"); c.backend.publishes() != 2 {
		t.Error("after the failure of a raw publish nothing more is taken")
	}
}

func TestAPublishThatIsRefusedAtOnce(t *testing.T) {
	c := open(t, JSON, "").join()
	c.expect(welcome)
	c.backend.refuse = proto.ErrTooMany
	c.says(strings.Repeat(`{"publish":{"data":1,"id":"k"}}`+"\n", 2*Limit))
	for _, line := range c.next(2 * Limit) {
		if !strings.Contains(line, `"code":111`) {
			t.Errorf("a publish that is refused at once is answered with its error, not %s", line)
		}
	}
	if c.Full() {
		t.Error("a publish that has its answer is not under way")
	}
}

func TestLeaveWaitsForCommandsUnderWay(t *testing.T) {
	c := open(t, JSON, "").join()
	c.expect(welcome)
	c.says(`{"publish":{"data":1,"id":"1"}}` + "\n" + `{"history":{"id":"2"}}`)
	c.Leave(proto.CloseShutdown)
	c.backend.page(proto.History{Epoch: "e"}, nil)
	c.backend.ack(node.Published{Offset: 8}, nil)
	c.expect(`{"history":{"id":"2","epoch":"e","offset":0,"messages":[],"more":false}}`, `{"ack":{"id":"1","offset":8}}`, "close 3001 shutdown")

	idle := open(t, JSON, "").join()
	idle.Leave(proto.CloseShutdown)
	idle.expect(welcome, "close 3001 shutdown")

	early := open(t, JSON, "")
	early.Leave(proto.CloseShutdown)
	early.expect("close 3001 shutdown")
	early.join() // too late: nothing follows the close frame
	early.expect()
}

func TestNothingIsTakenAfterTheEnd(t *testing.T) {
	c := open(t, JSON, "").join()
	c.expect(welcome)
	c.says(`{"publish":{"data":1}}`)
	if !c.End(proto.CloseNormal) || c.End(proto.CloseInternal) {
		t.Error("only the first End counts")
	}
	c.says(`{"publish":{"data":2}}`)
	if c.backend.publishes() != 1 {
		t.Error("after the end nothing is taken")
	}
	c.backend.ack(node.Published{Offset: 8}, nil) // its answer comes too late
	c.expect("close 1000")
}

func TestASessionInLogsIsItsName(t *testing.T) {
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "session", open(t, JSON, "").Session)
	if !strings.Contains(out.String(), `"session":"client c1 in \"room\""`) {
		t.Errorf("a session in a log is its client and channel, not %s", out.String())
	}
}

func TestFramesOfTheCodecs(t *testing.T) {
	codecs := Codecs()
	if len(codecs) != formats {
		t.Fatalf("there are %d plain formats, not %d", formats, len(codecs))
	}
	for _, size := range []int{0, 1, 125, 126, 65_535, 65_536} {
		text := strings.Repeat("x", size)
		m := &proto.Message{Offset: 1, Time: 2, Data: proto.RawToData([]byte(text))}
		for format, want := range map[int]string{Raw: text, JSON: string(proto.AppendMessage(nil, m))} {
			prefix := []byte("before")
			b := codecs[format].AppendFrame(bytes.Clone(prefix), "", m)
			if !bytes.HasPrefix(b, prefix) {
				t.Fatal("a frame is appended to what is there")
			}
			if got := ws.AppendFrame(prefix, ws.OpText, []byte(want)); !bytes.Equal(b, got) {
				t.Errorf("a message of %d bytes is one unmasked text frame of format %d with a minimal length", size, format)
			}
		}
	}
	// A JSON frame of exactly these sizes too.
	empty := len(proto.AppendMessage(nil, &proto.Message{Offset: 1, Time: 2, Data: []byte(`""`)}))
	for _, size := range []int{125, 126, 65_535, 65_536} {
		m := &proto.Message{Offset: 1, Time: 2, Data: proto.RawToData(bytes.Repeat([]byte{'x'}, size-empty))}
		h, n, err := ws.ParseHeader(codecs[JSON].AppendFrame(nil, "", m))
		if err != nil || h.Length != uint64(size) || !h.Fin || h.Op != ws.OpText || n != map[int]int{125: 2, 126: 4, 65_535: 4, 65_536: 10}[size] {
			t.Errorf("a line of %d bytes has a frame with that length, in the least number of bytes, not %+v in %d, %v", size, h, n, err)
		}
	}
	p := proto.Position{Epoch: "e", Offset: 3}
	if n := codecs[Raw].Reset("", p, "why"); !n.End || !bytes.Equal(n.Frames, ws.AppendClose(nil, 3010, "why")) {
		t.Errorf("a raw client that missed messages is closed with 3010, not %+v", n)
	}
	if n := codecs[JSON].Reset("", p, "why"); n.End || !bytes.Equal(n.Frames, ws.AppendFrame(nil, ws.OpText, []byte(`{"reset":{"epoch":"e","offset":3,"reason":"why"}}`))) {
		t.Errorf("a JSON client that missed messages is told so and goes on, not %+v", n)
	}
}

// Whoever reads a frame reads for others too: what a client leaves blank must not cost more than what it writes.
func TestBlankLinesAreLookedAtOnce(t *testing.T) {
	c := open(t, JSON, "").join()
	frame := `{"ping":{}}` + strings.Repeat("\n", 1<<20) + strings.Repeat(" \n", 1<<19) + `{"ping":{}}`
	began := time.Now()
	c.says(frame)
	if took := time.Since(began); took > 2*time.Second { // it was minutes when each line looked at all the others
		t.Errorf("two commands with 2 MiB of white space between them take %v", took)
	}
	c.next(3) // the welcome, and both answers
}
