package proto

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// replies are the golden lines of the server.
var replies = []struct {
	line  string
	reply Reply
}{
	{
		`{"welcome":{"node":"a","client":"c1","channel":"room/大","epoch":"e","offset":42}}`,
		Reply{Welcome: &Welcome{Node: "a", Client: "c1", Channel: "room/大", Epoch: "e", Offset: 42}},
	},
	{
		`{"message":{"offset":43,"time":1700000000000,"user":"ann","client":"c1","data":{"a":[1,"<&>"]}}}`,
		Reply{Message: &Message{Offset: 43, Time: 1700000000000, User: "ann", Client: "c1", Data: []byte(`{"a":[1,"<&>"]}`)}},
	},
	{
		`{"message":{"offset":1,"time":0,"data":null}}`,
		Reply{Message: &Message{Offset: 1, Data: []byte(`null`)}},
	},
	{
		`{"message":{"offset":1,"time":-5,"user":"\"\\\n\u0001\u2028<","data":0}}`,
		Reply{Message: &Message{Offset: 1, Time: -5, User: "\"\\\n\x01\u2028<", Data: []byte(`0`)}},
	},
	{
		`{"welcome":{"node":"a","client":"c1","channel":"live:room","live":true}}`,
		Reply{Welcome: &Welcome{Node: "a", Client: "c1", Channel: "live:room", Live: true}},
	},
	{`{"message":{"time":5,"user":"ann","data":1}}`, Reply{Message: &Message{Time: 5, User: "ann", Data: []byte(`1`)}}},
	{`{"ack":{"id":"k","live":true}}`, Reply{Ack: &Ack{ID: "k", Live: true}}},
	{`{"ack":{"live":true}}`, Reply{Ack: &Ack{Live: true}}},
	{`{"skipped":{"count":18446744073709551615}}`, Reply{Skipped: &Skipped{Count: 18446744073709551615}}},
	{`{"ack":{"id":"k","offset":43}}`, Reply{Ack: &Ack{ID: "k", Offset: 43}}},
	{`{"ack":{"offset":43,"repeated":true}}`, Reply{Ack: &Ack{Offset: 43, Repeated: true}}},
	{
		`{"history":{"id":"h","epoch":"e","offset":9,"messages":[{"offset":1,"time":5,"data":"x"},{"offset":2,"time":6,"user":"u","data":[]}],"more":true}}`,
		Reply{History: &History{ID: "h", Epoch: "e", Offset: 9, More: true, Messages: []Message{
			{Offset: 1, Time: 5, Data: []byte(`"x"`)}, {Offset: 2, Time: 6, User: "u", Data: []byte(`[]`)},
		}}},
	},
	{`{"history":{"epoch":"","offset":0,"messages":[],"more":false}}`, Reply{History: &History{}}},
	{`{"info":{"id":"i","members":3,"nodes":1}}`, Reply{Info: &Info{ID: "i", Members: 3, Nodes: 1}}},
	{`{"info":{"members":0,"nodes":0}}`, Reply{Info: &Info{}}},
	{`{"info":{"members":3,"nodes":1,"users":2,"exact":false}}`, Reply{Info: &Info{Members: 3, Nodes: 1, Users: 2, Exact: new(false)}}},
	{
		`{"welcome":{"node":"a","client":"c1","channel":"room","epoch":"e","offset":42,"user":"ann","expires":1700000000}}`,
		Reply{Welcome: &Welcome{Node: "a", Client: "c1", Channel: "room", Epoch: "e", Offset: 42, User: "ann", Expires: 1700000000}},
	},
	{
		`{"welcome":{"node":"a","client":"c1","channel":"room","epoch":"e","offset":42,"max_payload":65536}}`,
		Reply{Welcome: &Welcome{Node: "a", Client: "c1", Channel: "room", Epoch: "e", Offset: 42, MaxPayload: 65536}},
	},
	{
		`{"message":{"offset":43,"time":5,"user":"ann","info":{"name":"Ann"},"chan_info":7,"tags":{"a":"1","b":"\n"},"data":1}}`,
		Reply{Message: &Message{Offset: 43, Time: 5, User: "ann", Data: []byte(`1`), Attributes: []byte(`{"info":{"name":"Ann"},"chan_info":7,"tags":{"a":"1","b":"\n"}}`)}},
	},
	{`{"refreshed":{"id":"r","expires":1700000000}}`, Reply{Refreshed: &Refreshed{ID: "r", Expires: 1700000000}}},
	{`{"refreshed":{"expires":1700000000}}`, Reply{Refreshed: &Refreshed{Expires: 1700000000}}},
	{`{"refreshed":{}}`, Reply{Refreshed: &Refreshed{}}},
	{
		`{"presence":{"id":"p","members":[{"user":"ann","client":"c1","info":{"a":1},"chan_info":2},{"user":"","client":"c2"}],"clients":2,"users":2,"exact":true}}`,
		Reply{Presence: &Presence{ID: "p", Roster: Roster{Members: []MemberInfo{
			{User: "ann", Client: "c1", Info: []byte(`{"a":1}`), ChanInfo: []byte(`2`)}, {Client: "c2"},
		}, Counts: Counts{Clients: 2, Users: 2, Exact: true}}}},
	},
	{
		`{"presence":{"members":[],"clients":9,"users":8,"exact":false,"sampled":true}}`,
		Reply{Presence: &Presence{Roster: Roster{Members: []MemberInfo{}, Counts: Counts{Clients: 9, Users: 8}, Sampled: true}}},
	},
	{`{"join":{"user":"ann","client":"c1"}}`, Reply{Join: &MemberInfo{User: "ann", Client: "c1"}}},
	{`{"leave":{"user":"ann","client":"c1","info":[1]}}`, Reply{Leave: &MemberInfo{User: "ann", Client: "c1", Info: []byte(`[1]`)}}},
	{
		`{"error":{"code":111,"message":"m","retry":true,"retry_after":1500}}`,
		Reply{Error: &Failure{Code: 111, Message: "m", Retry: true, RetryAfter: 1500}},
	},
	{`{"pong":{}}`, Reply{Pong: &Pong{}}},
	{`{"pong":{"id":"p"}}`, Reply{Pong: &Pong{ID: "p"}}},
	{
		`{"reset":{"epoch":"e","offset":42,"reason":"the channel is behind"}}`,
		Reply{Reset: &Reset{Epoch: "e", Offset: 42, Reason: "the channel is behind"}},
	},
	{
		`{"error":{"code":107,"message":"bad request","id":"x","retry":false}}`,
		Reply{Error: &Failure{ID: "x", Code: 107, Message: "bad request"}},
	},
	{`{"error":{"code":120,"message":"m","retry":true}}`, Reply{Error: &Failure{Code: 120, Message: "m", Retry: true}}},
}

