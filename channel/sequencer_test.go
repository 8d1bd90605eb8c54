package channel

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"barrage/journal"
	"barrage/proto"
)

// messages makes messages with these offsets.
func messages(offsets ...proto.Offset) (ms []proto.Message) {
	for _, o := range offsets {
		ms = append(ms, proto.Message{Offset: o, Data: []byte("0")})
	}
	return ms
}

// run are the offsets from..to.
func run(from, to proto.Offset) (offsets []proto.Offset) {
	for o := from; o <= to; o++ {
		offsets = append(offsets, o)
	}
	return offsets
}

func offsetsOf(ms []proto.Message) (offsets []proto.Offset) {
	for i := range ms {
		offsets = append(offsets, ms[i].Offset)
	}
	return offsets
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// Every row of the decision table, for a channel that stands at offset 5 of epoch A.
func TestSequencerDecides(t *testing.T) {
	fetch := func(now time.Time, s *Sequencer) Verdict { s.Suspect(now); return Verdict{} }
	for _, row := range []struct {
		what string
		do   func(now time.Time, s *Sequencer) Verdict
		want Verdict
	}{
		{"a message that was delivered is dropped", func(now time.Time, s *Sequencer) Verdict {
			return s.Entries(now, "A", messages(4, 5))
		}, Verdict{Dropped: 2}},
		{"the next message is delivered", func(now time.Time, s *Sequencer) Verdict {
			return s.Entries(now, "A", messages(6))
		}, Verdict{Deliver: messages(6)}},
		{"a message without epoch counts as ours", func(now time.Time, s *Sequencer) Verdict {
			return s.Entries(now, "", messages(6))
		}, Verdict{Deliver: messages(6)}},
		{"a message that is early is held, and the gap looked at after the grace", func(now time.Time, s *Sequencer) Verdict {
			return s.Entries(now, "A", messages(7))
		}, Verdict{Wake: noon.Add(grace)}},
		{"what was held follows the message it waited for", func(now time.Time, s *Sequencer) Verdict {
			s.Entries(now, "A", messages(8, 7))
			return s.Entries(now, "A", messages(6))
		}, Verdict{Deliver: messages(6, 7, 8)}},
		{"a gap that is still there after the grace is fetched", func(now time.Time, s *Sequencer) Verdict {
			s.Entries(now, "A", messages(8))
			return s.Tick(now.Add(grace))
		}, Verdict{Fetch: true, From: 6}},
		{"a message of another epoch is not delivered; the journal is asked", func(now time.Time, s *Sequencer) Verdict {
			return s.Entries(now, "B", messages(6))
		}, Verdict{Fetch: true, From: 6}},
		{"a head of another epoch is no head; the journal is asked", func(now time.Time, s *Sequencer) Verdict {
			return s.Head(now, proto.Position{Epoch: "B", Offset: 99})
		}, Verdict{Fetch: true, From: 6}},
		{"a head that was reached asks for nothing", func(now time.Time, s *Sequencer) Verdict {
			return s.Head(now, proto.Position{Epoch: "A", Offset: 5})
		}, Verdict{}},
		{"the journal's other epoch resets", func(now time.Time, s *Sequencer) Verdict {
			fetch(now, s)
			return s.Fetched(now, journal.Page{Epoch: "B", Head: 3, Messages: messages(1, 2, 3)})
		}, Verdict{Reset: true, Epoch: "B", Next: 4}},
		{"a journal that went back resets", func(now time.Time, s *Sequencer) Verdict {
			fetch(now, s)
			return s.Fetched(now, journal.Page{Epoch: "A", Head: 4})
		}, Verdict{Reset: true, Epoch: "A", Next: 5}},
		{"what the journal does not hold any more is skipped", func(now time.Time, s *Sequencer) Verdict {
			fetch(now, s)
			return s.Fetched(now, journal.Page{Epoch: "A", Head: 9, Messages: messages(8, 9)})
		}, Verdict{Skip: true, Epoch: "A", Next: 8, Deliver: messages(8, 9)}},
		{"a journal without any message left is skipped to its head", func(now time.Time, s *Sequencer) Verdict {
			fetch(now, s)
			return s.Fetched(now, journal.Page{Epoch: "A", Head: 9})
		}, Verdict{Skip: true, Epoch: "A", Next: 10}},
		{"a message with offset 0 does not exist", func(now time.Time, s *Sequencer) Verdict {
			return s.Entries(now, "A", messages(0))
		}, Verdict{Dropped: 1}},
		{"a head that the journal does not confirm is forgotten", func(now time.Time, s *Sequencer) Verdict {
			s.Head(now, proto.Position{Epoch: "A", Offset: 1 << 60})
			now = now.Add(grace)
			s.Tick(now)
			return s.Fetched(now, journal.Page{Epoch: "A", Head: 5})
		}, Verdict{}},
		{"a message that the journal does not confirm is forgotten", func(now time.Time, s *Sequencer) Verdict {
			s.Entries(now, "A", messages(1<<63, 1<<62))
			now = now.Add(grace)
			s.Tick(now)
			return s.Fetched(now, journal.Page{Epoch: "A", Head: 5})
		}, Verdict{Dropped: 2}},
		{"a page that ends before its head is followed by another at once", func(now time.Time, s *Sequencer) Verdict {
			fetch(now, s)
			return s.Fetched(now, journal.Page{Epoch: "A", Head: 5000, Messages: messages(6, 7)})
		}, Verdict{Deliver: messages(6, 7), Fetch: true, From: 8}},
	} {
		var s Sequencer
		s.Open(noon, proto.Position{Epoch: "A", Offset: 5})
		if got := row.do(noon, &s); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: got %+v, want %+v", row.what, got, row.want)
		}
	}
}

