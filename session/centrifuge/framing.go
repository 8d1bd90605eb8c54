package centrifuge

import (
	"github.com/centrifugal/protocol"

	"barrage/proto"
	"barrage/session"
	"barrage/ws"
)

// framing puts what an encoding wrote on the wire.
type framing interface {
	// append appends one frame that holds what body appends.
	append(dst []byte, body func([]byte) []byte) []byte
	// deflate deflates the frame that begins at start and is the last thing in frames, if that is worth it.
	deflate(frames []byte, start int, c *session.Compression) []byte
	// closing is what tells the client, who reads e, that the connection ends.
	closing(e encoding, c proto.Close) []byte
}

// webSocket is one WebSocket message a frame, of the given opcode.
type webSocket ws.Opcode

// maxFrameHeader is room for the header of a server's frame.
const maxFrameHeader = 10

func (op webSocket) append(dst []byte, body func([]byte) []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, maxFrameHeader)...)
	dst = body(dst)
	payload := dst[start+maxFrameHeader:]
	header := ws.AppendHeader(dst[start:start], ws.Header{Fin: true, Op: ws.Opcode(op), Length: uint64(len(payload))})
	n := copy(dst[start+len(header):], payload)
	return dst[:start+len(header)+n]
}

func (webSocket) deflate(frames []byte, start int, c *session.Compression) []byte {
	return c.Frame(frames, start)
}

func (webSocket) closing(_ encoding, c proto.Close) []byte {
	return ws.AppendClose(nil, c.Code, c.Reason)
}

// bodyFraming is of the body of an answer by HTTP that has no end. There are no close frames: the last push says why it ends.
type bodyFraming proto.Framing

// delimited is of an encoding that delimits what it writes by itself.
const delimited = bodyFraming(proto.FrameDelimited)

func (f bodyFraming) append(dst []byte, body func([]byte) []byte) []byte {
	switch proto.Framing(f) {
	case proto.FrameEvent:
		return proto.AppendEvent(dst, "", nil, body)
	case proto.FrameLine:
		return append(body(dst), '\n')
	}
	return body(dst)
}

// deflate leaves what is to be compressed to a proxy.
func (bodyFraming) deflate(frames []byte, _ int, _ *session.Compression) []byte { return frames }

func (f bodyFraming) closing(e encoding, c proto.Close) []byte {
	last := &protocol.Reply{Push: &protocol.Push{Disconnect: &protocol.Disconnect{Code: uint32(c.Code), Reason: c.Reason}}}
	return f.append(nil, func(b []byte) []byte { return e.appendReply(b, last) })
}
