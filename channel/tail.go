package channel

import (
	"barrage/journal"
	"barrage/proto"
)

// Bounds of a tail.
const (
	tailMessages = journal.MaxPage
	tailBytes    = 1 << 20
)

// tail holds the newest messages of a channel, without gaps. Owner: its channel.
type tail struct {
	next     proto.Offset // the offset after the last one
	messages []proto.Message
	bytes    int
}

// first is the offset of the oldest message held, or next when there is none.
func (t *tail) first() proto.Offset { return t.next - proto.Offset(len(t.messages)) }

// clear empties the tail; next is the offset to be added next.
func (t *tail) clear(next proto.Offset) { *t = tail{next: next} }

// add appends messages that follow on and drops the oldest beyond the bounds.
func (t *tail) add(messages []proto.Message) {
	for i := range messages {
		t.bytes += messages[i].Size()
	}
	t.messages = append(t.messages, messages...)
	t.next += proto.Offset(len(messages))
	drop := 0
	for len(t.messages)-drop > tailMessages || t.bytes > tailBytes && len(t.messages)-drop > 1 {
		t.bytes -= t.messages[drop].Size()
		drop++
	}
	if drop == 0 {
		return
	}
	clear(t.messages[:drop])
	t.messages = t.messages[drop:]
}

// forget drops the messages up to and including offset last.
func (t *tail) forget(last proto.Offset) {
	if last < t.first() || len(t.messages) == 0 {
		return
	}
	kept := append([]proto.Message(nil), t.messages[min(last+1, t.next)-t.first():]...)
	t.clear(t.next - proto.Offset(len(kept)))
	t.add(kept)
}

// from returns the messages from offset on; ok is false when the tail does not hold offset.
func (t *tail) from(offset proto.Offset) (messages []proto.Message, ok bool) {
	if offset < t.first() || offset >= t.next {
		return nil, false
	}
	return t.messages[offset-t.first():], true
}
