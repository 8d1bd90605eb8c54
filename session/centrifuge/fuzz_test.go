package centrifuge

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/centrifugal/protocol"

	"barrage/auth"
	"barrage/proto"
)

// maxFuzzed is the largest message that is looked at, in bytes.
const maxFuzzed = 64 << 10

// feed gives a session a message, with all that is left over, and checks what must hold whatever the client sends.
func (c *client) feed(message []byte) {
	if len(message) > maxFuzzed {
		return
	}
	kept := bytes.Clone(message)
	for rest := message; len(rest) > 0; {
		before := len(rest)
		if rest = c.Message(rest); len(rest) >= before {
			c.t.Fatal("each call takes something")
		}
		if len(rest) > 0 && !c.Full() {
			c.t.Fatal("something is left over only when the session is full")
		}
		c.backend.release()
	}
	if !bytes.Equal(kept, message) {
		c.t.Fatal("the message belongs to the caller")
	}
	c.Session.mu.Lock()
	defer c.Session.mu.Unlock()
	n := 0
	for sub := c.subs; sub != nil; sub = sub.next {
		n++
	}
	if n != int(c.count) || n > DefaultChannels {
		c.t.Fatalf("there are %d subscriptions, %d are counted, and %d are allowed", n, c.count, DefaultChannels)
	}
}

func FuzzMessageJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"id":2,"subscribe":{"channel":"a","recover":true,"epoch":"e","offset":5}}`, `{"id":3,"publish":{"channel":"a","data":{"x": [1,2]}}}`,
		`{"id":4,"history":{"channel":"a","limit":-1,"since":{"offset":18446744073709551615}}}`, `{"id":5,"unsubscribe":{"channel":"a"}}`, `{"send":{"data":null}}`,
		"{\"id\":6,\"rpc\":{}}\n{\"id\":7,\"presence\":{\"channel\":\"a\"}}", `{"id":8,"sub_refresh":{"channel":"a","type":1,"track":[{}]}}`, `{"id":9,"refresh":{}}`,
		`{"id":1,"subscribe":{"tf":{"nodes":[{"nodes":[]}]}}}`, `{"id":4294967296}`, "[", "\n\n", `{"id":2,"subscribe":{"channel":"live:a","join_leave":true}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		c := open(t, Server{RPC: func(c Call) {
			if c.Done != nil {
				c.Done(c.Data, nil)
			}
		}}, JSON)
		c.Message([]byte(`{"id":1,"connect":{}}`))
		c.feed(message)
		fresh := open(t, Server{Policy: &auth.Policy{Default: auth.Closed}}, JSON)
		fresh.feed(message)
	})
}

func FuzzMessageProtobuf(f *testing.F) {
	command := func(c *protocol.Command) []byte {
		b, _ := c.MarshalCF()
		return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
	}
	connect := command(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Subs: map[string]*protocol.SubscribeRequest{"a": {Recover: true}}}})
	for _, c := range []*protocol.Command{
		{},
		{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "a", Recover: true, Offset: 1 << 63}},
		{Id: 3, Publish: &protocol.PublishRequest{Channel: "a", Data: []byte(`{}`)}},
		{Id: 4, History: &protocol.HistoryRequest{Channel: "a", Limit: -5, Reverse: true, Since: &protocol.StreamPosition{Offset: 1}}},
		{Send: &protocol.SendRequest{}},
		{Id: 5, Subscribe: &protocol.SubscribeRequest{Channel: "a", Tf: &protocol.FilterNode{Nodes: []*protocol.FilterNode{{}}}}},
	} {
		f.Add(command(c))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0xff, 0xff, 0x7f, 1})
	f.Fuzz(func(t *testing.T, message []byte) {
		c := open(t, Server{}, Protobuf)
		c.Message(connect)
		c.feed(message)
		open(t, Server{}, Protobuf).feed(message)
	})
}

// TestDeclaredLengthsAllocateNothing gives a session lengths that are not there.
func TestDeclaredLengthsAllocateNothing(t *testing.T) {
	for name, message := range map[string][]byte{
		"of a command": binary.AppendUvarint(nil, 1<<40),
		"of a field":   {6, 0x2a, 0xff, 0xff, 0xff, 0xff, 0x07}, // subscribe, of 2 GiB
		"of a number":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		s := open(t, Server{}, Protobuf)
		allocated := testing.AllocsPerRun(1, func() { s.Message(message) })
		s.expect("close 3501 bad request")
		if allocated > 20 {
			t.Errorf("a length %s that is not there allocates nothing: %f", name, allocated)
		}
	}
}

func FuzzPublication(f *testing.F) {
	f.Add("room", `{"a":1}`, "alice", "c1", uint64(5), `{"info":{"n":1},"tags":{"k":"v"}}`)
	f.Add("r\x00", `"`, "\xff", "", uint64(0), `{"tags":`)
	f.Fuzz(func(t *testing.T, name, data, user, client string, offset uint64, attributes string) {
		m := proto.Message{Offset: proto.Offset(offset), User: user, Client: client, Data: []byte(data), Attributes: []byte(attributes)}
		if _, err := proto.CompactJSON(m.Data); err != nil {
			m.Data = []byte("1")
		} else {
			m.Data, _ = proto.CompactJSON(m.Data)
		}
		a := proto.ParseAttributes(m.Attributes)
		m.Attributes, _ = a.Encode() // as they are kept
		for i, c := range Codecs(nil) {
			frame := c.AppendFrame(nil, name, &m)
			if i == int(JSON) && bytes.ContainsAny(frame[2:], "\n") && len(frame) < 126 {
				t.Errorf("a line holds no newline: %q", frame)
			}
		}
	})
}

func FuzzParseConnect(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"token":"t","subs":{"a":{"recover":true,"offset":18446744073709551615,"epoch":"e"},"b":null}}`, `{"subs":{"":{}}}`, "[]", "{"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseConnect(b)
		if err != nil {
			return
		}
		c := open(t, Server{Personal: true}, UniLines)
		c.Connect(r)
		c.backend.release()
		c.Session.mu.Lock()
		defer c.Session.mu.Unlock()
		if int(c.count) > DefaultChannels {
			t.Fatalf("%d channels are subscribed to; %d are allowed", c.count, DefaultChannels)
		}
	})
}
