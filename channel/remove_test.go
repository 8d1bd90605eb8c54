package channel

import (
	"testing"
	"time"

	"barrage/fanout"
	"barrage/proto"
)

// remove removes the history up to offset last, from the journal and from memory.
func (s *stage) remove(last proto.Offset) {
	s.store.set(func(s *store) { s.oldest = last + 1 })
	s.hub.Removed(room, proto.Position{Epoch: "A", Offset: last})
}

// inMemory is how many messages of the room memory gives to readers of history.
func (s *stage) inMemory() int {
	messages, _, ok := s.hub.Tail(room, func(first proto.Offset, head proto.Position) (from, to proto.Offset, ok bool) {
		return first, head.Offset + 1, true
	})
	if !ok {
		s.t.Fatal("an open channel's memory must be readable")
	}
	return len(messages)
}

func TestWhatWasRemovedIsNotGivenFromMemory(t *testing.T) {
	onStage(t, 600, func(t *testing.T, s *stage) {
		caughtUp := s.join(Start{})
		early := s.join(since(590))
		rest(time.Second)
		slow := s.join(since(300))
		slow.stop()
		rest(time.Second)
		s.publish(3)
		rest(time.Second)
		s.remove(601)
		if n := s.inMemory(); n != 2 {
			t.Errorf("memory must hold the 2 messages after the removed ones, not %d", n)
		}
		rest(time.Second)
		s.publish(1)
		rest(time.Second)
		caughtUp.expect(t, "601..604")
		early.expect(t, "591..604")
		resumed, fresh, lenient := s.join(sinceIn(595, "A")), s.join(sinceIn(601, "A")), s.join(Start{Last: 50})
		rest(time.Second)
		if j := resumed.place(t); !j.Reset || j.Next != 602 {
			t.Errorf("who resumes within what was removed must be told and go on at 602, got %+v", j)
		}
		fresh.expect(t, "602..604")
		lenient.expect(t, "602..604")
		slow.goOn()
		rest(time.Second)
		if got := slow.got(); got != "reset A/601 602..604" && got[len(got)-len(" reset A/601 602..604"):] != " reset A/601 602..604" {
			t.Errorf("who was behind must be told what is gone and go on after it, got %q", got)
		}
	})
}

// Pages that were read before a removal stay out of use, also when they hold messages that are left.
func TestPagesReadBeforeARemovalAreNotGiven(t *testing.T) {
	onStage(t, 3000, func(t *testing.T, s *stage) {
		s.join(sinceIn(100, "A"))
		rest(time.Second)
		s.remove(2900)
		rest(time.Second)
		late := s.join(sinceIn(100, "A"))
		rest(time.Second)
		if j := late.place(t); !j.Reset || j.Next != 2901 {
			t.Errorf("what is in a page and was removed must not be given: the member must go on at 2901, got %+v", j)
		}
		late.expect(t, "2901..3000")
	})
}

// Messages that were removed while they were on their way reach the members, and are then forgotten.
func TestLateMessagesThatWereRemovedAreNotKept(t *testing.T) {
	onStage(t, 10, func(t *testing.T, s *stage) {
		m := s.join(Start{})
		rest(time.Second)
		late := s.store.add(5, 1)
		s.remove(13)
		s.hub.Deliver(room, "A", late)
		rest(time.Second)
		m.expect(t, "11..15")
		if n := s.inMemory(); n != 2 {
			t.Errorf("of 5 messages of which 3 were removed memory must hold 2, not %d", n)
		}
		resumed := s.join(sinceIn(11, "A"))
		rest(time.Second)
		if j := resumed.place(t); !j.Reset || j.Next != 14 {
			t.Errorf("who resumes within what was removed must go on at 14, got %+v", j)
		}
	})
}

func TestARemovalOfAnotherEpochIsPassedOver(t *testing.T) {
	onStage(t, 10, func(t *testing.T, s *stage) {
		s.join(Start{})
		s.hub.Removed(room, proto.Position{Epoch: "B", Offset: 5}) // before the channel is open
		rest(time.Second)
		s.hub.Removed(room, proto.Position{Epoch: "B", Offset: 5})
		s.hub.Removed("nobody is here", proto.Position{Epoch: "A", Offset: 5})
		if n := s.inMemory(); n != 10 {
			t.Errorf("memory must still hold all 10 messages, not %d", n)
		}
	})
}

func TestARemovalBeforeTheChannelIsOpenCounts(t *testing.T) {
	onStage(t, 10, func(t *testing.T, s *stage) {
		s.store.set(func(s *store) { s.latency = time.Second })
		m := s.join(Start{})
		rest(100 * time.Millisecond)
		s.hub.Removed(room, proto.Position{Epoch: "A", Offset: 8})
		rest(5 * time.Second)
		if n := s.inMemory(); n != 2 {
			t.Errorf("memory must hold the 2 messages that are left, not %d", n)
		}
		if next := m.place(t).Next; next != 11 {
			t.Errorf("the member must begin at 11, not %d", fanout.Seq(next))
		}
	})
}