// What is heard before the channel is open waits for it, but only if it is of the journal's epoch.
func TestSequencerBeforeOpen(t *testing.T) {
	for _, row := range []struct {
		what  string
		epoch proto.Epoch
		at    proto.Offset
		want  Verdict
	}{
		{"early messages that follow the head are delivered", "A", 5, Verdict{Deliver: messages(6, 7)}},
		{"early messages that the head includes are passed over", "A", 7, Verdict{}},
		{"a gap before early messages is looked at after the grace", "A", 3, Verdict{Wake: noon.Add(grace)}},
		{"early messages of another epoch are dropped, and the journal is asked", "B", 5, Verdict{Dropped: 2, Fetch: true, From: 6}},
	} {
		var s Sequencer
		if v := s.Entries(noon, "A", messages(7, 6)); !reflect.DeepEqual(v, Verdict{}) {
			t.Errorf("%s: a channel that is not open must wait, but said %+v", row.what, v)
		}
		if got := s.Open(noon, proto.Position{Epoch: row.epoch, Offset: row.at}); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: got %+v, want %+v", row.what, got, row.want)
		}
	}
	var s Sequencer
	if s.Entries(noon, "A", messages(0)); s.IsOpen() {
		t.Error("a message with offset 0 must not open a channel")
	}
}

// What was told while a fetch was under way is not forgotten because the page was older.
func TestSequencerTrustsNewsOverAnOlderPage(t *testing.T) {
	var s Sequencer
	s.Open(noon, proto.Position{Epoch: "A", Offset: 5})
	s.Suspect(noon)
	s.Head(noon, proto.Position{Epoch: "A", Offset: 7})
	v := s.Fetched(noon, journal.Page{Epoch: "A", Head: 5})
	if v.Wake.IsZero() {
		t.Fatalf("a head that was told after the journal was read must be looked for, but the verdict was %+v", v)
	}
	if v = s.Tick(v.Wake); !v.Fetch || v.From != 6 {
		t.Errorf("the messages up to that head must be fetched, but the verdict was %+v", v)
	}
}

