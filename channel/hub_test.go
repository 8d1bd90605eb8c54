package channel

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/fanout"
	"barrage/proto"
)

// Where a member begins, in a channel whose journal holds 1..3000, the last 1000 of them in memory.
func TestJoining(t *testing.T) {
	for _, row := range []struct {
		what  string
		start Start
		trim  proto.Offset // the oldest message kept
		next  proto.Offset
		reset bool
		got   string
	}{
		{"a fresh member begins with the next message", Start{}, 1, 3001, false, "3001..3002"},
		{"one that is up to date goes on", since(3000), 1, 3001, false, "3001..3002"},
		{"one whose messages are in memory gets them", sinceIn(2990, "A"), 1, 2991, false, "2991..3002"},
		{"one whose messages are in the journal gets them in pages", since(100), 1, 101, false, "101..3002"},
		{"from the beginning", since(0), 1, 1, false, "1..3002"},
		{"from the beginning there is", since(0), 1500, 1500, false, "1500..3002"},
		{"from the beginning in memory, when the journal has removed more", since(0), 2500, 2001, false, "2001..3002"},
		{"one whose messages were removed is reset", since(100), 1500, 1500, true, "1500..3002"},
		{"one whose messages were removed, but are in memory, gets them", since(2100), 2500, 2101, false, "2101..3002"},
		{"another epoch is reset to the head", sinceIn(2990, "B"), 1, 3001, true, "3001..3002"},
		{"a position beyond the journal's head is reset to the head", since(3001), 1, 3001, true, "3001..3002"},
		{"the last ones", Start{Last: 10}, 1, 2991, false, "2991..3002"},
		{"more of the last ones than memory holds", Start{Last: 2000}, 1, 1001, false, "1001..3002"},
		{"more of the last ones than there are", Start{Last: 5000}, 1, 1, false, "1..3002"},
	} {
		t.Run(row.what, func(t *testing.T) {
			onStage(t, 3000, func(t *testing.T, s *stage) {
				s.join(Start{})
				rest(time.Second)
				s.store.set(func(s *store) { s.oldest = row.trim })
				m := s.join(row.start)
				rest(time.Second)
				if j := m.place(t); j.Next != row.next || j.Reset != row.reset || j.Epoch != "A" || j.Offset != 3000 || (j.Reason != "") != row.reset {
					t.Errorf("it was placed at %+v, want next %d and reset %v", j, row.next, row.reset)
				}
				s.publish(2)
				rest(time.Second)
				m.expect(t, row.got)
			})
		})
	}
}

// A client may know more than the node it comes to: the journal decides.
func TestJoiningAheadOfTheNode(t *testing.T) {
	onStage(t, 10, func(t *testing.T, s *stage) {
		s.join(Start{})
		rest(time.Second)
		lost := s.store.add(5, 1) // published elsewhere, and lost on the way
		m := s.join(since(13))
		rest(10 * time.Millisecond)
		if j := m.place(t); j.Reset || j.Next != 14 || j.Offset < 13 {
			t.Errorf("a member that is ahead of the node, not of the journal, must go on where it was, but was placed at %+v", j)
		}
		beyond := s.join(since(16))
		rest(10 * time.Millisecond)
		if j := beyond.place(t); !j.Reset || j.Next != 16 || j.Offset != 15 {
			t.Errorf("a member that is ahead of the journal must be reset to its head 15, but was placed at %+v", j)
		}
		s.hub.Deliver(room, "A", lost)
		s.publish(1)
		rest(time.Second)
		m.expect(t, "14..16")
		beyond.expect(t, "16")
	})
}

func TestJoiningWhileTheJournalIsAway(t *testing.T) {
	onStage(t, 5, func(t *testing.T, s *stage) {
		s.store.set(func(s *store) { s.away = true })
		impatient := s.join(since(2))
		rest(6 * time.Second)
		patient := s.join(since(2))
		rest(5 * time.Second)
		if j := impatient.place(t); !errors.Is(j.Err, ErrNotOpen) {
			t.Errorf("a member that waited longer than Patience must hear ErrNotOpen, but was placed at %+v", j)
		}
		s.store.set(func(s *store) { s.away = false })
		rest(2 * time.Second)
		if j := patient.place(t); j.Err != nil || j.Next != 3 {
			t.Errorf("when the journal is back a member must be placed, but got %+v", j)
		}
		s.publish(1)
		rest(time.Second)
		patient.expect(t, "3..6")
		impatient.expect(t, "")
	})
}

