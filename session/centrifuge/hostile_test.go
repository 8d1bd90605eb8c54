package centrifuge

import (
	"strings"
	"testing"

	"github.com/centrifugal/protocol"

	"barrage/proto"
)

// A reply with id 0 would be taken for something else: for a ping when it is empty.
func TestWithoutAnIDNothingIsAnswered(t *testing.T) {
	for _, in := range []string{
		`{"send":{"data":1},"ping":{}}`,
		`{"send":{"data":1},"subscribe":{"channel":"a"}}`,
		`{"send":{"data":1},"rpc":{}}`,
		`{"ping":{}}`,
		`{"unsubscribe":{"channel":"a"}}`,
	} {
		c := open(t, Server{RPC: func(Call) { t.Errorf("%s is no command", in) }}, JSON).connect()
		c.Message([]byte(in))
		c.expect("close 3501 a command has no id")
		if c.backend.isThere("a") {
			t.Errorf("%s subscribes nobody", in)
		}
	}
	for _, in := range []string{`{"send":{},"connect":{}}`, `{"connect":{}}`} {
		c := open(t, Server{}, JSON)
		c.Message([]byte(in))
		c.expect("close 3501 a command has no id")
	}
}

func TestOddCommands(t *testing.T) {
	const bad = "close 3501 bad request"
	for in, want := range map[string]string{
		`{"id":2,"ping":{}}garbage`:                       bad,
		`{"id":2,"ping":{}} {"id":3,"ping":{}}`:           bad,
		`{"id":-2,"ping":{}}`:                             bad,
		`{"id":4294967296,"ping":{}}`:                     bad,
		`{"id":2,"publish":{"channel":"a","data":}}`:      bad,
		"{\"id\":2,\"subscribe\":{\"channel\":\"\xff\"}}": bad,
		"null":                         bad,
		"\x00":                         bad,
		`{"id":2,"ping":null}`:         `{"id":2,"error":{"code":104,"message":"method not found"}}`,
		`{"id":2,"unsubscribe":{}}`:    `{"id":2,"unsubscribe":{}}`,
		`{"id":1,"ping":{}}`:           `{"id":1,"ping":{}}`, // an id that was used is not looked at
		`{"id":2,"presence":{}}`:       `{"id":2,"error":{"code":107,"message":"bad channel name: it is empty; give 1 to 255 bytes of UTF-8"}}`,
		`{"id":2,"presence_stats":{}}`: `{"id":2,"error":{"code":107,"message":"bad channel name: it is empty; give 1 to 255 bytes of UTF-8"}}`,
		`{"id":2,"subscribe":{"channel":"a","recover":true,"offset":18446744073709551615,"epoch":"e"}}`:                           `{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"was_recovering":true}}`,
		`{"id":2,"subscribe":{"channel":"a"` + strings.Repeat(`,"tf":{"nodes":[{"op":"and"`, 1) + strings.Repeat(`}]}`, 1) + `}}`: `{"id":2,"error":{"code":108,"message":"there are no filters by tags: subscribe without tf"}}`,
	} {
		c := open(t, Server{}, JSON).connect()
		c.Message([]byte(in))
		c.expect(want)
	}
}

// nested is a filter in a filter, and so on.
func nested(depth int) *protocol.FilterNode {
	node := &protocol.FilterNode{}
	for range depth {
		node = &protocol.FilterNode{Nodes: []*protocol.FilterNode{node}}
	}
	return node
}

func TestADeepFilterIsDeclined(t *testing.T) {
	c := open(t, Server{}, Protobuf)
	send := func(command *protocol.Command) {
		b, err := command.MarshalCF()
		if err != nil {
			t.Fatal(err)
		}
		c.Message(append(protobufLength(len(b)), b...))
	}
	send(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}})
	c.take(1)
	send(&protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "a", Tf: nested(10_000)}})
	if got := c.take(1)[0]; !strings.Contains(got, "filters by tags") && !strings.HasPrefix(got, "close 3501") {
		t.Errorf("a filter of any depth is declined, not answered with %q", got)
	}
}

func protobufLength(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// A client is told by the code of its unsubscription whether to come back; the error of the subscribe that it ends must say the same.
func TestWhoIsUnsubscribedBeforeItIsSubscribedKnowsWhetherToComeBack(t *testing.T) {
	for code, want := range map[uint16]string{
		0:    `{"id":2,"error":{"code":108,"message":"unsubscribed before it was subscribed"}}`,
		2500: `{"id":2,"error":{"code":100,"message":"unsubscribed before it was subscribed; subscribe again","temporary":true}}`,
	} {
		c := open(t, Server{}, JSON).connect()
		c.backend.held = true
		c.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
		c.Control(proto.Control{Kind: proto.ControlUnsubscribe, Channel: "a", Code: code, Reason: "r"})
		c.take(1)
		c.backend.release()
		c.expect(want)
		if c.backend.isThere("a") {
			t.Error("nobody is present")
		}
	}
}
