package client

import (
	"fmt"
	"sync/atomic"
	"time"

	"barrage/proto"
)

// Event is one thing that happened; exactly one field is set. What it points to belongs to the receiver.
type Event struct {
	// Welcome says that the channel was joined, for the first time or again.
	Welcome *proto.Welcome
	// Message is the next message of the channel.
	Message *proto.Message
	// Reset says that messages were missed and that the stream goes on after its offset.
	Reset *proto.Reset
	// Skipped says that this client was too slow for a live channel and was not given some of its messages.
	Skipped *proto.Skipped
	// Join and Leave tell of a member that came or went, with Options.Members.
	Join, Leave *proto.MemberInfo
	// Gap says that the server left out messages without a reset, which it must not do. The message after the gap
	// follows.
	Gap *Gap
	// Disconnected says that a connection ended or could not be made, and when the next attempt follows.
	Disconnected *Disconnected
}

// Gap is a run of offsets that never came, both ends included.
type Gap struct {
	From, To proto.Offset
}

// Disconnected tells why there is no connection.
type Disconnected struct {
	// URL is the node or balancer, without the query.
	URL string
	// Err is why: a proto.Close, a *RefusedError, or what the network said.
	Err error
	// Retry is the pause before the next attempt.
	Retry time.Duration
}

// RefusedError is an answer to the handshake that is no upgrade.
type RefusedError struct {
	// Status is the HTTP status, Text the beginning of the body.
	Status int
	Text   string
	// RetryAfter is how long the server asks to stay away; 0 when it says nothing of it.
	RetryAfter time.Duration
}

func (e *RefusedError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("the server refused the connection: HTTP %d", e.Status)
	}
	return fmt.Sprintf("the server refused the connection: HTTP %d: %s", e.Status, e.Text)
}

// Stats counts what happened to a client since New.
type Stats struct {
	// Connects counts welcomes.
	Connects int64
	// Messages counts messages handed over, Repeats those that the server sent again, Missing the offsets
	// in gaps, and Skipped what was not given because this client was too slow.
	Messages, Repeats, Missing, Skipped int64
	// Resets counts resets.
	Resets int64
	// Resent counts commands that were sent again, after a temporary error or a lost connection.
	Resent int64
	// Unknown counts lines of the server that could not be understood or belonged to nothing.
	Unknown int64
}

type counters struct {
	connects, messages, repeats, missing, skipped, resets, resent, unknown atomic.Int64
}

// Stats reads the counters.
func (c *Client) Stats() Stats {
	s := &c.stats
	return Stats{
		Connects: s.connects.Load(), Messages: s.messages.Load(), Repeats: s.repeats.Load(), Missing: s.missing.Load(),
		Skipped: s.skipped.Load(), Resets: s.resets.Load(), Resent: s.resent.Load(), Unknown: s.unknown.Load(),
	}
}
