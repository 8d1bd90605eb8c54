package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// frame is what one node says to others. In bytes (text is a uvarint length and that many bytes):
//
//	version  1 byte, frameVersion
//	kind     1 byte, frameKind
//	from     text, the id of the node that says it
//	id       uvarint, of a question or telling of that node, or of the question that is answered
//	name     text: the kind of a question or telling; the reason of a refusal
//	body     the rest
//
// The bodies of heartbeats are JSON, so that later versions can add to them; what is in the others is for those who use them.
type frame struct {
	kind frameKind
	from string
	id   uint64
	name string
	body []byte
}

type frameKind byte

const (
	frameHeartbeat frameKind = 1
	frameGoodbye   frameKind = 2
	frameQuestion  frameKind = 3
	frameAnswer    frameKind = 4
	frameRefusal   frameKind = 5
	frameTelling   frameKind = 6
)

const (
	frameVersion = 1
	// maxTextBytes bounds ids and names.
	maxTextBytes = 1024
)

// errFrame: the bytes are damaged, or of another version.
var errFrame = errors.New("bad frame of another node")

func appendFrame(dst []byte, f frame) []byte {
	dst = append(dst, frameVersion, byte(f.kind))
	dst = appendText(dst, f.from)
	dst = binary.AppendUvarint(dst, f.id)
	dst = appendText(dst, f.name)
	return append(dst, f.body...)
}

func appendText(dst []byte, s string) []byte {
	s = s[:min(len(s), maxTextBytes)]
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// parseFrame decodes b. The body is a part of b.
func parseFrame(b []byte) (f frame, err error) {
	if len(b) < 2 || b[0] != frameVersion {
		return f, fmt.Errorf("%w: it is not of version %d", errFrame, frameVersion)
	}
	f.kind = frameKind(b[1])
	if f.kind < frameHeartbeat || f.kind > frameTelling {
		return f, fmt.Errorf("%w: unknown kind %d", errFrame, f.kind)
	}
	b = b[2:]
	if f.from, b, err = cutText(b); err != nil {
		return f, err
	}
	id, n := binary.Uvarint(b)
	if n <= 0 {
		return f, fmt.Errorf("%w: its id is cut off or too large", errFrame)
	}
	f.id = id
	if f.name, f.body, err = cutText(b[n:]); err != nil {
		return f, err
	}
	if f.from == "" {
		return f, fmt.Errorf("%w: it does not say from whom it is", errFrame)
	}
	return f, nil
}

func cutText(b []byte) (text string, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > maxTextBytes || size > uint64(len(b)-n) {
		return "", nil, fmt.Errorf("%w: a text is cut off or too long", errFrame)
	}
	return string(b[n : n+int(size)]), b[n+int(size):], nil
}
