package centrifuge

import (
	"github.com/centrifugal/protocol"

	"barrage/proto"
)

// parting is why a client is not subscribed any more. From 2500 on it subscribes again by itself.
type parting struct {
	code   uint32
	reason string
}

var (
	serverUnsubscribe = parting{2000, "server unsubscribe"}
	insufficientState = parting{2500, "insufficient state"}
	expired           = parting{2501, "expired"}
)

// unsubscribed is the push that tells of it.
func unsubscribed(channel string, p parting) *protocol.Push {
	return &protocol.Push{Channel: channel, Unsubscribe: &protocol.Unsubscribe{Code: p.code, Reason: p.reason}}
}

// failure is the reply to a command that failed. Codes that the protocol does not know become an internal error.
func failure(id uint32, err *proto.Error) *protocol.Reply {
	code := uint32(err.Code)
	if err.Code > 113 && err.Code < 400 {
		code = uint32(proto.ErrInternal.Code)
	}
	return &protocol.Reply{Id: id, Error: &protocol.Error{Code: code, Message: err.Message, Temporary: err.Retry}}
}