func appendReply(dst []byte, r Reply) []byte {
	switch {
	case r.Welcome != nil:
		return AppendWelcome(dst, *r.Welcome)
	case r.Message != nil:
		return AppendMessage(dst, r.Message)
	case r.Ack != nil:
		return AppendAck(dst, *r.Ack)
	case r.History != nil:
		return AppendHistory(dst, *r.History)
	case r.Info != nil:
		return AppendInfo(dst, *r.Info)
	case r.Pong != nil:
		return AppendPong(dst, *r.Pong)
	case r.Reset != nil:
		return AppendReset(dst, *r.Reset)
	case r.Skipped != nil:
		return AppendSkipped(dst, *r.Skipped)
	case r.Refreshed != nil:
		return AppendRefreshed(dst, *r.Refreshed)
	case r.Presence != nil:
		return AppendPresence(dst, r.Presence)
	case r.Join != nil:
		return AppendJoin(dst, r.Join)
	case r.Leave != nil:
		return AppendLeave(dst, r.Leave)
	case r.Error != nil:
		return AppendError(dst, r.Error.ID, r.Error.Err())
	}
	return dst
}

func TestReplies(t *testing.T) {
	for _, c := range replies {
		if got := appendReply([]byte("before"), c.reply); string(got) != "before"+c.line {
			t.Errorf("the line should be\n%s, not\n%s", c.line, got[len("before"):])
		}
		got, err := ParseReply([]byte(c.line))
		if err != nil {
			t.Errorf("%s should be read, but: %v", c.line, err)
		} else if !reflect.DeepEqual(got, c.reply) {
			t.Errorf("%s should be read as what it was written from, not as %+v", c.line, got)
		}
	}
}

