// Package journal is the durable log of all channels, and the only source of offsets.
//
// What an implementation promises, and package journaltest checks against each of them:
//
//   - A draft that Append reported as stored is there for every later reader, on every node, after any crash
//     that the storage's own durability setting covers.
//   - The offsets of a channel are 1, 2, 3, … without gaps. A reader that sees offset n sees all of 1..n that
//     retention or Remove has not removed; n+1 is never visible before n. Both remove only from the front.
//   - Appends of one call are stored all or none.
//   - A draft with a key that the channel already holds, or that an earlier draft of the same call has, is not
//     stored again: Append reports the original's offset and time, and Repeated. A key is remembered as long as its
//     message is kept.
//
// Writer is the way to append: it gathers what many publishers have into batches.
//
// All methods may be called from any goroutine. They block for I/O and honour their context.
package journal

import (
	"context"
	"errors"
	"math"

	"barrage/proto"
)

// Journal stores the messages of channels in order.
type Journal interface {
	// Append stores drafts in the order given, all or none, and returns one Stored for each. Drafts of many
	// channels may be mixed; at most MaxBatch in one call.
	//
	// An error that matches ErrUncertain means that the outcome is unknown: the drafts may have been stored.
	// Every other error means that nothing was. After an error that matches ErrDraft the same drafts cannot succeed.
	Append(ctx context.Context, drafts []Draft) (Appended, error)

	// Read returns one page of a channel, with the head that was true in the same snapshot. A channel that
	// does not exist reads as empty with head 0.
	Read(ctx context.Context, channel string, r Range) (Page, error)

	// Heads returns the last offset of each channel, in the order of names; 0 for one without messages.
	Heads(ctx context.Context, names []string) (Heads, error)

	// Trim applies a retention policy once, in small steps that do not hold up appends, and returns how many messages
	// it removed. Heads never go back. On a shared journal one caller trims at a time, the others return at once with 0.
	Trim(ctx context.Context, p Policy) (removed int64, err error)

	// Remove removes the messages that a channel holds when it is called, in small steps as Trim does; those that are
	// appended meanwhile stay. The head does not go back, and the keys of what was removed are forgotten. A channel that
	// does not exist has nothing to remove. After an error a part may be removed; calling again removes the rest.
	Remove(ctx context.Context, channel string) error

	// Shared says whether several nodes can use this journal at once.
	Shared() bool

	// Close releases the journal. Calls under way may fail.
	Close() error
}

// MaxBatch is the most drafts that one Append takes.
const MaxBatch = 512

// Draft is a message that has no offset yet.
type Draft struct {
	Channel string
	// Key is the publisher's idempotency key; empty means none.
	Key    string
	User   string
	Client string
	// Data may be empty. The journal may keep it: it must not be changed any more.
	Data []byte
	// Attributes are stored with the message, at most proto.MaxAttributesBytes of them: see proto.Attributes. Like Data they
	// must not be changed any more.
	Attributes []byte
}

// Size is the number of bytes that d is counted with in queues: its strings plus a constant for the rest.
func (d *Draft) Size() int {
	return draftOverhead + len(d.Channel) + len(d.Key) + len(d.User) + len(d.Client) + len(d.Data) + len(d.Attributes)
}

const draftOverhead = 128

// Stored tells where a draft went.
type Stored struct {
	Offset proto.Offset
	// Time is when the message was stored, in Unix milliseconds; it never decreases along a channel's offsets
	// unless the database's clock was set back.
	Time int64
	// Repeated says that the draft's key was known: Offset and Time are those of the first message.
	Repeated bool
}

// Appended is the outcome of one Append.
type Appended struct {
	Epoch  proto.Epoch
	Stored []Stored
}

// Range asks for a page of a channel.
type Range struct {
	// From is the first offset wanted. 0 means from the beginning (forward) or from the head (backward).
	From proto.Offset
	// Backward reads towards the beginning: the page's offsets descend.
	Backward bool
	// Limit bounds the number of messages; 0 or less, or more than MaxPage, means MaxPage.
	Limit int
	// MaxBytes stops the page after the message whose Size takes the sum to this or above; 0 or less means
	// DefaultMaxSize, 1 MiB. A page always holds at least one message when there is one.
	MaxBytes int
}

// Limits of a page.
const (
	MaxPage        = 1000
	DefaultMaxSize = 1 << 20
)

// Bounded returns r with its limits filled in, and an offset that fits a signed integer, as databases have them.
func (r Range) Bounded() Range {
	if r.Limit <= 0 || r.Limit > MaxPage {
		r.Limit = MaxPage
	}
	if r.MaxBytes <= 0 {
		r.MaxBytes = DefaultMaxSize
	}
	r.From = min(r.From, math.MaxInt64)
	return r
}

// Page is a contiguous run of a channel's messages. Reading forward it starts at Range.From, or later when retention
// has removed that message; reading backward at Range.From or the head, whichever is less.
type Page struct {
	Epoch proto.Epoch
	// Head is the channel's last offset in the snapshot that Messages were read from.
	Head     proto.Offset
	Messages []proto.Message
}

// Heads holds the last offsets of channels.
type Heads struct {
	Epoch   proto.Epoch
	Offsets []proto.Offset
}

// Errors that callers tell apart; implementations wrap them with a sentence that says what to do.
var (
	// ErrUnavailable: the storage cannot be reached or refuses work for now; try again later.
	ErrUnavailable = errors.New("journal unavailable")
	// ErrUncertain: the connection broke during a commit; the batch may or may not have been stored.
	ErrUncertain = errors.New("journal commit outcome unknown")
	// ErrNewerSchema: the journal was written by a newer barrage.
	ErrNewerSchema = errors.New("journal has a newer schema")
	// ErrInUse: another process holds this journal.
	ErrInUse = errors.New("journal is in use by another process")
	// ErrURL: the journal URL cannot be understood.
	ErrURL = errors.New("bad journal URL")
	// ErrDraft: a draft, or the number of drafts, is nothing that a journal can store.
	ErrDraft = errors.New("journal cannot store this")
	// ErrClosed: the journal or the Writer has been closed.
	ErrClosed = errors.New("journal is closed")
)