// A member of an open channel whose position must be looked up waits for the journal too.
func TestLookingUpAPositionWhileTheJournalIsAway(t *testing.T) {
	for what, start := range map[string]Start{"behind memory": since(1), "beyond the head": since(2005)} {
		onStage(t, 2000, func(t *testing.T, s *stage) {
			s.join(Start{})
			rest(time.Second)
			s.store.set(func(s *store) { s.away = true })
			impatient := s.join(start)
			rest(8 * time.Second)
			patient := s.join(start)
			rest(4 * time.Second)
			if j := impatient.place(t); !errors.Is(j.Err, ErrNotOpen) {
				t.Errorf("%s: after Patience a member must hear ErrNotOpen, but was placed at %+v", what, j)
			}
			s.store.set(func(s *store) { s.away = false })
			rest(3 * time.Second)
			if j := patient.place(t); j.Err != nil {
				t.Errorf("%s: when the journal is back a member must be placed, but got %+v", what, j)
			}
			reads, _ := s.store.counts()
			rest(time.Minute)
			if more, _ := s.store.counts(); more != reads {
				t.Errorf("%s: nobody waits any more, but the journal was read %d times in a minute", what, more-reads)
			}
		})
	}
}

// Recovery storms: the promise is in the design, a thousand resumes cost at most one read.
func TestAThousandResumesFromMemoryCostOneRead(t *testing.T) {
	onStage(t, 5000, func(t *testing.T, s *stage) {
		var ms []*member
		for i := range 1000 {
			ms = append(ms, s.join(since(proto.Offset(4999-i%900))))
		}
		rest(time.Second)
		for i, m := range ms {
			m.expect(t, ranges(run(proto.Offset(5000-i%900), 5000)))
		}
		if reads, heads := s.store.counts(); reads != 1 || heads > 1 {
			t.Errorf("a thousand resumes of positions in memory cost %d reads and %d comparisons, want the one read that opens the channel", reads, heads)
		}
	})
}

func TestAThousandResumesFromPagesShareThem(t *testing.T) {
	onStage(t, 5000, func(t *testing.T, s *stage) {
		s.join(Start{})
		rest(time.Second)
		s.store.set(func(s *store) { s.latency = 50 * time.Millisecond })
		before, _ := s.store.counts()
		var ms []*member
		for i := range 1000 {
			ms = append(ms, s.join(since(proto.Offset(3700+i%50)))) // in one page of 256
			if i%100 == 0 {
				rest(7 * time.Millisecond)
			}
		}
		rest(5 * time.Second)
		for i, m := range ms {
			m.expect(t, fmt.Sprintf("%d..5000", 3701+i%50))
		}
		// From 3585 on two pages are in the journal alone; the third one begins there and ends in memory.
		if reads, _ := s.store.counts(); reads-before > 3 {
			t.Errorf("a thousand resumes of nearby positions cost %d reads of pages, want at most 3", reads-before)
		}
	})
}

// Large messages make pages shorter than their stretch; members go through all of them, and each is read about once.
func TestPagesOfLargeMessages(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		s.store.add(300, 60_000)
		ms := []*member{s.join(since(0)), s.join(since(20)), s.join(since(250))}
		rest(10 * time.Second)
		ms[0].expect(t, "1..300")
		ms[1].expect(t, "21..300")
		ms[2].expect(t, "251..300")
		if reads, _ := s.store.counts(); reads > 3*300*60_000>>20 {
			t.Errorf("18 MB in pages of 1 MiB cost three members %d reads", reads)
		}
	})
}

