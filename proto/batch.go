package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Envelope is what one node tells the others about one channel; which channel, the broker's channel name says.
//
// In bytes (varints as in encoding/binary; text is a uvarint length and that many bytes):
//
//	version  1 byte: 2 when a message has attributes, 1 otherwise, as nodes before version 2 know it
//	kind     1 byte, EnvelopeKind
//	node     text
//	epoch    text
//	entries: count uvarint, then of each message
//	         offset uvarint, time varint, user text, client text, data text, and in version 2 attributes text
//	head:    offset uvarint
//	removed: offset uvarint
//	members: count uvarint
//	live:    number uvarint, then like entries, with offset 0; the epoch is empty
//
// Nothing may follow.
type Envelope struct {
	// Node is the id of the node that sent it.
	Node string
	Kind EnvelopeKind
	// Epoch is the life of the journal that Messages and Head belong to.
	Epoch Epoch
	// Messages are stored messages of the channel, for EnvelopeEntries, or messages that are never stored, without offsets,
	// for EnvelopeLive.
	Messages []Message
	// Head is the channel's last offset that the sender knows, for EnvelopeHead, or that was removed, for EnvelopeRemoved.
	Head Offset
	// Number counts the live payloads of Node, for EnvelopeLive, so that one which is repeated or late can be dropped.
	Number uint64
	// Members is how many connections on the sender are in the channel, for EnvelopeMembers. How long that is
	// believed is the receiver's business.
	Members uint32
}

// EnvelopeKind says what an Envelope tells.
type EnvelopeKind byte

// Kinds of Envelope.
const (
	EnvelopeEntries EnvelopeKind = 1 // new messages
	EnvelopeHead    EnvelopeKind = 2 // an announcement of the last offset, to reveal a lost last message
	EnvelopeMembers EnvelopeKind = 3 // how many members the sender has
	// EnvelopeLive are messages of a live channel. A node of a version before it passes over them, as over every unknown kind:
	// its members of live channels hear only their own node until it is replaced.
	EnvelopeLive EnvelopeKind = 4
	// EnvelopeRemoved tells that the channel's history up to Head was removed, so that no node gives it from memory. A node of a
	// version before passes over it, and may give what it has in memory for a while.
	EnvelopeRemoved EnvelopeKind = 8
)

// Errors of ParseEnvelope. They are wrapped with the reason; test with errors.Is.
var (
	// ErrEnvelope: the bytes are damaged.
	ErrEnvelope = errors.New("bad envelope")
	// ErrEnvelopeVersion: the bytes were written by another version of barrage; ignoring them is safe, because the
	// journal has what they carry, or it was live and may be lost.
	ErrEnvelopeVersion = errors.New("envelope of another version")
)

const (
	envelopeVersion           = 1
	envelopeVersionAttributes = 2 // each message has attributes, which may be empty
)

// minMessageBytes is the size of the smallest encoded message: five varints of one byte.
const minMessageBytes = 5

// AppendEnvelope appends the encoded e to dst. It panics when e.Kind is none of the known ones.
func AppendEnvelope(dst []byte, e *Envelope) []byte {
	version := envelopeVersionOf(e)
	dst = append(dst, version, byte(e.Kind))
	dst = appendText(dst, e.Node)
	dst = appendText(dst, e.Epoch)
	switch e.Kind {
	case EnvelopeEntries:
		dst = appendMessages(dst, version, e.Messages)
	case EnvelopeLive:
		dst = appendMessages(binary.AppendUvarint(dst, e.Number), version, e.Messages)
	case EnvelopeHead, EnvelopeRemoved:
		dst = binary.AppendUvarint(dst, uint64(e.Head))
	case EnvelopeMembers:
		dst = binary.AppendUvarint(dst, uint64(e.Members))
	default:
		panic(fmt.Sprintf("proto: envelope of unknown kind %d", e.Kind))
	}
	return dst
}

// envelopeVersionOf is the oldest version that can say e: one that carries no attributes is understood by older nodes too.
func envelopeVersionOf(e *Envelope) byte {
	for i := range e.Messages {
		if len(e.Messages[i].Attributes) > 0 {
			return envelopeVersionAttributes
		}
	}
	return envelopeVersion
}

