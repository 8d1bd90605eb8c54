package gateway

import (
	"testing"
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
