package centrifuge

import (
	"time"

	"barrage/limit"
	"barrage/proto"
)

// namesPerSecond is how often a client may name a channel that the node might not know yet, in the long run. At once it may do so twice
// as often as it may have channels: so all of them fit that it comes back to after it lost its connection.
const namesPerSecond = 50

// unfamiliar counts that the client names a channel that it is not subscribed to, and refuses what is too much: each name may cost the
// node a look into the journal, a subscription with the broker and a question to other nodes. It is called by Message alone.
func (s *Session) unfamiliar() *proto.Error {
	rate := limit.Rate{PerSecond: namesPerSecond, Burst: 2 * max(s.server().channels(), DefaultChannels)}
	at := time.Duration(s.server().now().UnixNano())
	wait := s.names.Take(rate, at)
	if wait > time.Second { // longer than a bucket can make anyone wait: the clock was set back
		s.names = limit.Bucket{}
		wait = s.names.Take(rate, at)
	}
	if wait == 0 {
		return nil
	}
	return proto.ErrTooMany.With("this connection names too many channels; at most %d a second are allowed; try again after %d ms",
		namesPerSecond, max(wait.Milliseconds(), 1))
}