func appendMessages(dst []byte, version byte, messages []Message) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(messages)))
	for i := range messages {
		dst = appendMessage(dst, &messages[i])
		if version >= envelopeVersionAttributes {
			dst = appendText(dst, messages[i].Attributes)
		}
	}
	return dst
}

func appendMessage(dst []byte, m *Message) []byte {
	dst = binary.AppendUvarint(dst, uint64(m.Offset))
	dst = binary.AppendVarint(dst, m.Time)
	dst = appendText(dst, m.User)
	dst = appendText(dst, m.Client)
	return appendText(dst, m.Data)
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// ParseEnvelope decodes b. The result holds copies: b may be reused. The data of all messages share one allocation
// that is as large as b, and no declared length makes it allocate more than b has bytes for.
func ParseEnvelope(b []byte) (Envelope, error) {
	if len(b) < 2 {
		return Envelope{}, fmt.Errorf("%w: it has %d bytes", ErrEnvelope, len(b))
	}
	if b[0] < envelopeVersion || b[0] > envelopeVersionAttributes {
		return Envelope{}, fmt.Errorf("%w: it has version %d, this node knows versions %d to %d",
			ErrEnvelopeVersion, b[0], envelopeVersion, envelopeVersionAttributes)
	}
	r := envelopeReader{version: b[0], rest: b[2:]}
	e := Envelope{Kind: EnvelopeKind(b[1])}
	switch e.Kind {
	case EnvelopeEntries, EnvelopeLive:
		r.rest = bytes.Clone(r.rest)
		e.Node, e.Epoch = string(r.text()), Epoch(r.text())
		if e.Kind == EnvelopeLive {
			e.Number = r.uvarint()
		}
		e.Messages = r.messages()
		if e.Kind == EnvelopeLive {
			r.unstored(e.Messages)
		}
	case EnvelopeHead, EnvelopeRemoved:
		e.Node, e.Epoch = string(r.text()), Epoch(r.text())
		e.Head = Offset(r.uvarint())
	case EnvelopeMembers:
		e.Node, e.Epoch = string(r.text()), Epoch(r.text())
		n := r.uvarint()
		if n > math.MaxUint32 {
			r.fail("it counts %d members", n)
		}
		e.Members = uint32(n)
	default:
		return Envelope{}, fmt.Errorf("%w: it has the unknown kind %d", ErrEnvelopeVersion, e.Kind)
	}
	if len(r.rest) > 0 {
		r.fail("%d bytes follow its end", len(r.rest))
	}
	if r.err != nil {
		return Envelope{}, r.err
	}
	return e, nil
}

// envelopeReader takes values from the front of rest. After the first error it returns zero values only.
type envelopeReader struct {
	version byte
	rest    []byte
	err     error
}

func (r *envelopeReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrEnvelope}, args...)...)
	}
	r.rest = nil
}

func (r *envelopeReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("a number is cut off or too large")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *envelopeReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail("a number is cut off or too large")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// text returns a part of rest, not a copy.
func (r *envelopeReader) text() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail("a text of %d bytes is declared where %d bytes are left", n, len(r.rest))
		return nil
	}
	t := r.rest[:n:n]
	r.rest = r.rest[n:]
	return t
}

// unstored checks that live messages have no offsets.
func (r *envelopeReader) unstored(messages []Message) {
	for i := range messages {
		if messages[i].Offset != 0 {
			r.fail("a live message has offset %d", messages[i].Offset)
		}
	}
}

// messages reads the count and the messages. Their data are parts of rest.
func (r *envelopeReader) messages() []Message {
	n := r.uvarint()
	if n > uint64(len(r.rest)/minMessageBytes) {
		r.fail("%d messages are declared where %d bytes are left", n, len(r.rest))
		return nil
	}
	list := make([]Message, 0, n)
	for range n {
		m := Message{Offset: Offset(r.uvarint()), Time: r.varint()}
		m.User, m.Client, m.Data = string(r.text()), string(r.text()), r.text()
		if r.version >= envelopeVersionAttributes {
			if a := r.text(); len(a) > 0 {
				m.Attributes = a
			}
		}
		if r.err != nil {
			return nil
		}
		list = append(list, m)
	}
	return list
}