func TestParseReplyOfAnotherServer(t *testing.T) {
	for _, line := range []string{`{"novelty":{"a":1}}`, `{}`, `{"welcome":null}`} {
		if got, err := ParseReply([]byte(line)); err != nil || got != (Reply{}) {
			t.Errorf("%s should be read as a line of an unknown kind, not as %+v (%v)", line, got, err)
		}
	}
	got, err := ParseReply([]byte(`{"pong":{"id":"x","novelty":1}}`))
	if err != nil || got.Pong == nil || got.Pong.ID != "x" {
		t.Errorf("keys that are not known should be passed over; got %+v (%v)", got, err)
	}
	for _, line := range []string{``, `x`, `[]`, `{"pong":1}`, `{"ack":{"offset":-1}}`, `{"ack":{"offset":"1"}}`} {
		if got, err := ParseReply([]byte(line)); err == nil {
			t.Errorf("%s should be refused, not read as %+v", line, got)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add("room", "ann\u2028", "\x00\xff", `{"a": 1}`, uint64(42), int64(-1), true)
	f.Fuzz(func(t *testing.T, a, b, c, data string, n uint64, i int64, flag bool) {
		o := Offset(n)
		m := Message{Offset: o, Time: i, User: a, Client: b, Data: []byte(`null`)}
		if cmd, err := ParseCommand([]byte(`{"publish":{"data":` + data + `}}`)); err == nil {
			m.Data = cmd.Data
		}
		attributes := Attributes{Tags: map[string]string{a: b, c: a}}
		member := MemberInfo{User: a, Client: b}
		if json.Valid(m.Data) {
			attributes.Info = m.Data
			var info bytes.Buffer
			_ = json.Compact(&info, m.Data)
			member.Info = info.Bytes()
		}
		m.Attributes, _ = attributes.Encode()
		for _, r := range []Reply{
			{Refreshed: &Refreshed{ID: a, Expires: i}},
			{Presence: &Presence{ID: c, Roster: Roster{Members: []MemberInfo{member, member}, Counts: Counts{Clients: int(i), Users: int(n), Exact: flag}, Sampled: !flag}}},
			{Join: &member},
			{Leave: &member},
			{Info: &Info{ID: c, Members: int(i), Users: int(n), Exact: &flag}},
			{Welcome: &Welcome{Node: a, Client: b, Channel: c, Live: flag, User: b, Expires: i}},
			{Welcome: &Welcome{Node: a, Client: b, Channel: c, Epoch: Epoch(a), Offset: o}},
			{Message: &m},
			{Ack: &Ack{ID: a, Offset: o, Repeated: flag}},
			{Ack: &Ack{ID: a, Live: true}},
			{Skipped: &Skipped{Count: n}},
			{History: &History{ID: b, Epoch: Epoch(c), Offset: o, Messages: []Message{m, m}, More: flag}},
			{Info: &Info{ID: c, Members: int(i), Nodes: int(n)}},
			{Pong: &Pong{ID: a}},
			{Reset: &Reset{Epoch: Epoch(b), Offset: o, Reason: c}},
			{Error: &Failure{ID: a, Code: int(i), Message: b, Retry: flag}},
		} {
			line := appendReply(nil, r)
			if strings.ContainsAny(string(line), "\n\r") {
				t.Fatalf("a line holds a line break: %q", line)
			}
			got, err := ParseReply(line)
			if err != nil {
				t.Fatalf("%q is written but cannot be read: %v", line, err)
			}
			// Only what is not valid UTF-8 may change, and only once.
			again := appendReply(nil, got)
			if string(again) != string(line) {
				t.Fatalf("%q is read and written again as %q", line, again)
			}
		}
	})
}

func FuzzJSONString(f *testing.F) {
	f.Add("a\"\\/\b\f\n\r\t\x00\x1f\x7f\u2028\u2029<>&\xff\xed\xa0\x80😀")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(AppendJSONString(nil, s), &got); err != nil {
			t.Fatalf("%q is written as %q, which encoding/json refuses: %v", s, AppendJSONString(nil, s), err)
		}
		if want := string([]rune(s)); got != want {
			t.Fatalf("%q should be read back as %q, not %q", s, want, got)
		}
		if of := AppendJSONString(nil, []byte(s)); string(of) != string(AppendJSONString(nil, s)) {
			t.Fatalf("%q is written in two ways, as bytes as %q", s, of)
		}
	})
}

func BenchmarkAppendMessage(b *testing.B) {
	m := &Message{Offset: 4711, Time: 1700000000000, User: "ann", Client: "c1-4711", Data: []byte(`"hello everyone, 大家好!"`)}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendMessage(dst[:0], m)
	}
}

func BenchmarkAppendError(b *testing.B) {
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendError(dst[:0], "id-1", ErrUnavailable)
	}
}

func BenchmarkParseReply(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _ = ParseReply([]byte(replies[1].line))
	}
}