func TestASlowReaderCatchesUpFromPages(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		quick, slow := s.join(Start{}), s.join(Start{})
		rest(time.Second)
		slow.stop()
		for i := range 40 {
			s.hub.Deliver(room, "A", s.store.add(100, 100))
			rest(time.Millisecond)
			quick.expect(t, fmt.Sprintf("1..%d", 100*(i+1)))
		}
		slow.goOn()
		rest(time.Second)
		slow.expect(t, "1..4000")
		if n := s.hub.Stats().PageReads.Load(); n == 0 {
			t.Error("a reader that is 4,000 messages behind must be fed from the journal")
		}
	})
}

// What retention removed before a slow reader came to it is announced to that reader, and to no other.
func TestASlowReaderIsToldWhatIsGone(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		quick, slow := s.join(Start{}), s.join(Start{})
		rest(time.Second)
		slow.stop()
		for range 30 {
			s.hub.Deliver(room, "A", s.store.add(100, 100))
			rest(time.Millisecond)
		}
		s.store.set(func(s *store) { s.oldest = 500 })
		slow.goOn()
		rest(time.Second)
		slow.expect(t, "reset A/499 500..3000")
		quick.expect(t, "1..3000")
		if n := s.hub.Stats().Missed.Load(); n != 1 {
			t.Errorf("one member missed messages, %d are counted", n)
		}
	})
}

// Whoever needs what the journal removed gets what memory still holds.
func TestASlowReaderIsNotToldThatWhatIsInMemoryIsGone(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		slow, slower := s.join(Start{}), s.join(Start{})
		rest(time.Second)
		slower.stop()
		s.publish(2500)
		rest(time.Second)
		slow.stop()
		s.hub.Deliver(room, "A", s.store.add(700, 100)) // more than the log holds, less than the tail
		rest(time.Second)
		s.store.set(func(s *store) { s.oldest = 3201 })
		slower.goOn()
		slow.goOn()
		rest(3 * time.Second)
		slow.expect(t, "1..3200")
		slower.expect(t, "reset A/2200 2201..3200")
	})
}

func TestARetiredChannelUnsubscribesAndOpensAgain(t *testing.T) {
	onStage(t, 5, func(t *testing.T, s *stage) {
		m := s.join(Start{})
		rest(time.Second)
		m.out.Close()
		rest(20 * time.Second)
		if n := s.hub.Channels(); n != 1 {
			t.Error("a channel without members must be kept up to date for Linger")
		}
		rest(13 * time.Second)
		if n := s.hub.Channels(); n != 0 {
			t.Error("after Linger a channel without members must be given up")
		}
		s.store.add(3, 1) // nobody here hears of them
		again := s.join(since(5))
		rest(time.Second)
		s.publish(1)
		rest(time.Second)
		again.expect(t, "6..9")
		if got := strings.Join(s.subs.calls, ", "); got != "subscribe room, unsubscribe room, subscribe room" {
			t.Errorf("the broker was told %q", got)
		}
	})
}

// A journal that was replaced, or that went back, is told to every member once.
func TestAReplacedJournalResetsEveryMemberOnce(t *testing.T) {
	onStage(t, 3000, func(t *testing.T, s *stage) {
		ready, paging := s.join(Start{}), s.join(since(10))
		rest(time.Second)
		slow := s.join(Start{})
		slow.stop()
		s.hub.Deliver(room, "A", s.store.add(1000, 100))
		rest(time.Second)
		waiting := s.join(since(20))
		waiting.stop()
		rest(time.Second)
		s.store.set(func(s *store) { s.epoch, s.messages = "B", s.messages[:7] })
		s.publish(1)
		rest(2 * time.Second)
		slow.goOn()
		waiting.goOn()
		s.publish(1)
		rest(2 * time.Second)
		late := s.join(sinceIn(3000, "A"))
		rest(2 * time.Second)
		if j := late.place(t); !j.Reset || j.Next != 10 {
			t.Errorf("a member of the old epoch must be reset to the head 9, but was placed at %+v", j)
		}
		ready.expect(t, "3001..4000 reset B/8 9")
		paging.expect(t, "11..4000 reset B/8 9")
		if got := slow.got(); got != "reset B/8 9" {
			t.Errorf("a slow member got %q, want the reset once and then what follows it", got)
		}
		if got := waiting.got(); !strings.HasSuffix(got, " reset B/8 9") && got != "reset B/8 9" || strings.Count(got, "reset") != 1 {
			t.Errorf("a member in pages got %q, want the reset once and then what follows it", got)
		}
		reads, _ := s.store.counts()
		rest(time.Minute)
		if more, _ := s.store.counts(); more != reads {
			t.Errorf("after the reset nothing is missing, but the journal was read %d times in a minute", more-reads)
		}
	})
}

