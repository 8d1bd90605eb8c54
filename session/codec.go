package session

import (
	"encoding/json"

	"barrage/channel"
	"barrage/fanout"
	"barrage/proto"
	"barrage/ws"
)

// Codecs are the wire formats of the plain protocols, by format.
func Codecs() []channel.Codec {
	return []channel.Codec{Raw: rawCodec{}, JSON: jsonCodec{}, SSE: eventCodec{}}
}

// DeflatedCodecs are Codecs and, after them in the same order, the formats over WebSocket deflated.
func DeflatedCodecs(c *Compression) []channel.Codec {
	all := Codecs()
	for _, plain := range Codecs()[:overWebSocket] {
		all = append(all, deflatedCodec{plain, c})
	}
	return all
}

// maxFrameHeader is room for the header of a server's frame.
const maxFrameHeader = 10

// appendText appends a text frame whose payload is what body appends.
func appendText(dst []byte, body func([]byte) []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, maxFrameHeader)...)
	dst = body(dst)
	payload := dst[start+maxFrameHeader:]
	header := ws.AppendHeader(dst[start:start], ws.Header{Fin: true, Op: ws.OpText, Length: uint64(len(payload))})
	n := copy(dst[start+len(header):], payload)
	return dst[:start+len(header)+n]
}

// rawCodec writes just the text.
type rawCodec struct{}

func (rawCodec) AppendFrame(dst []byte, _ string, m *proto.Message) []byte {
	return appendText(dst, func(b []byte) []byte { return proto.AppendRawText(b, m.Data) })
}

func (rawCodec) Reset(_ string, _ proto.Position, reason string) fanout.Notice {
	c := missed(reason)
	return fanout.Notice{Frames: ws.AppendClose(nil, c.Code, c.Reason), End: true}
}

// Skipped says nothing: there is no way to say it on /raw.
func (rawCodec) Skipped(string, uint64) fanout.Notice { return fanout.Notice{} }

// jsonCodec writes a message line.
type jsonCodec struct{}

func (jsonCodec) AppendFrame(dst []byte, name string, m *proto.Message) []byte {
	if _, ok := proto.EventsBase(name); ok {
		return appendLine(dst, appendEvent(nil, m.Data))
	}
	return appendText(dst, func(b []byte) []byte { return proto.AppendMessage(b, m) })
}

func (jsonCodec) Reset(_ string, p proto.Position, reason string) fanout.Notice {
	return fanout.Notice{Frames: appendLine(nil, proto.AppendReset(nil, proto.Reset{Epoch: p.Epoch, Offset: p.Offset, Reason: reason}))}
}

// Skipped says nothing of events: a roster tells who is there.
func (jsonCodec) Skipped(name string, n uint64) fanout.Notice {
	if _, ok := proto.EventsBase(name); ok {
		return fanout.Notice{}
	}
	return fanout.Notice{Frames: appendLine(nil, proto.AppendSkipped(nil, proto.Skipped{Count: n}))}
}

// appendEvent appends the line of a member that came or went. What cannot be read, because of another version, becomes a line that
// clients pass over.
func appendEvent(dst, data []byte) []byte {
	var e proto.MemberEvent
	switch err := json.Unmarshal(data, &e); {
	case err == nil && e.Join != nil:
		return proto.AppendJoin(dst, e.Join)
	case err == nil && e.Leave != nil:
		return proto.AppendLeave(dst, e.Leave)
	}
	return append(dst, "{}"...)
}
