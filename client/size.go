package client

import (
	"fmt"

	"barrage/proto"
)

// TooLargeError says that a command is larger than the server takes. It ends that command alone; nothing was stored.
type TooLargeError struct {
	// Size is how many bytes the command has on the wire: its data, its id, and what stands around them.
	Size int
	// Limit is how many the server takes; 0 when it did not tell, as an older one, but closed the connection with 1009.
	Limit int
}

func (e *TooLargeError) Error() string {
	if e.Limit == 0 {
		return fmt.Sprintf("the command has %d bytes, more than the server takes: it closed the connection", e.Size)
	}
	return fmt.Sprintf("the command has %d bytes; the server takes at most %d", e.Size, e.Limit)
}

// fits checks a command against the limit of the connection that there is. The caller holds mu.
func (c *Client) fits(call *Call) error {
	if size := len(call.line); c.conn != nil && c.limit > 0 && size > c.limit {
		return &TooLargeError{Size: size, Limit: c.limit}
	}
	return nil
}

// tooLarge ends the command for which the server closed a connection with 1009. That is one of those that were written there and
// have no answer, and so the largest of them cannot be taken either. It is true when coming back makes sense: when a command was
// ended, or when the one may have been given up meanwhile.
func (c *Client) tooLarge(err error) (again bool) {
	if !closedWith(err, proto.CloseTooBig) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var largest *Call
	for _, call := range c.calls.byID {
		if call.flying && (largest == nil || len(call.line) > len(largest.line)) {
			largest = call
		}
	}
	if largest == nil || len(largest.line) <= c.calls.abandoned {
		return c.calls.abandoned > 0
	}
	c.finish(largest, answer{err: &TooLargeError{Size: len(largest.line)}})
	return true
}

// finish ends a command that is under way. The caller holds mu.
func (c *Client) finish(call *Call, a answer) {
	c.calls.remove(call)
	<-c.window // its own place
	call.done <- a
}
