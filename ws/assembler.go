package ws

import (
	"sync"
	"unicode/utf8"

	"barrage/proto"
)

// DefaultMaxMessage is the largest message when Rules name none, in bytes.
const DefaultMaxMessage = 64 << 10

// Rules say what an Assembler accepts. One value serves any number of them and must not change while it does.
type Rules struct {
	// MaxMessage is the largest message in bytes, its fragments taken together; 0 means DefaultMaxMessage.
	MaxMessage int
	// FromServer says that the frames come from a server, which must not mask them; a client must. Section 5.1.
	FromServer bool
	// Deflate says that permessage-deflate was accepted by AcceptDeflate: messages may be deflated, each by itself.
	// MaxMessage is their size once they are inflated.
	Deflate bool
}

func (r *Rules) maxMessage() uint64 {
	if r.MaxMessage <= 0 {
		return DefaultMaxMessage
	}
	return uint64(r.MaxMessage)
}

// Event is what an Assembler finds: a whole message or a control frame.
type Event struct {
	// Op is OpText or OpBinary for a message, OpPing, OpPong or OpClose for a control frame, and 0 for no event.
	Op Opcode
	// Payload is the message, the body of a ping or pong, or the reason of a close. Of a text message and a reason
	// it is valid UTF-8. It aliases the input or a buffer that is used again, and is valid only until the next call
	// to the Assembler.
	Payload []byte
	// Code is the code of a close, NoStatus when it had none.
	Code uint16
	// Deflated says that the message came deflated.
	Deflated bool
}

// Assembler reads one direction of one connection. It is owned by whoever reads the connection, and is three words
// while nothing is incomplete.
type Assembler struct {
	rules *Rules
	// part is nil while no frame and no message is incomplete.
	part *part
	// ended is set by a close frame and by an error: whatever follows is ignored. Section 5.5.1.
	ended bool
}

// part is what an Assembler keeps of an incomplete frame and an incomplete message.
type part struct {
	// head[:headLen] is the beginning of a header that has not arrived in full.
	head    [MaxHeader]byte
	headLen int
	// frame is the header of the frame under way when inFrame, and got how many bytes of its payload have arrived.
	frame   Header
	inFrame bool
	got     uint64
	// control[:got] is the payload of the control frame under way.
	control [MaxControl]byte
	// op is the opcode of the message under way, 0 when there is none.
	op Opcode
	// deflated says that the message under way is.
	deflated bool
	// message is what has arrived of it, unmasked. Its capacity is at most twice that and at most the largest
	// message, but for a small minimum.
	message []byte
	// valid is how much of message is known to be whole characters, if it is text and not deflated.
	valid int
	// inflated is the last message if it came deflated. Its capacity is at most twice its length and at most the
	// largest message.
	inflated []byte
}

// Buffers up to keepBuffer bytes are used again with their part; minBuffer is the smallest that is allocated.
const (
	keepBuffer = 4 << 10
	minBuffer  = 256
)

var parts = sync.Pool{New: func() any { return new(part) }}

// NewAssembler returns the reader of one direction of a new connection.
func NewAssembler(rules *Rules) Assembler { return Assembler{rules: rules} }

// Feed takes the bytes that have arrived and calls emit for each event in them. It may change b. It stops at the first
// error, one of emit's or a proto.Close, and returns it; after a proto.Close, and after a close frame, everything that
// comes is ignored. After an error of emit's the rest of b is lost: use Next where reading must be able to pause.
func (a *Assembler) Feed(b []byte, emit func(Event) error) error {
	for {
		ev, n, err := a.Next(b)
		if err != nil {
			return err
		}
		b = b[n:]
		if ev.Op == 0 {
			return nil
		}
		if err := emit(ev); err != nil {
			return err
		}
	}
}

// Next takes bytes from b up to and including the first event, and tells how many these were. Event.Op is 0 when b
// held no more events; all of b has been taken then. Next changes the bytes that it takes and no others. The error is
// a proto.Close, to be sent to the peer; everything that comes later is ignored, as it is after a close frame.
//
// Call Next until there is no event: before that the buffer of the last event is kept.
func (a *Assembler) Next(b []byte) (ev Event, n int, err error) {
	a.release()
	if a.ended {
		return Event{}, len(b), nil
	}
	for n < len(b) {
		took, whole, err := a.frame(b[n:], &ev)
		if err != nil {
			a.end()
			return Event{}, len(b), err
		}
		n += took
		if whole {
			break
		}
	}
	if ev.Op == OpClose {
		a.end() // "discards any further data received", section 1.4
	}
	return ev, n, nil
}

