package centrifuge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"

	"barrage/fanout"
	"barrage/proto"
	"barrage/session"
	"barrage/ws"
)

// entry is an event of a channel, as JSON clients are given it.
func entry(name string, data []byte) fanout.Entry {
	return fanout.Entry{Frame: Codecs(nil)[JSON].AppendFrame(nil, name, &proto.Message{Data: data})}
}

// payload is what the frame of a server holds.
func payload(t testing.TB, frame []byte, op ws.Opcode) []byte {
	t.Helper()
	h, n, err := ws.ParseHeader(frame)
	if err != nil || h.Op != op || !h.Fin || int(h.Length) != len(frame)-n {
		t.Fatalf("%x is one frame of opcode %d: %+v, %v", frame, op, h, err)
	}
	return frame[n:]
}

var texts = []string{"", "u", "ünïcode", `quo"te\`, "line\nfeed", "\u2028", "long name of a user with spaces", "<b>&"}

func randomMessage(r *rand.Rand) proto.Message {
	text := func() string { return texts[r.IntN(len(texts))] }
	data, _ := json.Marshal(map[string]string{text(): text()})
	m := proto.Message{Offset: proto.Offset(r.IntN(3) * r.IntN(1<<40)), User: text(), Client: text(), Data: data}
	a := proto.Attributes{}
	if r.IntN(2) == 0 {
		a.Info = json.RawMessage(`{"name":"Ä"}`)
	}
	if r.IntN(2) == 0 {
		a.ChanInfo = json.RawMessage(`[1,2]`)
	}
	if r.IntN(2) == 0 {
		a.Tags = map[string]string{text(): text(), "k": text()}
	}
	m.Attributes, _ = a.Encode()
	return m
}

func TestPublicationsAreWhatTheProtocolSays(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		m, name := randomMessage(r), "c"+texts[r.IntN(len(texts))]
		want := &protocol.Reply{Push: &protocol.Push{Channel: name, Pub: publication(&m)}}
		got, err := protocol.NewJSONReplyDecoder(payload(t, Codecs(nil)[JSON].AppendFrame(nil, name, &m), ws.OpText)).Decode()
		if err != nil || !same(got, want) {
			t.Fatalf("seed %d: as JSON %+v reads as %v, %v", seed, m, got, err)
		}
		got, err = protocol.NewProtobufReplyDecoder(payload(t, Codecs(nil)[Protobuf].AppendFrame(nil, name, &m), ws.OpBinary)).Decode()
		if err != nil || !same(got, want) {
			t.Fatalf("seed %d: as Protobuf %+v reads as %v, %v", seed, m, got, err)
		}
	}
}

// same compares what two replies say.
func same(a, b *protocol.Reply) bool {
	p, q := a.Push.Pub, b.Push.Pub
	info := func(i *protocol.ClientInfo) string {
		if i == nil {
			return "none"
		}
		return fmt.Sprintf("%q %q %q %q", i.User, i.Client, i.ConnInfo, i.ChanInfo)
	}
	return a.Id == b.Id && a.Push.Channel == b.Push.Channel && p.Offset == q.Offset && bytes.Equal(p.Data, q.Data) &&
		info(p.Info) == info(q.Info) && (len(p.Tags) == 0 && len(q.Tags) == 0 || reflect.DeepEqual(p.Tags, q.Tags))
}

func TestALeaveIsTold(t *testing.T) {
	data, _ := json.Marshal(proto.MemberEvent{Leave: &proto.MemberInfo{User: "u", Client: "c"}})
	got := string(payload(t, entry(proto.EventsOf("room"), data).Frame, ws.OpText))
	if want := `{"push":{"channel":"room","leave":{"info":{"user":"u","client":"c"}}}}`; got != want {
		t.Errorf("a leave is %s, not %s", want, got)
	}
}

// Streams hold the same JSON and Protobuf as WebSockets, and bare pushes for those who only listen.
func TestStreamsSayTheSame(t *testing.T) {
	m := proto.Message{Offset: 7, User: "u", Data: []byte(`{"a":1}`), Attributes: nil}
	all := Codecs(nil)
	frame := func(f Format, name string) []byte {
		return all[f].AppendFrame([]byte("before"), name, &m)[len("before"):]
	}
	asJSON, asProtobuf := string(payload(t, frame(JSON, "room"), ws.OpText)), string(payload(t, frame(Protobuf, "room"), ws.OpBinary))
	push := strings.TrimSuffix(strings.TrimPrefix(asJSON, `{"push":`), `}`)
	for f, want := range map[Format]string{
		Events: "data: " + asJSON + "\n\n", Lines: asJSON + "\n", ProtobufStream: asProtobuf,
		UniEvents: "data: " + push + "\n\n", UniLines: push + "\n",
	} {
		if got := string(frame(f, "room")); got != want {
			t.Errorf("format %d writes %q, not %q", f, want, got)
		}
	}
	m.Data, _ = json.Marshal(proto.MemberEvent{Join: &proto.MemberInfo{User: "u", Client: "c"}})
	if got, want := string(frame(UniLines, proto.EventsOf("room"))), `{"channel":"room","join":{"info":{"user":"u","client":"c"}}}`+"\n"; got != want {
		t.Errorf("a member that joins is the push %q, not %q", want, got)
	}
	for f, want := range map[Format]string{
		Events: `data: {"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}`, UniLines: `{"disconnect":{"code":3001,"reason":"shutdown"}}`,
	} {
		if got := wires[f].closing(wires[f].encoding, proto.Close{Code: 3001, Reason: "shutdown"}); strings.TrimSpace(string(got)) != want {
			t.Errorf("format %d ends with %s, not %s", f, want, got)
		}
	}
}

func TestSkippedSaysNothing(t *testing.T) {
	for i, c := range Codecs(nil) {
		if n := c.Skipped("room", 3); len(n.Frames) > 0 || n.End || n.Leave {
			t.Errorf("format %d has no way to say that messages were skipped: %+v", i, n)
		}
	}
}

func TestDeflatedFormatsFollow(t *testing.T) {
	c := &session.Compression{Threshold: 64}
	all := Codecs(c)
	if want := int(formats + overWebSocket); len(all) != want {
		t.Fatalf("there are %d codecs, those for WebSockets twice, not %d", want, len(all))
	}
	m := proto.Message{Offset: 1, Data: fmt.Appendf(nil, `"%0300d"`, 0)}
	for i, op := range []ws.Opcode{ws.OpText, ws.OpBinary} {
		plain, deflated := all[i].AppendFrame(nil, "room", &m), all[int(formats)+i].AppendFrame(nil, "room", &m)
		a := ws.NewAssembler(&ws.Rules{FromServer: true, Deflate: true, MaxMessage: 1 << 20})
		err := a.Feed(deflated, func(ev ws.Event) error {
			if ev.Op != op || !ev.Deflated || !bytes.Equal(ev.Payload, payload(t, plain, op)) {
				t.Errorf("format %d deflated says the same: %+v", i, ev)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	m := proto.Message{Offset: 123456, Time: 1_700_000_000_000, User: "alice", Client: "abcdefghijklmnop", Data: fmt.Appendf(nil, `{"text":"%0100d"}`, 0)}
	codecs := append(session.Codecs()[session.JSON:], Codecs(nil)...)
	for i, name := range []string{"ws", "json", "protobuf"} {
		b.Run(name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = codecs[i].AppendFrame(buf[:0], "room", &m)
			}
			b.ReportMetric(float64(len(buf)), "B/frame")
		})
	}
}
