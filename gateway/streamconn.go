package gateway

import (
	"time"

	"barrage/proto"
)

// streamConn is the connection of a stream: one that is written to alone. Of what conn has, it reads nothing and expects no
// answer to a ping: heard is when it was last pinged.
//
//	the client closes, or resets      the engine ends the connection
//	it takes no bytes                 closed after limits.write, as every connection
//	it has vanished                   the kernel gives up on bytes that it does not acknowledge (engine.Vigilant); the next
//	                                  ping is such bytes at the latest
type streamConn struct {
	conn
	ignored uint32 // owner: Read; bytes received, up to maxIgnored
}

// maxIgnored is how many bytes a client may send after its request, where nothing is expected of it.
const maxIgnored = 16 << 10

// Read implements engine.Handler.
func (c *streamConn) Read(b []byte) (more bool) {
	c.passOver(&c.ignored, b)
	return true
}

// passOver counts bytes that nobody expected, and closes a connection that sends too many.
func (c *conn) passOver(ignored *uint32, b []byte) {
	if c.ended {
		return
	}
	if *ignored += uint32(len(b)); *ignored > maxIgnored {
		c.violation(proto.CloseProtocol.With("nothing more is expected on this connection"))
	}
}

// Tick implements engine.Handler: it keeps the stream from looking dead, and closes a stalled one.
func (c *streamConn) Tick(now time.Time) (after time.Duration) {
	after, ok := c.stall(now)
	if !ok || !c.client.Greeted() {
		return 0
	}
	g, at := c.gateway, c.gateway.moment(now)
	silent := between(c.heard.Load(), at)
	if silent >= g.Ping {
		c.heard.Store(at)
		c.out.SendNow(c.client.Ping()) // what cannot be sent waits, or the socket is stalled
		silent = 0
	}
	return min(after, g.Ping-silent)
}
