package centrifuge

import (
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
	// closing is what tells the client that the connection ends.
	closing(c proto.Close) []byte
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

func (webSocket) closing(c proto.Close) []byte { return ws.AppendClose(nil, c.Code, c.Reason) }
