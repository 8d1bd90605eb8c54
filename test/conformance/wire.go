package conformance

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// noStatus stands for a close frame without a code. RFC 6455, section 7.1.5.
const noStatus = 1005

// frame is one frame of a client, as wrong as a case needs it.
type frame struct {
	op      byte
	payload string
	more    bool // FIN is not set
	rsv     byte // the three reserved bits, RSV1 being 4
	naked   bool // not masked
	length  int  // what the header says when it is not the size of payload, 0 otherwise
	wide    int  // how many bytes hold the length, 2 or 8, when they are too many; 0 otherwise
}

// key masks all frames: it has no zero byte, which would leave payload as it is.
var key = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// append appends the bytes of f.
func (f frame) append(dst []byte) []byte {
	first, length, mask := f.op|f.rsv<<4, max(f.length, len(f.payload)), byte(0x80)
	if !f.more {
		first |= 0x80
	}
	if f.naked {
		mask = 0
	}
	switch {
	case f.wide == 8 || length > 0xFFFF:
		dst = binary.BigEndian.AppendUint64(append(dst, first, mask|127), uint64(length))
	case f.wide == 2 || length > 125:
		dst = binary.BigEndian.AppendUint16(append(dst, first, mask|126), uint16(length))
	default:
		dst = append(dst, first, mask|byte(length))
	}
	if f.naked {
		return append(dst, f.payload...)
	}
	dst = append(dst, key[:]...)
	for i := range len(f.payload) {
		dst = append(dst, f.payload[i]^key[i%4])
	}
	return dst
}

// join is what frames look like one after the other.
func join(frames ...frame) (b []byte) {
	for _, f := range frames {
		b = f.append(b)
	}
	return b
}

// closing is the payload of a close frame.
func closing(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// message is what a server sends: a whole text or binary message, or a control frame.
type message struct {
	op   byte
	data string
}

func (m message) String() string {
	name := map[byte]string{opText: "text", opBinary: "binary", opClose: "close", opPing: "ping", opPong: "pong"}[m.op]
	if len(m.data) > 40 {
		return fmt.Sprintf("%s of %d bytes, %.40q…", name, len(m.data), m.data)
	}
	return fmt.Sprintf("%s %q", name, m.data)
}

// code of a close frame.
func (m message) code() uint16 {
	if len(m.data) < 2 {
		return noStatus
	}
	return binary.BigEndian.Uint16([]byte(m.data))
}

// reader reads what a server sends, and finds fault with frames that no server may send.
type reader struct {
	*bufio.Reader
	inflate *inflater // nil when compression was not negotiated
	op      byte      // of the message under way, 0 without one
	rsv     byte
	text    []byte
}

// next reads a message or a control frame. The error is io.EOF when the server has ended its side between frames.
func (r *reader) next() (message, error) {
	for {
		op, rsv, fin, payload, err := r.frame()
		if err != nil {
			return message{}, err
		}
		switch {
		case op >= opClose:
			return control(op, rsv, fin, payload)
		case (op == opContinuation) != (r.op != 0):
			return message{}, fmt.Errorf("the server's fragments are out of order: opcode %d", op)
		case op == opContinuation && rsv != 0:
			return message{}, errors.New("the server's continuation has reserved bits")
		case op != opContinuation:
			r.op, r.rsv, r.text = op, rsv, nil
		}
		r.text = append(r.text, payload...)
		if fin {
			return r.whole()
		}
	}
}

// whole ends a message.
func (r *reader) whole() (m message, err error) {
	op, data := r.op, r.text
	r.op, r.text = 0, nil
	switch {
	case r.rsv == 0:
	case r.rsv != 4 || r.inflate == nil:
		return m, fmt.Errorf("the server's message has the reserved bits %03b", r.rsv)
	default:
		if data, err = r.inflate.message(data); err != nil {
			return m, fmt.Errorf("the server's message cannot be decompressed: %w", err)
		}
	}
	if op == opText && !utf8.Valid(data) {
		return m, errors.New("the server's text is not UTF-8")
	}
	return message{op, string(data)}, nil
}

func control(op, rsv byte, fin bool, payload []byte) (message, error) {
	if rsv != 0 || !fin || len(payload) > 125 || op > opPong {
		return message{}, fmt.Errorf("the server's control frame is wrong: opcode %d, reserved bits %03b, final %t, %d bytes", op, rsv, fin, len(payload))
	}
	if op == opClose && (len(payload) == 1 || len(payload) > 2 && !utf8.Valid(payload[2:])) {
		return message{}, fmt.Errorf("the server's close frame is wrong: %q", payload)
	}
	return message{op, string(payload)}, nil
}

// frame reads one frame.
func (r *reader) frame() (op, rsv byte, fin bool, payload []byte, err error) {
	var head [8]byte
	if _, err = io.ReadFull(r, head[:2]); err != nil {
		return op, rsv, fin, nil, err
	}
	op, rsv, fin = head[0]&15, head[0]>>4&7, head[0]&0x80 != 0
	masked, length, least, wide := head[1]&0x80 != 0, uint64(head[1]&0x7F), uint64(0), 0
	switch length {
	case 126:
		least, wide = 126, 2
	case 127:
		least, wide = 1<<16, 8
	}
	if wide > 0 {
		if _, err = io.ReadFull(r, head[8-wide:]); err != nil {
			return op, rsv, fin, nil, errors.Join(errTorn, err)
		}
		clear(head[:8-wide])
		length = binary.BigEndian.Uint64(head[:])
	}
	switch {
	case masked:
		return op, rsv, fin, nil, errors.New("the server's frame is masked")
	case length < least, length > 1<<30:
		return op, rsv, fin, nil, fmt.Errorf("the server's frame has %d bytes, told in %d", length, wide)
	}
	payload = make([]byte, length)
	if _, err = io.ReadFull(r, payload); err != nil {
		err = errors.Join(errTorn, err)
	}
	return op, rsv, fin, payload, err
}

var errTorn = errors.New("the connection ended within a frame")
