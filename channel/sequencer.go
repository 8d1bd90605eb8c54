package channel

import (
	"cmp"
	"slices"
	"time"

	"barrage/journal"
	"barrage/proto"
)

// Bounds of a sequencer.
const (
	// grace is how long a missing message may still arrive by itself before the journal is asked: nodes that publish into
	// one channel at the same time hear one another's messages in any order.
	grace = 50 * time.Millisecond
	// Messages that wait for earlier ones; what does not fit is dropped and read from the journal later.
	maxHeld      = 1024
	maxHeldBytes = 1 << 20
	// Pause between reads after a failure.
	minRetry = 100 * time.Millisecond
	maxRetry = time.Second
)

// Sequencer puts the messages of one channel in order. It is a decision table over epoch and offset:
//
//	offset < next        drop: it was delivered
//	offset = next        deliver, and what was held behind it
//	offset > next        hold; if the gap is still there after grace, fetch it from the journal
//	another epoch        ask the journal which one is right
//	the journal's epoch  differs from ours: reset
//	missing in journal   retention removed it: skip
//
// It owns no clock and does no I/O: now comes in, a Verdict comes out. The zero value is a channel that is not open: it holds
// messages until Open says where the journal stands.
type Sequencer struct {
	epoch proto.Epoch  // while not open that of whoever told of it first
	next  proto.Offset // the next to deliver; 0 while not open
	known proto.Offset // the highest offset known to exist
	told  proto.Offset // the highest offset told of since the fetch under way was asked for

	held      []proto.Message // ascending, all above next
	heldBytes int

	gapSince time.Time    // when the present gap was noticed; zero without one
	gapAt    proto.Offset // the first message that was missing then
	suspect  bool         // someone told of another epoch
	fetching bool
	asked    proto.Offset // next when the fetch under way was asked for
	doubted  bool         // suspect then
	failures int          // reads in a row that brought nothing
	retryAt  time.Time    // no read before
	calmTill time.Time    // no read for a suspicion before
}

// Verdict is what is to be done, in the order of its fields.
type Verdict struct {
	// Reset says that all earlier offsets are void: the channel now stands at Epoch, and the next message is Next.
	Reset bool
	// Skip says that the messages up to Next-1 that were not delivered do not exist any more.
	Skip bool
	// Epoch and Next are set with Reset and Skip.
	Epoch proto.Epoch
	Next  proto.Offset
	// Deliver are the messages to give to members now.
	Deliver []proto.Message
	// Dropped counts messages that were known already or that the journal does not have, Overflow those that found no
	// room to wait.
	Dropped, Overflow int
	// Fetch asks for a page of the journal from offset From on, to be answered by Fetched or FetchFailed.
	Fetch bool
	From  proto.Offset
	// Wake is when Tick must be called; zero for never.
	Wake time.Time
}

// Position is what has been delivered.
func (s *Sequencer) Position() proto.Position {
	return proto.Position{Epoch: s.epoch, Offset: s.next - 1}
}

// IsOpen says whether Open was called.
func (s *Sequencer) IsOpen() bool { return s.next > 0 }

// Open says that the journal stands at p; messages after it are delivered from now on.
func (s *Sequencer) Open(now time.Time, p proto.Position) Verdict {
	var v Verdict
	if !s.epoch.Matches(p.Epoch) {
		// What was heard until now belongs to another life of the journal, or the journal was replaced meanwhile.
		v.Dropped += len(s.held)
		s.held, s.heldBytes, s.known, s.suspect = nil, 0, 0, true
	}
	s.epoch, s.next = p.Epoch, p.Offset+1
	s.known = max(s.known, p.Offset)
	s.release(&v)
	return s.decide(now, v)
}

// Entries takes messages that were committed in epoch, in any order.
func (s *Sequencer) Entries(now time.Time, epoch proto.Epoch, messages []proto.Message) Verdict {
	var v Verdict
	if !s.belongs(epoch) {
		return s.decide(now, v)
	}
	for _, m := range messages {
		s.hear(m.Offset)
		switch {
		case m.Offset < max(s.next, 1):
			v.Dropped++
		case m.Offset == s.next:
			v.Deliver = append(v.Deliver, m)
			s.next++
		default:
			s.hold(m, &v)
		}
	}
	s.release(&v)
	return s.decide(now, v)
}

// Head takes the news that the channel's head is, or was, at p.
func (s *Sequencer) Head(now time.Time, p proto.Position) Verdict {
	if s.belongs(p.Epoch) {
		s.hear(p.Offset)
	}
	return s.decide(now, Verdict{})
}

// belongs says whether news of epoch are about this channel; if not, the journal must tell who is right.
func (s *Sequencer) belongs(epoch proto.Epoch) bool {
	if s.epoch == "" {
		s.epoch = epoch
	}
	if !epoch.Matches(s.epoch) {
		s.suspect = true
		return false
	}
	return true
}

// hear takes note that offset exists.
func (s *Sequencer) hear(offset proto.Offset) {
	s.known, s.told = max(s.known, offset), max(s.told, offset)
}

// Suspect asks for a look at the journal, because something there was not as expected.
func (s *Sequencer) Suspect(now time.Time) Verdict {
	s.suspect = true
	return s.decide(now, Verdict{})
}