// Buffered is how many bytes of incomplete frames and messages are held.
func (a *Assembler) Buffered() int {
	if a.part == nil {
		return 0
	}
	n := a.part.headLen + len(a.part.message)
	if a.part.inFrame && a.part.frame.Op.Control() {
		n += int(a.part.got)
	}
	return n
}

// end drops what is held, except what the event that is about to be returned may alias.
func (a *Assembler) end() {
	a.ended = true
	a.part = nil
}

// release gives the part back when nothing in it is incomplete.
func (a *Assembler) release() {
	p := a.part
	if p == nil || p.inFrame || p.headLen > 0 || p.op != 0 {
		return
	}
	a.part = nil
	*p = part{message: kept(p.message), inflated: kept(p.inflated)}
	parts.Put(p)
}

// kept is b, empty, if it is to be used again.
func kept(b []byte) []byte {
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}

// hold returns the part, with a new one when there is none.
func (a *Assembler) hold() *part {
	if a.part == nil {
		a.part = parts.Get().(*part)
	}
	return a.part
}

// frame takes bytes of one frame. whole says that ev is set.
func (a *Assembler) frame(b []byte, ev *Event) (took int, whole bool, err error) {
	if a.part == nil || !a.part.inFrame {
		h, n, err := a.header(b)
		if err != nil {
			return 0, false, err
		}
		if n == 0 {
			return len(b), false, nil
		}
		took, b = n, b[n:]
		if err := a.check(&h); err != nil {
			return 0, false, err
		}
		if h.Length <= uint64(len(b)) && (h.Op.Control() || h.Fin && h.Op != OpContinuation && h.RSV == 0) {
			// All of it is here and belongs to nothing else: no copy.
			payload := b[:h.Length:h.Length]
			if h.Masked {
				Mask(h.Key, 0, payload)
			}
			*ev, err = event(h.Op, payload)
			return took + len(payload), true, err
		}
		a.hold().begin(h)
	}
	n, err := a.part.payload(b, a.rules)
	took += n
	if err != nil || a.part.got < a.part.frame.Length {
		return took, false, err
	}
	*ev, err = a.part.finish(a.rules)
	return took, ev.Op != 0, err
}

// header reads the header that b begins with or goes on with. n is how many bytes of b it takes; 0 says that all of b
// was taken and more is needed.
func (a *Assembler) header(b []byte) (h Header, n int, err error) {
	if a.part == nil || a.part.headLen == 0 {
		if h, n, err = ParseHeader(b); n > 0 || err != nil {
			return h, n, err
		}
	}
	p := a.hold()
	before := p.headLen
	p.headLen += copy(p.head[p.headLen:], b)
	h, n, err = ParseHeader(p.head[:p.headLen])
	if n == 0 || err != nil {
		return h, 0, err
	}
	p.headLen = 0
	return h, n - before, nil
}

// check judges a header by what came before it.
func (a *Assembler) check(h *Header) error {
	var open Opcode
	held, limit := uint64(0), a.rules.maxMessage()
	deflated := h.RSV == rsv1
	if a.part != nil && a.part.op != 0 {
		open, held = a.part.op, uint64(len(a.part.message))
		deflated = a.part.deflated
	}
	if deflated {
		limit = maxDeflated(limit)
	}
	switch {
	case h.RSV != 0 && !a.rules.Deflate: // "MUST be 0 unless an extension is negotiated", section 5.2
		return proto.CloseProtocol.With("a frame has reserved bits set, but no extension was negotiated (RFC 6455, 5.2)")
	case h.RSV&^rsv1 != 0: // the same
		return proto.CloseProtocol.With("a frame has reserved bits set that no extension uses (RFC 6455, 5.2)")
	case h.RSV != 0 && h.Op != OpText && h.Op != OpBinary: // RFC 7692, section 6
		return proto.CloseProtocol.With("RSV1 is set on a frame that does not begin a message (RFC 7692, 6)")
	case !h.Op.Known(): // section 5.2
		return proto.CloseProtocol.With("a frame has the reserved opcode %d (RFC 6455, 5.2)", h.Op)
	case !h.Masked && !a.rules.FromServer: // section 5.1
		return proto.CloseProtocol.With("a frame is not masked, as those of a client must be (RFC 6455, 5.1)")
	case h.Masked && a.rules.FromServer: // section 5.1
		return proto.CloseProtocol.With("a frame is masked, as those of a server must not be (RFC 6455, 5.1)")
	case h.Op.Control() && !h.Fin: // section 5.5
		return proto.CloseProtocol.With("a control frame is fragmented (RFC 6455, 5.5)")
	case h.Op.Control() && h.Length > MaxControl: // section 5.5
		return proto.CloseProtocol.With("a control frame has %d bytes; at most %d are allowed (RFC 6455, 5.5)", h.Length, MaxControl)
	case h.Op.Control():
		return nil
	case h.Op == OpContinuation && open == 0: // section 5.4
		return proto.CloseProtocol.With("a continuation frame has no message to continue (RFC 6455, 5.4)")
	case h.Op != OpContinuation && open != 0: // section 5.4
		return proto.CloseProtocol.With("a new message begins before the last one is complete (RFC 6455, 5.4)")
	case h.Length > limit-held: // section 10.4, and 7.4.1 for the code
		return proto.CloseTooBig.With("the message has more than %d bytes", limit)
	}
	return nil
}

