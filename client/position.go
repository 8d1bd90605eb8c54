package client

import "barrage/proto"

// tracker knows up to where messages were handed over, and judges what arrives next. It is pure: the same calls
// give the same verdicts.
type tracker struct {
	// known is false until a position was given, learnt from a welcome, or from the first message after Last.
	known bool
	at    proto.Position
	// gaps says that offsets must follow one another; false when own messages are left out.
	gaps bool
}

// welcome takes the head of a channel that was joined. last says that messages before the head were asked for. It is
// true when the journal's epoch changed although the server sent no reset: what was known is worth nothing then, and the stream goes
// on after the head.
func (t *tracker) welcome(w *proto.Welcome, last bool) (lost bool) {
	if w.Live {
		return false
	}
	if t.known && !t.at.Epoch.Matches(w.Epoch) {
		t.at = proto.Position{Epoch: w.Epoch, Offset: w.Offset}
		return true
	}
	t.at.Epoch = w.Epoch
	if !t.known && (!last || w.Offset == 0) {
		t.known, t.at.Offset = true, w.Offset
	}
	return false
}

// message moves the position to offset. deliver is false for one that was handed over before; missing counts those
// that should have come before it.
func (t *tracker) message(offset proto.Offset) (deliver bool, missing proto.Offset) {
	if offset == 0 {
		return true, 0 // live
	}
	if t.known {
		if offset <= t.at.Offset {
			return false, 0
		}
		if t.gaps {
			missing = offset - t.at.Offset - 1
		}
	}
	t.known, t.at.Offset = true, offset
	return true, missing
}

// stored hears the offset of an own message that will not be sent back.
func (t *tracker) stored(offset proto.Offset) {
	if !t.gaps && t.known && offset == t.at.Offset+1 {
		t.at.Offset = offset
	}
}

// reset gives up the position: the stream goes on after r.Offset.
func (t *tracker) reset(r *proto.Reset) {
	t.known, t.at = true, proto.Position{Epoch: r.Epoch, Offset: r.Offset}
}