// Fetched takes the page that a Verdict asked for. The journal is right: about the epoch, the head, and what is gone.
func (s *Sequencer) Fetched(now time.Time, p journal.Page) Verdict {
	if s.doubted {
		s.calmTill = now.Add(maxRetry)
	}
	s.fetching, s.doubted = false, false
	before := s.next
	var v Verdict
	if !p.Epoch.Matches(s.epoch) || p.Head+1 < s.asked {
		s.reset(p, &v)
		return s.decide(now, v)
	}
	if s.epoch == "" {
		s.epoch = p.Epoch
	}
	s.known = max(s.known, p.Head)
	for _, m := range p.Messages {
		if m.Offset < s.next {
			continue
		}
		if m.Offset > s.next {
			s.skip(m.Offset, &v)
		}
		v.Deliver = append(v.Deliver, m)
		s.next = m.Offset + 1
	}
	if len(p.Messages) == 0 && p.Head >= s.next {
		s.skip(p.Head+1, &v)
	}
	s.release(&v)
	if s.next > p.Head {
		s.forget(p.Head, &v)
	}
	s.gapSince, s.gapAt = now, s.next
	if s.next <= p.Head {
		s.gapSince = now.Add(-grace) // no need to wait: the rest is there to be read
	}
	if s.next == before && s.known >= s.next {
		s.pause(now)
	} else {
		s.failures, s.retryAt = 0, time.Time{}
	}
	return s.decide(now, v)
}

// FetchFailed says that the journal could not be read; the same is asked again after a pause.
func (s *Sequencer) FetchFailed(now time.Time) Verdict {
	s.fetching = false
	s.suspect = s.suspect || s.doubted
	s.pause(now)
	return s.decide(now, Verdict{})
}

// forget drops what was told of messages after head before the journal was asked: it does not have them, so whoever
// told was wrong. What was told since may be newer than its answer.
func (s *Sequencer) forget(head proto.Offset, v *Verdict) {
	if s.told <= head {
		v.Dropped += len(s.held)
		s.held, s.heldBytes, s.known = nil, 0, s.next-1
		return
	}
	s.known = max(s.next-1, s.told)
	if n := len(s.held); n > 0 {
		s.known = max(s.known, s.held[n-1].Offset)
	}
}

// pause puts off the next read, longer each time.
func (s *Sequencer) pause(now time.Time) {
	s.retryAt = now.Add(min(minRetry<<min(s.failures, 10), maxRetry))
	s.failures++
}

// Tick says that time has passed.
func (s *Sequencer) Tick(now time.Time) Verdict { return s.decide(now, Verdict{}) }

func (s *Sequencer) reset(p journal.Page, v *Verdict) {
	s.epoch, s.next, s.known = p.Epoch, p.Head+1, p.Head
	s.held, s.heldBytes, s.gapSince = nil, 0, time.Time{}
	v.Reset, v.Epoch, v.Next = true, s.epoch, s.next
}

// skip gives up the messages before next. What was to be delivered before them is superseded too: members that need it
// read it from the journal.
func (s *Sequencer) skip(next proto.Offset, v *Verdict) {
	v.Skip, v.Epoch, v.Next = true, s.epoch, next
	v.Deliver = nil
	s.next = next
}

// hold keeps m until its turn.
func (s *Sequencer) hold(m proto.Message, v *Verdict) {
	i, found := slices.BinarySearchFunc(s.held, m.Offset, func(h proto.Message, o proto.Offset) int {
		return cmp.Compare(h.Offset, o)
	})
	if found {
		v.Dropped++
		return
	}
	s.held = slices.Insert(s.held, i, m)
	s.heldBytes += m.Size()
	for len(s.held) > maxHeld || s.heldBytes > maxHeldBytes && len(s.held) > 1 {
		last := len(s.held) - 1
		s.heldBytes -= s.held[last].Size()
		s.held[last] = proto.Message{}
		s.held = s.held[:last]
		v.Overflow++
	}
}

// release delivers the held messages whose turn has come.
func (s *Sequencer) release(v *Verdict) {
	if !s.IsOpen() {
		return
	}
	n := 0
	for _, m := range s.held {
		if m.Offset > s.next {
			break
		}
		if m.Offset == s.next {
			v.Deliver = append(v.Deliver, m)
			s.next++
		}
		s.heldBytes -= m.Size()
		n++
	}
	clear(s.held[:n])
	if s.held = s.held[n:]; len(s.held) == 0 {
		s.held = nil
	}
	s.known = max(s.known, s.next-1)
}

// decide adds to v whether to fetch now, or when to look again.
func (s *Sequencer) decide(now time.Time, v Verdict) Verdict {
	gap := s.IsOpen() && s.known >= s.next
	if !gap {
		s.gapSince = time.Time{}
	} else if s.gapSince.IsZero() || s.gapAt != s.next {
		s.gapSince, s.gapAt = now, s.next
	}
	if s.fetching || !s.IsOpen() || !gap && !s.suspect {
		return v
	}
	reason := s.calmTill // for a suspicion; a gap may be due earlier
	if patience := s.gapSince.Add(grace); gap && (!s.suspect || patience.Before(reason)) {
		reason = patience
	}
	if due := later(s.retryAt, reason); now.Before(due) {
		v.Wake = due
		return v
	}
	s.fetching, s.asked, s.told = true, s.next, 0
	s.doubted, s.suspect = s.suspect, false
	v.Fetch, v.From = true, s.next
	return v
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
