package gateway

import (
	"slices"
	"sync"

	"barrage/proto"
)

// emulatedConn is a connection of the Centrifuge protocol that is a stream, and whose client sends its commands in requests of their
// own. They are taken in the order in which the requests are, those of one request together, and wait while the session is full. So
// it has a pong to expect, as a WebSocket has.
type emulatedConn struct {
	centrifugeConn
	ignored uint32 // owner: Read; see streamConn
	secret  string // never changes; whoever knows it is the client
	inbox   inbox
}

// inbox is what was sent to a session that it has not taken yet.
type inbox struct {
	mu      sync.Mutex
	waiting [][]byte // owner: mu; in order
	size    int      // owner: mu; of what waits, in bytes
	busy    bool     // owner: mu; a goroutine gives the session what waits, and owns the session's Message
	ended   bool     // owner: mu; the connection has ended
	last    func()   // owner: mu; what the goroutine that is busy does once, when the connection has ended
}

const (
	// maxWaiting is how many bytes may wait for a session that is full, in addition to one request.
	maxWaiting = 256 << 10
	// waitingCost is what one request counts besides its bytes.
	waitingCost = 64
)

// Emulation implements centrifuge.Emulated.
func (c *emulatedConn) Emulation() (node, session string) { return c.gateway.Node, c.secret }

// Read implements engine.Handler.
func (c *emulatedConn) Read(b []byte) (more bool) {
	c.passOver(&c.ignored, b)
	return true
}

// take gives the session commands, which belong to it from now on, at once or when it has room for them. It reports false when it does
// not take them; a client that lets too many wait is sent away, so that none is left out of an order.
func (c *emulatedConn) take(commands []byte) bool {
	c.heard.Store(c.gateway.now())
	c.pinged.Store(0)
	if c.leaving.Load() {
		return false
	}
	in := &c.inbox
	in.mu.Lock()
	full := in.size > maxWaiting
	if full || in.ended {
		in.mu.Unlock()
		if full && c.client.End(proto.CloseSlow.With("too many commands wait for others to be answered")) {
			c.gateway.stats.Slow.Add(1)
		}
		return false
	}
	in.waiting = append(in.waiting, commands)
	in.size += len(commands) + waitingCost
	start := !in.busy
	in.busy = true
	in.mu.Unlock()
	c.gateway.stats.Received.Add(1)
	if start {
		c.work()
	}
	return true
}

// Resume implements centrifuge.Connection. A channel may be locked.
func (c *emulatedConn) Resume() {
	in := &c.inbox
	in.mu.Lock()
	start := !in.busy && len(in.waiting) > 0
	in.busy = in.busy || start
	in.mu.Unlock()
	if start {
		go c.work()
	}
}

// work gives the session what waits until it is full. The caller has made itself the one who is busy.
func (c *emulatedConn) work() {
	for {
		commands, ok := c.next()
		if !ok {
			return
		}
		if rest := c.message(commands); len(rest) > 0 {
			c.inbox.back(rest)
		}
	}
}

// next takes what waits first. When ok is false nobody is busy any more.
func (c *emulatedConn) next() (commands []byte, ok bool) {
	in := &c.inbox
	in.mu.Lock()
	if in.ended || len(in.waiting) == 0 || c.session.Full() {
		in.busy = false
		last := in.last
		in.last = nil
		in.mu.Unlock()
		if last != nil {
			last()
		}
		return nil, false
	}
	commands = in.waiting[0]
	if in.waiting = slices.Delete(in.waiting, 0, 1); len(in.waiting) == 0 {
		in.waiting = nil
	}
	in.size -= len(commands) + waitingCost
	in.mu.Unlock()
	return commands, true
}

// back puts back what the session had no room for, unless the connection has ended: nothing waits then.
func (in *inbox) back(rest []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return
	}
	in.waiting = slices.Insert(in.waiting, 0, rest)
	in.size += len(rest) + waitingCost
}

// Closed implements engine.Handler: nothing is called of the session after its end.
func (c *emulatedConn) Closed(err error) {
	c.gateway.emulated.remove(c)
	in := &c.inbox
	in.mu.Lock()
	in.ended, in.waiting = true, nil
	busy := in.busy
	if busy {
		in.last = func() { c.conn.Closed(err) }
	}
	in.mu.Unlock()
	if !busy {
		c.conn.Closed(err)
	}
}
