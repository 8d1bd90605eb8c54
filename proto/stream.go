package proto

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

// Framing tells payloads apart in a body of HTTP that has no end.
type Framing uint8

// Framings.
const (
	// FrameEvent makes each payload the data of an event of text/event-stream.
	FrameEvent Framing = iota
	// FrameLine ends each payload, JSON without line breaks, with a newline.
	FrameLine
	// FrameDelimited begins each payload with its length as a varint, as Protobuf messages are delimited.
	FrameDelimited
)

// ContentType is the type of a body of such frames.
func (f Framing) ContentType() string {
	switch f {
	case FrameEvent:
		return "text/event-stream"
	case FrameLine:
		return "application/x-ndjson"
	}
	return "application/octet-stream"
}

// Append appends payload as one frame.
func (f Framing) Append(dst, payload []byte) []byte {
	switch f {
	case FrameEvent:
		return AppendEvent(dst, "", nil, func(b []byte) []byte { return append(b, payload...) })
	case FrameLine:
		return append(append(dst, payload...), '\n')
	}
	return append(binary.AppendUvarint(dst, uint64(len(payload))), payload...)
}

// AppendEvent appends an event of text/event-stream (HTML, section 9.2.6): its name, unless that is empty, its id, unless at is
// nil, and the data that data appends. A line break in the data begins another line of data, so that nothing in it can begin
// another field or event: the client puts \n in its place.
func AppendEvent(dst []byte, name string, at *Position, data func([]byte) []byte) []byte {
	if name != "" {
		dst = append(append(append(dst, "event: "...), name...), '\n')
	}
	if at != nil {
		dst = append(dst, "id: "...)
		dst = AppendEventID(dst, *at)
		dst = append(dst, '\n')
	}
	dst = append(dst, dataField...)
	start := len(dst)
	dst = data(dst)
	return append(splitLines(dst, start), "\n\n"...)
}

const dataField = "data: "

// splitLines begins a field of its own for each line of b[start:].
func splitLines(b []byte, start int) []byte {
	if bytes.IndexByte(b[start:], '\n') < 0 && bytes.IndexByte(b[start:], '\r') < 0 {
		return b
	}
	data := bytes.ReplaceAll(b[start:], []byte("\r\n"), []byte{'\n'})
	data = bytes.ReplaceAll(data, []byte{'\r'}, []byte{'\n'})
	return append(b[:start], bytes.ReplaceAll(data, []byte{'\n'}, []byte("\n"+dataField))...)
}

// AppendComment appends a comment of text/event-stream, which clients pass over. Line breaks in it become spaces.
func AppendComment(dst []byte, text string) []byte {
	dst = append(dst, ": "...)
	dst = append(dst, strings.NewReplacer("\n", " ", "\r", " ").Replace(text)...)
	return append(dst, "\n\n"...)
}

// AppendRetry appends the field that tells an EventSource how long to wait before it connects again, in milliseconds.
func AppendRetry(dst []byte, milliseconds int) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, int64(milliseconds), 10)
	return append(dst, "\n\n"...)
}

// AppendEventID appends the id of the event that a position is: EPOCH/OFFSET. ParseEventID reads it. The epoch must not hold
// control characters.
func AppendEventID(dst []byte, p Position) []byte {
	dst = append(dst, p.Epoch...)
	dst = append(dst, '/')
	return strconv.AppendUint(dst, uint64(p.Offset), 10)
}

// maxEventID is the longest id that is read, in bytes.
const maxEventID = 256

// ParseEventID reads what a client says that the id of the last event was. The error is an *Error that matches ErrBadRequest
// and says in a sentence what is wrong.
func ParseEventID(id string) (p Position, err error) {
	i := strings.LastIndexByte(id, '/')
	if i < 0 || len(id) > maxEventID || checkText(ErrBadRequest, id, maxEventID) != nil {
		return p, ErrBadRequest.With("the id of the last event must be one that this server sent, EPOCH/OFFSET, not %s", quoteShort([]byte(id)))
	}
	n, ok := parseWhole(id[i+1:], 0, uint64(MaxOffset))
	if !ok {
		return p, ErrBadRequest.With("the id of the last event must end with an offset from 0 to %d, not %s", MaxOffset, quoteShort([]byte(id[i+1:])))
	}
	return Position{Epoch: Epoch(id[:i]), Offset: Offset(n)}, nil
}

// Resume makes q resume after p, whatever else it asked for.
func (q *JoinQuery) Resume(p Position) {
	q.Since, q.Epoch, q.Last = &p.Offset, p.Epoch, 0
}
