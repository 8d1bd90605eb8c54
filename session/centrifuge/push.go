package centrifuge

import (
	"github.com/centrifugal/protocol"

	"barrage/proto"
)

// pushEncoding writes for clients of unidirectional transports, which send no commands and so have no replies: they are given bare
// pushes, as JSON. The reply to connect is a push, too.
type pushEncoding struct{ jsonEncoding }

func (pushEncoding) name() string { return "centrifuge-uni-json" }

func (pushEncoding) appendReply(dst []byte, r *protocol.Reply) []byte {
	push := r.Push
	if push == nil {
		push = &protocol.Push{}
	}
	if c := r.Connect; c != nil {
		push.Connect = &protocol.Connect{
			Client: c.Client, Version: c.Version, Data: c.Data, Subs: c.Subs, Expires: c.Expires, Ttl: c.Ttl, Ping: c.Ping,
		}
	}
	return push.AppendJSON(dst)
}

func (pushEncoding) appendPublication(dst []byte, channel string, m *proto.Message) []byte {
	return appendPush(dst, channel, m)
}
