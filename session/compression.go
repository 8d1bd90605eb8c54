package session

import (
	"sync/atomic"

	"barrage/channel"
	"barrage/proto"
	"barrage/ws"
)

// Compression says what is sent deflated to clients that have negotiated permessage-deflate, and counts it. One value serves
// a whole node.
type Compression struct {
	// Threshold is the smallest payload in bytes that is deflated. What does not become smaller is sent as it is.
	Threshold int

	Deflated atomic.Int64 // payloads deflated: of a message for all its receivers, once per wire format
	Before   atomic.Int64 // their bytes
	After    atomic.Int64 // their bytes as they are sent
}

// Frame deflates the text or binary frame that begins at start and is the last thing in frames, if that is worth it.
func (c *Compression) Frame(frames []byte, start int) []byte {
	h, _, _ := ws.ParseHeader(frames[start:])
	if h.Length < uint64(c.Threshold) {
		return frames
	}
	frames, _ = ws.DeflateFrame(frames, start)
	after, _, _ := ws.ParseHeader(frames[start:])
	c.Deflated.Add(1)
	c.Before.Add(int64(h.Length))
	c.After.Add(int64(after.Length))
	return frames
}

// deflatedCodec writes what another codec writes, deflated where that is worth it.
type deflatedCodec struct {
	channel.Codec
	compression *Compression
}

func (d deflatedCodec) AppendFrame(dst []byte, name string, m *proto.Message) []byte {
	start := len(dst)
	return d.compression.Frame(d.Codec.AppendFrame(dst, name, m), start)
}
