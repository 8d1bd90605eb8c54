package ws

import (
	"encoding/binary"
	"unicode/utf8"

	"barrage/proto"
)

// Opcode says what a frame is. RFC 6455, section 5.2.
type Opcode uint8

// The opcodes of RFC 6455, section 11.8. All others are reserved.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

// Control says whether op is a control frame's, reserved ones included. Section 5.5.
func (op Opcode) Control() bool { return op&0x8 != 0 }

// Known says whether op is defined.
func (op Opcode) Known() bool { return op <= OpBinary || op >= OpClose && op <= OpPong }

// Sizes in bytes.
const (
	// MaxHeader is the size of the longest frame header: 2 bytes, 8 of length and 4 of mask.
	MaxHeader = 14
	// MaxControl is the largest payload of a control frame. Section 5.5.
	MaxControl = 125
	// MaxReason is the longest reason of a close frame: what MaxControl leaves beside the code.
	MaxReason = MaxControl - 2
)

// Header is the header of a frame. RFC 6455, section 5.2:
//
//	byte 0: FIN (1 bit), RSV1 to RSV3 (3 bits), opcode (4 bits)
//	byte 1: MASK (1 bit), length (7 bits): 0 to 125, 126: 2 bytes follow, 127: 8 bytes follow, big endian
//	then the length, if it follows, and the 4 bytes of the masking key, if MASK is set
type Header struct {
	// Fin marks the last frame of a message.
	Fin bool
	// RSV holds the three reserved bits, RSV1 being 4.
	RSV uint8
	Op  Opcode
	// Masked says that the payload is masked with Key.
	Masked bool
	Key    [4]byte
	// Length of the payload in bytes, below 1<<63.
	Length uint64
}

// AppendHeader appends the bytes of h.
func AppendHeader(dst []byte, h Header) []byte {
	first := h.RSV<<4&0x70 | uint8(h.Op)&0x0F
	if h.Fin {
		first |= 0x80
	}
	mask := uint8(0)
	if h.Masked {
		mask = 0x80
	}
	// "the minimal number of bytes MUST be used to encode the length", section 5.2
	switch {
	case h.Length <= 125:
		dst = append(dst, first, mask|uint8(h.Length))
	case h.Length <= 0xFFFF:
		dst = append(dst, first, mask|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(h.Length))
	default:
		dst = append(dst, first, mask|127)
		dst = binary.BigEndian.AppendUint64(dst, h.Length)
	}
	if h.Masked {
		dst = append(dst, h.Key[:]...)
	}
	return dst
}

// ParseHeader reads the header that b begins with; n is its size in bytes, or 0 when b does not hold all of it. The
// error is a proto.Close: a length that is not minimal or has its highest bit set. Everything else that can be wrong
// depends on what came before and is judged by Assembler.
func ParseHeader(b []byte) (h Header, n int, err error) {
	if len(b) < 2 {
		return Header{}, 0, nil
	}
	n = 2
	length := uint64(b[1] & 0x7F)
	switch length {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	masked := b[1]&0x80 != 0
	if masked {
		n += 4
	}
	if len(b) < n {
		return Header{}, 0, nil
	}
	// "the minimal number of bytes MUST be used to encode the length", section 5.2
	switch length {
	case 126:
		if length = uint64(binary.BigEndian.Uint16(b[2:])); length <= 125 {
			return Header{}, 0, errLengthNotMinimal
		}
	case 127:
		length = binary.BigEndian.Uint64(b[2:])
		if length <= 0xFFFF {
			return Header{}, 0, errLengthNotMinimal
		}
		if length>>63 != 0 { // "the most significant bit MUST be 0", section 5.2
			return Header{}, 0, errLengthNegative
		}
	}
	h = Header{Fin: b[0]&0x80 != 0, RSV: b[0] >> 4 & 7, Op: Opcode(b[0] & 0x0F), Masked: masked, Length: length}
	if masked {
		copy(h.Key[:], b[n-4:n])
	}
	return h, n, nil
}

var (
	errLengthNotMinimal = proto.CloseProtocol.With("the length of a frame is not encoded in the fewest bytes (RFC 6455, 5.2)")
	errLengthNegative   = proto.CloseProtocol.With("the length of a frame has its highest bit set (RFC 6455, 5.2)")
)

// AppendFrame appends a whole frame of a server: not masked, not fragmented. payload of a control frame must not be
// longer than MaxControl.
func AppendFrame(dst []byte, op Opcode, payload []byte) []byte {
	dst = AppendHeader(dst, Header{Fin: true, Op: op, Length: uint64(len(payload))})
	return append(dst, payload...)
}

// AppendMaskedFrame appends a whole frame of a client: masked with key, not fragmented. Section 5.3 asks for a key
// that cannot be guessed, a new one for each frame.
func AppendMaskedFrame(dst []byte, op Opcode, key [4]byte, payload []byte) []byte {
	dst = AppendHeader(dst, Header{Fin: true, Op: op, Masked: true, Key: key, Length: uint64(len(payload))})
	start := len(dst)
	dst = append(dst, payload...)
	Mask(key, 0, dst[start:])
	return dst
}

// AppendClose appends a close frame of a server. reason is made valid UTF-8 and cut to MaxReason bytes at the end of a
// character. Code 0 makes a frame without code and reason. Section 5.5.1.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	return AppendFrame(dst, OpClose, AppendCloseBody(nil, code, reason))
}

// AppendCloseBody appends the payload of a close frame: see AppendClose.
func AppendCloseBody(dst []byte, code uint16, reason string) []byte {
	if code == 0 {
		return dst
	}
	dst = binary.BigEndian.AppendUint16(dst, code)
	room := MaxReason
	for _, r := range reason { // what is not valid UTF-8 comes as U+FFFD
		if room -= utf8.RuneLen(r); room < 0 {
			break
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// NoStatus is the code that stands for a close frame without one; it is never sent. Section 7.1.5.
const NoStatus = 1005

// ParseClose reads the payload of a close frame. The code is NoStatus when there is none. reason aliases payload.
// The error is a proto.Close.
func ParseClose(payload []byte) (code uint16, reason []byte, err error) {
	switch len(payload) {
	case 0:
		return NoStatus, nil, nil
	case 1: // "the first two bytes of the body MUST be a 2-byte unsigned integer", section 5.5.1
		return 0, nil, proto.CloseProtocol.With("the close frame has a body of one byte (RFC 6455, 5.5.1)")
	}
	code, reason = binary.BigEndian.Uint16(payload), payload[2:]
	if !validCode(code) {
		return 0, nil, proto.CloseProtocol.With("the close frame has the code %d, which must not be sent (RFC 6455, 7.4)", code)
	}
	if !utf8.Valid(reason) { // section 5.5.1, and section 8.1 for the code
		return 0, nil, proto.CloseBadData.With("the reason of the close frame is not valid UTF-8 (RFC 6455, 5.5.1)")
	}
	return code, reason, nil
}

// validCode says whether a close code may be sent. Section 7.4.1, with 1012 to 1014 that IANA has added, and 7.4.2.
func validCode(code uint16) bool {
	switch {
	case code >= 1000 && code <= 1014:
		return code != 1004 && code != 1005 && code != 1006
	}
	return code >= 3000 && code <= 4999
}
