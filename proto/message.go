package proto

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Offset numbers the messages of one channel: 1, 2, 3, … without gaps. 0 means "before the first".
type Offset uint64

// Epoch names one life of the journal. Two offsets can be compared only when they belong to the same
// epoch: a journal that was recreated or restored from a backup counts again, under a new epoch.
// The empty epoch means "unknown" and matches every other.
type Epoch string

// Matches says whether a position in epoch e may be continued in epoch other.
func (e Epoch) Matches(other Epoch) bool { return e == "" || other == "" || e == other }

// Position is a place in a channel: everything up to and including Offset has been seen.
type Position struct {
	Epoch  Epoch
	Offset Offset
}

// Message is one entry of a channel. It is immutable once it has an offset, or was published when it is live; whoever holds
// one may read it from any goroutine and must not write to Data.
type Message struct {
	// Offset is where the journal stored the message; 0 for a live message, which is never stored.
	Offset Offset
	// Time is when the journal stored the message, or, for a live one, the node took it, in Unix milliseconds.
	Time int64
	// User is the publisher's user id or, for anonymous publishers, the display name they chose.
	User string
	// Client is the id of the publishing connection; empty for messages published by the server API.
	Client string
	// Data is one JSON value in compact form: it holds no raw newline. A text published by the raw
	// protocol is stored as a JSON string.
	Data []byte
	// Attributes are what else receivers are told: see Attributes. Empty for nothing.
	Attributes []byte
}

// Size is the number of bytes that m is counted with in every bounded buffer: its strings plus a
// constant for the rest.
func (m *Message) Size() int {
	return messageOverhead + len(m.User) + len(m.Client) + len(m.Data) + len(m.Attributes)
}

const messageOverhead = 64

// Limits of names, in bytes.
const (
	MaxChannelBytes = 255
	MaxKeyBytes     = 128
	MaxUserBytes    = 255
)

// Errors of names. They are wrapped with the reason; test with errors.Is.
var (
	ErrChannelName = errors.New("bad channel name")
	ErrKey         = errors.New("bad idempotency key")
	ErrUserName    = errors.New("bad user name")
)

// CheckChannel accepts the name of a channel: 1 to 255 bytes of UTF-8 without control characters.
func CheckChannel(name string) error {
	if name == "" {
		return fmt.Errorf("%w: it is empty; give 1 to %d bytes of UTF-8", ErrChannelName, MaxChannelBytes)
	}
	return checkText(ErrChannelName, name, MaxChannelBytes)
}

// CheckKey accepts an idempotency key: up to 128 bytes of UTF-8 without control characters; empty means none.
func CheckKey(key string) error { return checkText(ErrKey, key, MaxKeyBytes) }

// CheckUser accepts a user id or display name: up to 255 bytes of UTF-8 without control characters.
func CheckUser(name string) error { return checkText(ErrUserName, name, MaxUserBytes) }

func checkText(kind error, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%w: it has %d bytes; at most %d are allowed", kind, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: it is not valid UTF-8", kind)
	}
	for i, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return fmt.Errorf("%w: byte %d is the control character U+%04X; remove it", kind, i, r)
		}
	}
	return nil
}