// A database that failed over to a replica that was behind gives the same offsets again: that is no silence.
func TestAJournalThatWentBackIsNoticed(t *testing.T) {
	onStage(t, 10, func(t *testing.T, s *stage) {
		m := s.join(Start{})
		rest(time.Second)
		s.publish(5)
		rest(time.Second)
		s.store.set(func(s *store) { s.messages = s.messages[:12] })
		rest(11 * time.Second) // an audit
		s.publish(2)
		rest(time.Second)
		m.expect(t, "11..15 reset A/12 13..14")
	})
}

// A position that cannot be judged, because the journal was replaced and this node does not know yet, waits without hurry.
func TestJoiningDuringAChangeOfEpochDoesNotHammerTheJournal(t *testing.T) {
	onStage(t, 10, func(t *testing.T, s *stage) {
		s.join(Start{})
		rest(time.Second)
		s.hub.Announced(room, proto.Position{Epoch: "stale", Offset: 3}) // the next look is not before a second
		rest(time.Millisecond)
		s.store.set(func(s *store) { s.epoch, s.latency = "B", time.Millisecond })
		m := s.join(since(12))
		rest(3 * time.Second)
		if j := m.place(t); !j.Reset || j.Epoch != "B" {
			t.Errorf("the member must be reset in the new epoch, but was placed at %+v", j)
		}
		if _, heads := s.store.counts(); heads > 10 {
			t.Errorf("meanwhile the heads were compared %d times, want a handful", heads)
		}
	})
}

func TestTheTailIsBounded(t *testing.T) {
	var l tail
	l.clear(1)
	for o := proto.Offset(1); o <= 3000; o++ {
		l.add([]proto.Message{{Offset: o, Data: make([]byte, int(o)%50*100)}})
		size := 0
		for i := range l.messages {
			size += l.messages[i].Size()
		}
		if size != l.bytes || size > tailBytes || len(l.messages) > tailMessages {
			t.Fatalf("after %d messages the tail holds %d of %d bytes and counts %d", o, len(l.messages), size, l.bytes)
		}
		if got, ok := l.from(l.first()); !ok || got[0].Offset != l.first() || l.next != o+1 {
			t.Fatalf("after %d messages the tail does not begin with %d", o, l.first())
		}
	}
	l.add([]proto.Message{{Offset: 3001, Data: make([]byte, 2*tailBytes)}})
	if l.first() != 3001 {
		t.Errorf("a message larger than the bound must stay alone, but the tail begins with %d", l.first())
	}
	if _, ok := l.from(3002); ok {
		t.Error("the tail must not answer for what it does not hold")
	}
}

func TestWhileTheBrokerIsDownHeadsAreComparedEverySecond(t *testing.T) {
	onStage(t, 5, func(t *testing.T, s *stage) {
		m := s.join(Start{})
		rest(time.Second)
		s.hub.SetBrokerUp(false)
		for i := range 5 {
			s.store.add(1, 1) // elsewhere
			rest(1200 * time.Millisecond)
			m.expect(t, ranges(run(6, proto.Offset(6+i))))
		}
	})
}

func TestALostLastMessageIsFoundByAnAnnouncement(t *testing.T) {
	onStage(t, 5, func(t *testing.T, s *stage) {
		m := s.join(Start{})
		rest(time.Second)
		s.store.add(1, 1)
		s.hub.Announced(room, proto.Position{Epoch: "A", Offset: 6})
		rest(100 * time.Millisecond)
		m.expect(t, "6")
	})
}

