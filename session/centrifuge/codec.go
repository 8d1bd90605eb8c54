package centrifuge

import (
	"encoding/json"

	"github.com/centrifugal/protocol"

	"barrage/channel"
	"barrage/fanout"
	"barrage/proto"
	"barrage/session"
	"barrage/ws"
)

// Format is an encoding and how it is framed: the index of a codec of Codecs.
type Format uint8

// Formats.
const (
	JSON           Format = iota // JSON in WebSocket text messages
	Protobuf                     // Protobuf in WebSocket binary messages
	Events                       // JSON in events of text/event-stream
	Lines                        // JSON in lines
	ProtobufStream               // Protobuf, delimited
	UniEvents                    // JSON of pushes, for clients that say nothing, in events of text/event-stream
	UniLines                     // the same in lines
	formats                      // how many there are
)

// overWebSocket is how many of them, the first, are for WebSockets and may be deflated.
const overWebSocket = Events

// unidirectional says whether clients of the format say nothing but what they connect with.
func (f Format) unidirectional() bool { return f >= UniEvents }

// wires are what the formats are made of.
var wires = [formats]wire{
	JSON:           {jsonEncoding{}, webSocket(ws.OpText)},
	Protobuf:       {protobufEncoding{}, webSocket(ws.OpBinary)},
	Events:         {jsonEncoding{}, bodyFraming(proto.FrameEvent)},
	Lines:          {jsonEncoding{}, bodyFraming(proto.FrameLine)},
	ProtobufStream: {protobufEncoding{}, delimited},
	UniEvents:      {pushEncoding{}, bodyFraming(proto.FrameEvent)},
	UniLines:       {pushEncoding{}, bodyFraming(proto.FrameLine)},
}

// wire is a format.
type wire struct {
	encoding
	framing
}

// reply is the frame of one reply.
func (w wire) reply(r *protocol.Reply) []byte {
	return w.append(nil, func(b []byte) []byte { return w.appendReply(b, r) })
}

// roster is the frame of a reply to who asks for a roster: what is the same for all is encoded once.
func (w wire) roster(id uint32, r *proto.Roster) []byte {
	reply := r.Form(w.name(), func() []byte {
		members := make(map[string]*protocol.ClientInfo, len(r.Members))
		for i := range r.Members {
			members[r.Members[i].Client] = clientInfo(&r.Members[i])
		}
		return w.appendReply(nil, &protocol.Reply{Presence: &protocol.PresenceResult{Presence: members}})
	})
	return w.append(make([]byte, 0, len(reply)+replyRoom), func(b []byte) []byte { return w.appendCopy(b, id, reply) })
}

// replyRoom is room for the id of a reply and what frames it.
const replyRoom = 64

// Codecs are the codecs of all formats, in their order. With a compression those for WebSockets follow deflated. They are to be put
// behind those of package session; the index of the first is Server.First.
func Codecs(c *session.Compression) (all []channel.Codec) {
	for _, w := range wires {
		all = append(all, codec{w, nil})
	}
	if c == nil {
		return all
	}
	for _, w := range wires[:overWebSocket] {
		all = append(all, codec{w, c})
	}
	return all
}

// codec writes pushes of one format, deflated when it has a compression.
type codec struct {
	wire
	compression *session.Compression
}

// AppendFrame implements channel.Codec.
func (c codec) AppendFrame(dst []byte, name string, m *proto.Message) []byte {
	start := len(dst)
	if channel, ok := proto.EventsBase(name); ok {
		dst = c.append(dst, func(b []byte) []byte { return c.appendReply(b, &protocol.Reply{Push: event(channel, m)}) })
	} else {
		dst = c.append(dst, func(b []byte) []byte { return c.appendPublication(b, name, m) })
	}
	if c.compression != nil {
		dst = c.deflate(dst, start, c.compression)
	}
	return dst
}

// event is the push of a member that joined or left. What cannot be read, because of another version, says nothing of anyone.
func event(channel string, m *proto.Message) *protocol.Push {
	var e proto.MemberEvent
	push := &protocol.Push{Channel: channel}
	switch err := json.Unmarshal(m.Data, &e); {
	case err == nil && e.Join != nil:
		push.Join = &protocol.Join{Info: clientInfo(e.Join)}
	case err == nil && e.Leave != nil:
		push.Leave = &protocol.Leave{Info: clientInfo(e.Leave)}
	}
	return push
}

func clientInfo(m *proto.MemberInfo) *protocol.ClientInfo {
	return &protocol.ClientInfo{User: m.User, Client: m.Client, ConnInfo: protocol.Raw(m.Info), ChanInfo: protocol.Raw(m.ChanInfo)}
}

// Reset implements channel.Codec: the client is unsubscribed, and subscribes again, which tells it where it is.
func (c codec) Reset(name string, _ proto.Position, _ string) fanout.Notice {
	return fanout.Notice{Frames: c.reply(&protocol.Reply{Push: unsubscribed(name, insufficientState)}), Leave: true}
}

// Skipped implements channel.Codec: the protocol has no way to say it.
func (codec) Skipped(string, uint64) fanout.Notice { return fanout.Notice{} }
