package gateway

import (
	"testing"

	"github.com/centrifugal/protocol"
)

func TestACentrifugeClientSubscribesAndPublishes(t *testing.T) {
	w := start(t, Options{})
	c := w.dial("/connection/websocket", "Sec-WebSocket-Protocol", "centrifuge-json")
	if got := c.Subprotocol(); got != "centrifuge-json" {
		t.Errorf("the subprotocol that was offered is chosen, not %q", got)
	}
	c.send(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"room"}}` + "\n" + `{"id":3,"publish":{"channel":"room","data":{"a": 1}}}` + "\n" + `{"id":4,"history":{"channel":"room","limit":10}}`)
	for range 5 {
		t.Log(c.line())
	}
}

// centrifuge reads the next reply.
func (c *client) centrifuge() *protocol.Reply {
	c.t.Helper()
	line := c.line()
	r, err := protocol.NewJSONReplyDecoder([]byte(line)).Decode()
	if err != nil {
		c.t.Fatalf("%s: %v", line, err)
	}
	return r
}