func TestALostLastMessageIsFoundByAnAudit(t *testing.T) {
	onStage(t, 5, func(t *testing.T, s *stage) {
		m := s.join(Start{})
		rest(time.Second)
		s.store.add(1, 1)
		rest(11 * time.Second)
		m.expect(t, "6")
	})
}

func TestAGapIsReadOnceForAllMembers(t *testing.T) {
	onStage(t, 5, func(t *testing.T, s *stage) {
		for range 100 {
			s.join(Start{})
		}
		rest(time.Second)
		before, _ := s.store.counts()
		s.store.add(3, 1)
		s.publish(1)
		rest(time.Second)
		for _, m := range s.outs {
			m.expect(t, "6..9")
		}
		if reads, _ := s.store.counts(); reads != before+1 {
			t.Errorf("a gap cost %d reads for 100 members, want 1", reads-before)
		}
	})
}

// A fetch that fails is repeated with longer and longer pauses, not at once.
func TestRepairIsPatientWithAJournalThatIsAway(t *testing.T) {
	onStage(t, 5, func(t *testing.T, s *stage) {
		m := s.join(Start{})
		rest(time.Second)
		s.store.add(3, 1)
		s.store.set(func(s *store) { s.away = true })
		before, _ := s.store.counts()
		s.publish(1)
		rest(10 * time.Second)
		if reads, _ := s.store.counts(); reads-before > 14 {
			t.Errorf("in 10 s the journal that is away was asked %d times, want about once a second", reads-before)
		}
		s.store.set(func(s *store) { s.away = false })
		rest(2 * time.Second)
		m.expect(t, "6..9")
	})
}

// The pages of a channel that is out of use do not keep it in memory, and a page of an old epoch is given to nobody.
func TestAPageOfAnOldEpochIsReadAgain(t *testing.T) {
	onStage(t, 3000, func(t *testing.T, s *stage) {
		s.join(since(10))
		rest(time.Second) // pages are cached
		s.store.set(func(s *store) { s.epoch = "B" })
		s.hub.Announced(room, proto.Position{Epoch: "B", Offset: 3000})
		rest(2 * time.Second)
		m := s.join(sinceIn(10, "B"))
		rest(3 * time.Second)
		if j := m.place(t); j.Err != nil || j.Next != 11 {
			t.Fatalf("a member must be placed in the new epoch, but got %+v", j)
		}
		m.expect(t, "11..3000")
	})
}

func TestAfterCloseNobodyIsPlaced(t *testing.T) {
	onStage(t, 5, func(t *testing.T, s *stage) {
		s.join(Start{})
		rest(time.Second)
		s.hub.Close()
		if j := s.join(Start{}).place(t); !errors.Is(j.Err, ErrNotOpen) {
			t.Errorf("after Close a member must hear ErrNotOpen, but was placed at %+v", j)
		}
		s.publish(1)
		s.hub.Announced(room, proto.Position{Epoch: "B", Offset: 9})
		rest(time.Minute) // synctest fails when a goroutine is left
	})
}

func TestPagesOfChannelsOutOfUseAreDropped(t *testing.T) {
	c := newPageCache(1 << 20)
	page := func(first fanout.Seq) *keptPage {
		p := fanout.NewPage(first, 10, 1)
		p.Add([]byte("0123456789"), 0)
		return &keptPage{page: p}
	}
	for life := range uint64(4) {
		for index := range uint64(3) {
			c.put(cacheKey{life: life, index: index}, page(fanout.Seq(index)))
		}
	}
	c.forget(map[uint64]bool{1: true, 3: true})
	for life := range uint64(4) {
		if kept := c.get(cacheKey{life: life, index: 1}) != nil; kept != (life%2 == 0) {
			t.Errorf("pages are kept of channels in use and of no other: of life %d %v", life, kept)
		}
	}
	if want := 6 * page(0).page.Size(); c.size != want || c.order.Len() != 6 {
		t.Errorf("what is dropped counts no more: %d bytes, %d pages", c.size, c.order.Len())
	}
}