// Another epoch that is told of while a fetch is under way is looked at afterwards.
func TestSequencerKeepsASuspicionRaisedDuringAFetch(t *testing.T) {
	var s Sequencer
	s.Open(noon, proto.Position{Epoch: "A", Offset: 5})
	s.Head(noon, proto.Position{Epoch: "A", Offset: 6})
	if v := s.Tick(noon.Add(grace)); !v.Fetch {
		t.Fatalf("the gap must be fetched, but the verdict was %+v", v)
	}
	s.Entries(noon, "B", messages(1))
	if v := s.Fetched(noon, journal.Page{Epoch: "A", Head: 6, Messages: messages(6)}); !v.Fetch {
		t.Errorf("the page may be older than the other epoch, so the journal must be asked again, but the verdict was %+v", v)
	}
}

// A busy channel in which each missing message arrives within the grace needs no journal, although there is always some gap.
func TestSequencerGivesEachGapItsGrace(t *testing.T) {
	var s Sequencer
	s.Open(noon, proto.Position{Epoch: "A"})
	s.Entries(noon, "A", messages(1, 3))
	now := noon
	hear := func(o proto.Offset) {
		if v := s.Entries(now, "A", messages(o)); v.Fetch {
			t.Fatalf("after %v, although no message was late by more than %v, the journal was asked for %d", now.Sub(noon), 2*grace/5, v.From)
		}
		now = now.Add(grace / 5)
	}
	for o := proto.Offset(5); o < 500; o += 2 {
		hear(o) // 5, 2, 7, 4, 9, 6, …
		hear(o - 3)
	}
}

// Whoever tells of another epoch all the time costs one look at the journal a second, also when there are gaps.
func TestStaleSenderCostsOneLookASecond(t *testing.T) {
	var s Sequencer
	s.Open(noon, proto.Position{Epoch: "A"})
	now, head, fetches := noon, proto.Offset(0), 0
	answer := func(v Verdict) {
		for v.Fetch {
			fetches++
			page := journal.Page{Epoch: "A", Head: head}
			if v.From <= head {
				page.Messages = messages(run(v.From, head)...)
			}
			v = s.Fetched(now, page)
			if v.Reset {
				t.Fatal("a stale sender must not reset the channel")
			}
		}
	}
	for range 1000 { // 10 s; each message is overtaken by the one after it
		head += 2
		answer(s.Entries(now, "B", messages(1)))
		answer(s.Entries(now, "A", messages(head)))
		answer(s.Entries(now, "A", messages(head-1)))
		now = now.Add(10 * time.Millisecond)
		answer(s.Tick(now))
	}
	if fetches > 11 {
		t.Errorf("in 10 s a stale sender caused %d reads of the journal, want at most 11", fetches)
	}
}

func TestHeldIsBounded(t *testing.T) {
	var s Sequencer
	s.Open(noon, proto.Position{Epoch: "A"})
	v := s.Entries(noon, "A", messages(run(2, maxHeld+101)...))
	if v.Overflow != 100 || len(s.held) != maxHeld {
		t.Errorf("of %d early messages %d are held and %d counted as overflow, want %d and 100", maxHeld+100, len(s.held), v.Overflow, maxHeld)
	}
	s = Sequencer{}
	s.Open(noon, proto.Position{Epoch: "A"})
	for o := range proto.Offset(40) {
		s.Entries(noon, "A", []proto.Message{{Offset: 60 - o, Data: make([]byte, 64<<10)}})
		if s.heldBytes > maxHeldBytes {
			t.Fatalf("%d bytes are held, the bound is %d", s.heldBytes, maxHeldBytes)
		}
	}
	if s.held[0].Offset != 21 {
		t.Errorf("what overflows must be the messages needed last, but the first one held is %d", s.held[0].Offset)
	}
}

// model drives a Sequencer against a journal in memory and checks what it must never do.
type model struct {
	t interface{ Fatalf(string, ...any) }
	s Sequencer

	now     time.Time
	head    proto.Offset // of the journal
	oldest  proto.Offset // that the journal holds
	page    int          // messages in a page at most
	asked   *proto.Offset
	read    *journal.Page // the answer, once it was read
	wake    time.Time
	next    proto.Offset // the member's
	skipped int
	fetches int
}

