package load

import (
	"errors"
	"fmt"

	"barrage/ws"
)

// errFrame is a frame that no server may send.
var errFrame = errors.New("the server sent a frame that cannot be read")

// frameSink takes what a scan finds. The slices are valid during the call.
type frameSink interface {
	// marker is a message, once for each marker in a text or binary frame.
	marker(m Marker)
	// controlFrame is a ping, pong or close frame.
	controlFrame(op ws.Opcode, payload []byte)
}

// scan reads the whole frames at the start of b and tells how many bytes they have. What is left is the beginning of a
// frame; need is how many bytes it has at least. A marker that is divided between the fragments of a message is not found.
func scan(b []byte, sink frameSink) (n, need int, err error) {
	for n < len(b) {
		op, header, length, ok := peek(b[n:])
		if !ok {
			var h ws.Header
			if h, header, err = ws.ParseHeader(b[n:]); err != nil {
				return n, 0, fmt.Errorf("%w: %w", errFrame, err)
			}
			if header == 0 {
				return n, len(b) - n + 1, nil
			}
			if h.Masked || h.Length > 1<<30 {
				return n, 0, fmt.Errorf("%w: masked, or longer than 1 GiB", errFrame)
			}
			op, length = h.Op, int(h.Length)
		}
		end := n + header + length
		if end > len(b) {
			return n, header + length, nil
		}
		payload := b[n+header : end]
		n = end
		if op.Control() {
			sink.controlFrame(op, payload)
			continue
		}
		for {
			m, rest, ok := nextMarker(payload)
			if !ok {
				break
			}
			sink.marker(m)
			payload = rest
		}
	}
	return n, 0, nil
}

// peek reads the header of the commonest frames: whole texts of up to 65,535 bytes. Everything else is not ok.
func peek(b []byte) (op ws.Opcode, header, length int, ok bool) {
	if len(b) < 4 || b[0] != 0x81 {
		return 0, 0, 0, false
	}
	switch {
	case b[1] < 126:
		return ws.OpText, 2, int(b[1]), true
	case b[1] == 126:
		length = int(b[2])<<8 | int(b[3])
		return ws.OpText, 4, length, length >= 126
	}
	return 0, 0, 0, false
}
