package channel

import (
	"fmt"

	"barrage/proto"
)

// Start says where a member wants to begin. The zero value is the next new message.
type Start struct {
	// Since resumes after this offset; nil for not at all.
	Since *proto.Offset
	// Epoch is what Since belongs to; empty when the client does not know it.
	Epoch proto.Epoch
	// Last begins with the last so many messages, as far as they exist.
	Last int
	// Ahead goes on at the head after a reset, not at the oldest message that is kept.
	Ahead bool
}

// lenient says that the start asks for what there is, not for a position: it may begin later than asked.
func (s Start) lenient() bool { return s.Since == nil || *s.Since == 0 && s.Epoch == "" }

// wanted is the first offset the start asks for, given the head.
func (s Start) wanted(head proto.Offset) proto.Offset {
	if s.Since != nil {
		return *s.Since + 1
	}
	return head + 1 - min(proto.Offset(s.Last), head)
}

// view is what is known about a channel when a member is placed.
type view struct {
	proto.Position              // what this node has delivered
	memory         proto.Offset // the oldest offset in memory, or the next one
	// oldest is the oldest offset the journal still holds at or after the wanted one, 0 when it was not asked.
	oldest proto.Offset
	// verified says that the journal was asked, so that Offset is its head.
	verified bool
}

// placing is where a member begins, or what must be asked first.
type placing int

const (
	attach    placing = iota // begin at next
	reset                    // tell that the position is void, then begin at next
	askHead                  // ask the journal for its head, then place again
	askOldest                // ask the journal for the wanted offset, then place again
)

// place is the decision table of joining:
//
//	another epoch                 reset, go on at the head
//	since beyond the head         ask the journal, this node may lag; still beyond: reset, go on at the head
//	in memory, or next            attach
//	older than memory             ask the journal for it; there: attach
//	removed by retention          lenient start: attach at the oldest; otherwise reset, go on at the oldest
func place(s Start, v view) (p placing, next proto.Offset, reason string) {
	if s.Since != nil && !s.Epoch.Matches(v.Epoch) {
		return reset, v.Offset + 1, fmt.Sprintf("epoch %s is not the channel's epoch %s: offsets of another epoch mean nothing here; take the position of this reset", s.Epoch, v.Epoch)
	}
	want := s.wanted(v.Offset)
	kept := min(v.oldest, v.memory) // memory may hold what the journal does not any more
	switch {
	case want > v.Offset+1 && !v.verified:
		return askHead, 0, ""
	case want > v.Offset+1:
		return reset, v.Offset + 1, fmt.Sprintf("since=%d is beyond the head %d: the journal was replaced or the position is wrong; take the position of this reset", *s.Since, v.Offset)
	case want >= v.memory:
		return attach, want, ""
	case v.oldest == 0:
		return askOldest, 0, ""
	case v.oldest <= want:
		return attach, want, ""
	case s.lenient():
		return attach, kept, ""
	}
	return reset, kept, fmt.Sprintf("messages %d to %d are no longer kept; the stream goes on with %d", want, kept-1, kept)
}