func (m *model) apply(v Verdict) {
	if v.Reset {
		m.t.Fatalf("a reset, although the journal's epoch is the same")
	}
	if v.Skip {
		if v.Next > m.oldest && v.Next != m.head+1 || v.Next <= m.next {
			m.t.Fatalf("messages %d to %d were skipped, although the journal holds %d to %d", m.next, v.Next-1, m.oldest, m.head)
		}
		m.skipped += int(v.Next - m.next)
		m.next = v.Next
	}
	for _, d := range v.Deliver {
		if d.Offset != m.next {
			m.t.Fatalf("message %d was delivered after %d", d.Offset, m.next-1)
		}
		m.next++
	}
	if v.Fetch {
		if m.asked != nil {
			m.t.Fatalf("a second fetch while one is under way")
		}
		m.fetches++
		m.asked, m.read = &v.From, nil
	}
	if !v.Wake.IsZero() && !v.Wake.After(m.now) {
		m.t.Fatalf("Wake must be in the future, or it is a busy loop")
	}
	m.wake = v.Wake
	if len(m.s.held) > maxHeld || m.s.heldBytes > maxHeldBytes && len(m.s.held) > 1 {
		m.t.Fatalf("%d messages of %d bytes are held", len(m.s.held), m.s.heldBytes)
	}
	size := 0
	for i := range m.s.held {
		size += m.s.held[i].Size()
	}
	if size != m.s.heldBytes {
		m.t.Fatalf("%d bytes are held and %d counted", size, m.s.heldBytes)
	}
}

// look reads the page that was asked for.
func (m *model) look() {
	p := journal.Page{Epoch: "A", Head: m.head}
	for o := max(*m.asked, m.oldest); o <= m.head && len(p.Messages) < m.page; o++ {
		p.Messages = append(p.Messages, proto.Message{Offset: o})
	}
	m.read = &p
}

func (m *model) answer() {
	p := *m.read
	m.asked, m.read = nil, nil
	m.apply(m.s.Fetched(m.now, p))
}

// settle lets everything come to rest and returns how many fetches that took.
func (m *model) settle() int {
	before := m.fetches
	for range 10_000 {
		switch {
		case m.asked != nil:
			m.look()
			m.answer()
		case !m.wake.IsZero():
			m.now = m.wake
			m.apply(m.s.Tick(m.now))
		default:
			return m.fetches - before
		}
	}
	m.t.Fatalf("it does not come to rest: %d fetches so far", m.fetches)
	return 0
}

// Whatever is lost, repeated, reordered or late, everything is delivered once and in order, as far as the journal keeps it.
func TestSequencerDeliversEverythingOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, now: noon, oldest: 1, next: 1, page: rapid.IntRange(1, 8).Draw(t, "page")}
		opened := rapid.IntRange(0, 5).Draw(t, "opened")
		trims := rapid.Bool().Draw(t, "trims")
		pick := func(what string, to proto.Offset) proto.Offset {
			return proto.Offset(rapid.Uint64Range(1, uint64(to)).Draw(t, what))
		}
		actions := map[string]func(*rapid.T){
			"publish": func(*rapid.T) { m.head += pick("n", 5) },
			"hear": func(*rapid.T) {
				if m.head > 0 {
					at := pick("offset", m.head)
					if rapid.Bool().Draw(t, "recent") {
						at = m.head - min(m.head-1, at%4)
					}
					m.apply(m.s.Entries(m.now, "A", messages(run(at, min(m.head, at+pick("n", 3)-1))...)))
				}
			},
			"announce": func(*rapid.T) {
				if m.head > 0 {
					m.apply(m.s.Head(m.now, proto.Position{Epoch: "A", Offset: pick("head", m.head)}))
				}
			},
			"suspect": func(*rapid.T) {
				if opened <= 0 {
					m.apply(m.s.Suspect(m.now))
				}
			},
			"trim": func(*rapid.T) {
				if trims && m.oldest <= m.head {
					m.oldest += pick("n", m.head-m.oldest+1)
				}
			},
			"wait": func(*rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "ms")) * time.Millisecond)
				if !m.wake.IsZero() && !m.now.Before(m.wake) {
					m.apply(m.s.Tick(m.now))
				}
			},
			"read": func(*rapid.T) {
				if m.asked != nil && m.read == nil {
					m.look()
				}
			},
			"answer": func(*rapid.T) {
				if m.asked != nil && m.read != nil {
					m.answer()
				}
			},
			"fail": func(*rapid.T) {
				if m.asked != nil {
					m.asked, m.read = nil, nil
					m.apply(m.s.FetchFailed(m.now))
				}
			},
			"open": func(*rapid.T) {
				if opened--; opened == 0 {
					m.next = m.head + 1
					m.apply(m.s.Open(m.now, proto.Position{Epoch: "A", Offset: m.head}))
				}
			},
		}
		if opened == 0 {
			m.apply(m.s.Open(m.now, proto.Position{Epoch: "A"}))
		}
		t.Repeat(actions)
		if opened > 0 {
			m.next = m.head + 1
			m.apply(m.s.Open(m.now, proto.Position{Epoch: "A", Offset: m.head}))
		}
		m.settle()
		missing := int(m.head + 1 - m.next)
		m.apply(m.s.Head(m.now, proto.Position{Epoch: "A", Offset: m.head}))
		fetches := m.settle()
		if m.next != m.head+1 {
			t.Fatalf("at rest %d was delivered, the head is %d", m.next-1, m.head)
		}
		if m.skipped > 0 && !trims {
			t.Fatalf("%d messages were skipped, although none was removed", m.skipped)
		}
		if most := missing/m.page + 2; fetches > most {
			t.Fatalf("%d missing messages took %d fetches of %d, want at most %d", missing, fetches, m.page, most)
		}
	})
}

