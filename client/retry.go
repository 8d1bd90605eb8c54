package client

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/gorilla/websocket"

	"barrage/proto"
)

// backoff gives the pause before the next attempt: a random time up to a ceiling that doubles with each failure
// (full jitter), so that clients which lost the same node do not come back in one wave.
type backoff struct {
	least, most time.Duration
	// failures counts attempts since the last connection that lasted.
	failures int
}

// lasted is how long a connection must have been joined to count as one that works.
const lasted = 5 * time.Second

// maxRetryAfter bounds how long a client stays away because a server asks for it.
const maxRetryAfter = 5 * time.Minute

func (b *backoff) next(err error) time.Duration {
	ceiling := b.most
	if b.failures < 16 && b.least<<b.failures < b.most {
		ceiling = b.least << b.failures
	}
	b.failures++
	pause := time.Duration(rand.Int64N(int64(ceiling) + 1))
	if closedWith(err, proto.CloseUnavailable) {
		// The storage needs time, whichever node is asked.
		pause += b.least
	}
	return pause
}

// turns says whose turn it is: one URL after the other, but for those whose server asked to be left alone. A server that has no room, or is
// about to end, says so too, and means itself.
type turns struct {
	until []time.Time // by URL; zero for nothing asked
}

// after is the attempt that follows one that ended with err, and how long to wait for it: pause, or longer when every server asked to be
// left alone for longer.
func (t *turns) after(attempt int, err error, pause time.Duration) (next int, wait time.Duration) {
	n, now := len(t.until), time.Now()
	if told := toldToStayAway(err); told > 0 {
		t.until[attempt%n] = now.Add(told + time.Duration(rand.Int64N(int64(told)/4+1))) // not all clients at the same moment
	}
	for i := attempt + 1; i <= attempt+n; i++ {
		if w := max(pause, t.until[i%n].Sub(now)); i == attempt+1 || w < wait {
			next, wait = i, w
		}
	}
	return next, wait
}

// toldToStayAway is how long the server that refused a handshake is not asked again; 0 when it did not say.
func toldToStayAway(err error) time.Duration {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return min(refused.RetryAfter, maxRetryAfter)
	}
	return 0
}

// closedWith compares the code only; the reason is for people.
func closedWith(err error, want proto.Close) bool {
	var closed proto.Close
	return errors.As(err, &closed) && closed.Code == want.Code
}

// terminal says whether coming back would end the same way.
func terminal(err error) bool {
	if errors.Is(err, errNoNewer) {
		return true
	}
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		switch refused.Status {
		case 408, 425, 429: // too late, too early, too many: another time
			return false
		}
		return refused.Status < 500
	}
	var closed proto.Close
	if !errors.As(err, &closed) {
		return false
	}
	switch closed.Code {
	case websocket.CloseNormalClosure, websocket.CloseProtocolError, websocket.CloseUnsupportedData,
		websocket.CloseInvalidFramePayloadData, websocket.ClosePolicyViolation, websocket.CloseMessageTooBig:
		return true
	}
	// 4000 to 4999 follow the Centrifuge convention; everything else (1001, 1006, 1011 to 1013, …) is about the node.
	return closed.Code >= 3500 && closed.Code < 4000 || closed.Code >= 4500 && closed.Code < 5000
}