// begin starts a frame that has passed check.
func (p *part) begin(h Header) {
	p.frame, p.inFrame, p.got = h, true, 0
	if h.Op == OpText || h.Op == OpBinary {
		p.op, p.deflated = h.Op, h.RSV == rsv1
		p.message = p.message[:0]
		p.valid = 0
	}
}

// payload takes bytes of the payload of the frame under way.
func (p *part) payload(b []byte, rules *Rules) (took int, err error) {
	if left := p.frame.Length - p.got; uint64(len(b)) > left {
		b = b[:left]
	}
	if p.frame.Masked {
		Mask(p.frame.Key, int(p.got&3), b)
	}
	if p.frame.Op.Control() {
		copy(p.control[p.got:], b)
		p.got += uint64(len(b))
		return len(b), nil
	}
	p.got += uint64(len(b))
	limit := rules.maxMessage()
	if p.deflated {
		limit = maxDeflated(limit)
	}
	p.message = appendBounded(p.message, b, int(limit))
	if p.op == OpText && !p.deflated { // as early as can be: section 8.1
		n, ok := wholeRunes(p.message[p.valid:])
		if !ok {
			return len(b), errText
		}
		p.valid += n
	}
	return len(b), nil
}

// finish ends the frame under way. The event is empty when its message goes on.
func (p *part) finish(rules *Rules) (Event, error) {
	p.inFrame = false
	if p.frame.Op.Control() {
		return event(p.frame.Op, p.control[:p.got])
	}
	if !p.frame.Fin {
		return Event{}, nil
	}
	op := p.op
	p.op = 0
	if p.deflated {
		return p.inflate(op, rules)
	}
	if op == OpText && p.valid < len(p.message) {
		return Event{}, errText
	}
	return Event{Op: op, Payload: p.message}, nil
}

// inflate ends a message that came deflated.
func (p *part) inflate(op Opcode, rules *Rules) (ev Event, err error) {
	p.deflated = false
	p.message = appendBounded(p.message, []byte(deflateTail), len(p.message)+len(deflateTail))
	if p.inflated, err = inflate(p.inflated[:0], p.message, int(rules.maxMessage())); err != nil {
		return Event{}, err
	}
	ev, err = event(op, p.inflated)
	ev.Deflated = true
	return ev, err
}

var errText = proto.CloseBadData.With("a text message is not valid UTF-8 (RFC 6455, 8.1)")

// event makes the event of a whole control frame or a message of one frame.
func event(op Opcode, payload []byte) (Event, error) {
	switch op {
	case OpText:
		if !utf8.Valid(payload) { // section 8.1
			return Event{}, errText
		}
	case OpClose:
		code, reason, err := ParseClose(payload)
		if err != nil {
			return Event{}, err
		}
		return Event{Op: OpClose, Payload: reason, Code: code}, nil
	}
	return Event{Op: op, Payload: payload}, nil
}

// appendBounded appends b to message, whose capacity at most doubles and never exceeds limit.
func appendBounded(message, b []byte, limit int) []byte {
	if need := len(message) + len(b); need > cap(message) {
		grown := make([]byte, len(message), max(min(max(2*cap(message), minBuffer), limit), need))
		copy(grown, message)
		message = grown
	}
	return append(message, b...)
}

// wholeRunes returns how many bytes of b are whole characters of UTF-8. ok is false when no continuation can make b
// valid; at most 3 bytes are left over otherwise.
func wholeRunes(b []byte) (n int, ok bool) {
	n = len(b)
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) { // false only for what can still become a character
				n -= i
			}
			break
		}
	}
	return n, utf8.Valid(b[:n])
}