// Heads and messages that never existed cost reads while they are told, and nothing afterwards.
func TestPhantomsCostNothingInTheLongRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, now: noon, oldest: 1, next: 1, page: 100}
		m.apply(m.s.Open(m.now, proto.Position{Epoch: "A"}))
		told := rapid.IntRange(1, 20).Draw(t, "told")
		for i := range told {
			o := proto.Offset(rapid.Uint64Range(2, 1<<63).Draw(t, "offset"))
			if rapid.Bool().Draw(t, "message") {
				m.apply(m.s.Entries(m.now, "A", messages(o)))
			} else {
				m.apply(m.s.Head(m.now, proto.Position{Epoch: "A", Offset: o}))
			}
			if i%3 == 0 {
				m.now = m.now.Add(grace)
				m.apply(m.s.Tick(m.now))
			}
		}
		if fetches := m.settle(); fetches > 2 {
			t.Fatalf("after the last of %d phantoms the journal was read %d times, want at most 2", told, fetches)
		}
		m.head++
		m.apply(m.s.Entries(m.now, "A", messages(1)))
		if m.next != 2 {
			t.Fatalf("the first real message was not delivered")
		}
	})
}

func (v Verdict) String() string {
	s := ""
	add := func(format string, args ...any) { s += fmt.Sprintf("; "+format, args...) }
	if v.Reset {
		add("reset to %s/%d", v.Epoch, v.Next-1)
	}
	if v.Skip {
		add("skip to %d", v.Next)
	}
	if len(v.Deliver) > 0 {
		add("deliver %s", ranges(offsetsOf(v.Deliver)))
	}
	if v.Dropped > 0 {
		add("dropped %d", v.Dropped)
	}
	if v.Overflow > 0 {
		add("overflow %d", v.Overflow)
	}
	if v.Fetch {
		add("fetch from %d", v.From)
	}
	if s == "" {
		return ""
	}
	return s[2:]
}

// ranges writes offsets as 1..3 5.
func ranges(offsets []proto.Offset) (s string) {
	for i := 0; i < len(offsets); {
		j := i
		for j+1 < len(offsets) && offsets[j+1] == offsets[j]+1 {
			j++
		}
		if s != "" {
			s += " "
		}
		if s += fmt.Sprint(offsets[i]); j > i {
			s += fmt.Sprintf("..%d", offsets[j])
		}
		i = j + 1
	}
	return s
}
