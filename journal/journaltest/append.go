package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"barrage/journal"
	"barrage/proto"
)

func (s *suite) offsets() {
	for want := proto.Offset(1); want <= 5; want++ {
		if got := s.append(journal.Draft{Channel: "a", Data: []byte("1")})[0]; got.Offset != want || got.Repeated {
			s.Fatalf("append number %d must be offset %d and new, not %+v", want, want, got)
		}
	}
	both := s.append(journal.Draft{Channel: "a"}, journal.Draft{Channel: "b"}, journal.Draft{Channel: "a"})
	if both[0].Offset != 6 || both[1].Offset != 1 || both[2].Offset != 7 {
		s.Errorf("a batch of channels a, b, a must continue each: 6, 1, 7, not %v", both)
	}
	if none := s.append(); len(none) != 0 {
		s.Errorf("an empty batch must store nothing, not %v", none)
	}
	s.wantSpan("a", journal.Range{}, 1, 7, 7)
	s.wantSpan("no such channel", journal.Range{}, 0, 0, 0)
}

func (s *suite) content() {
	drafts := []journal.Draft{
		{Channel: "c", User: "ann", Client: "x1", Data: []byte(`{"text":"hello"}`)},
		{Channel: "c", User: "弹幕 \U0001F680", Client: "", Data: []byte(`"\u0000 é \ud83d"`)},
		{Channel: "c", Data: nil},
		{Channel: "c", Data: []byte{}},
		{Channel: "c", Data: []byte{0, 1, 255, 0}},
		{Channel: "c", Key: strings.Repeat("k", proto.MaxKeyBytes), User: strings.Repeat("u", proto.MaxUserBytes), Data: []byte("1")},
		{Channel: "c", Data: bytes.Repeat([]byte("x"), 1<<20)},
	}
	stored := s.append(drafts...)
	p := s.read("c", journal.Range{MaxBytes: 1 << 30})
	if len(p.Messages) != len(drafts) {
		s.Fatalf("all %d messages must be read, not %d", len(drafts), len(p.Messages))
	}
	for i := range drafts {
		s.wantMessage(p.Messages[i], stored[i], drafts[i])
	}
}

func (s *suite) refused() {
	s.append(journal.Draft{Channel: "a"})
	bad := map[string][]journal.Draft{
		"a draft without a channel": {{Channel: "a"}, {}},
		"a NUL in a user":           {{Channel: "a"}, {Channel: "a", User: "x\x00"}},
		"bytes that are no UTF-8":   {{Channel: "a"}, {Channel: "a", Key: "\xff"}},
		"a batch that is too large": make([]journal.Draft, journal.MaxBatch+1),
	}
	for what, drafts := range bad {
		if _, err := s.j.Append(s.ctx(), drafts); !errors.Is(err, journal.ErrDraft) {
			s.Errorf("%s must be refused with ErrDraft, not %v", what, err)
		}
	}
	s.wantSpan("a", journal.Range{}, 1, 1, 1)
}

func (s *suite) ended() {
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	if _, err := s.j.Append(ctx, []journal.Draft{{Channel: "a"}}); err == nil || errors.Is(err, journal.ErrUncertain) {
		s.Errorf("append in a context that has ended must fail and store nothing, not %v", err)
	}
	s.wantSpan("a", journal.Range{}, 0, 0, 0)
}

func (s *suite) mixed() {
	var drafts []journal.Draft
	for i := range journal.MaxBatch {
		drafts = append(drafts, journal.Draft{Channel: fmt.Sprintf("mixed %d", i*7%100), Data: number(i)})
	}
	next := map[string]proto.Offset{}
	for range 3 {
		for i, at := range s.append(drafts...) {
			next[drafts[i].Channel]++
			if at.Offset != next[drafts[i].Channel] {
				s.Fatalf("draft %d of %s must be offset %d, not %d", i, drafts[i].Channel, next[drafts[i].Channel], at.Offset)
			}
		}
	}
	for name, head := range next {
		s.wantSpan(name, journal.Range{}, 1, head, head)
	}
}

func (s *suite) keys() {
	first := s.append(
		journal.Draft{Channel: "a", Key: "k1", Data: []byte("1")},
		journal.Draft{Channel: "a", Data: []byte("2")},
		journal.Draft{Channel: "b", Key: "k1", Data: []byte("3")})
	if first[2].Offset != 1 || first[2].Repeated {
		s.Errorf("the same key in another channel must be new, not %+v", first[2])
	}
	again := s.append(
		journal.Draft{Channel: "a", Data: []byte("4")},
		journal.Draft{Channel: "a", Key: "k1", Data: []byte("other data")},
		journal.Draft{Channel: "a", Key: "k2", Data: []byte("5")},
		journal.Draft{Channel: "b", Key: "k1"})
	if again[1].Offset != 1 || again[1].Time != first[0].Time || !again[1].Repeated {
		s.Errorf("a known key must report the original %+v as repeated, not %+v", first[0], again[1])
	}
	if again[0].Offset != 3 || again[2].Offset != 4 {
		s.Errorf("what surrounds a repeated draft must be 3 and 4, not %d and %d", again[0].Offset, again[2].Offset)
	}
	if !again[3].Repeated || again[3].Offset != 1 {
		s.Errorf("a known key must report the original 1 as repeated, not %+v", again[3])
	}
	s.wantSpan("a", journal.Range{}, 1, 4, 4)
	s.wantSpan("b", journal.Range{}, 1, 1, 1)
	s.append(journal.Draft{Channel: "b", Data: []byte("next")})
	s.wantSpan("b", journal.Range{}, 1, 2, 2)
	if got := s.read("a", journal.Range{}).Messages[0].Data; string(got) != "1" {
		s.Errorf("a repeated draft must not change the original data 1, but it is %s", got)
	}
}

func (s *suite) folds() {
	got := s.append(
		journal.Draft{Channel: "a", Key: "k", Data: []byte("first")},
		journal.Draft{Channel: "b", Key: "k"},
		journal.Draft{Channel: "a", Data: []byte("second")},
		journal.Draft{Channel: "a", Key: "k", Data: []byte("again")},
		journal.Draft{Channel: "a", Key: "k", Data: []byte("and again")},
		journal.Draft{Channel: "a", Data: []byte("third")})
	if got[0].Offset != 1 || got[0].Repeated || got[1].Offset != 1 || got[1].Repeated || got[2].Offset != 2 || got[5].Offset != 3 {
		s.Errorf("a batch with a repeated key must store the others as 1, 1, 2, 3, not %+v", got)
	}
	for _, i := range []int{3, 4} {
		if got[i].Offset != 1 || !got[i].Repeated || got[i].Time != got[0].Time {
			s.Errorf("a key repeated in a batch must report the first of the batch %+v, not %+v", got[0], got[i])
		}
	}
	s.wantSpan("a", journal.Range{}, 1, 3, 3)
	again := s.append(journal.Draft{Channel: "a", Key: "k"}, journal.Draft{Channel: "a", Key: "k"})
	if !again[0].Repeated || !again[1].Repeated || again[1].Offset != 1 {
		s.Errorf("a batch of nothing but a known key must report its original twice, not %+v", again)
	}
	s.wantSpan("a", journal.Range{}, 1, 3, 3)
}

func (s *suite) names() {
	names := []string{
		"a", "A", "\u00e4", "a\u0308", "\u00df", "ss", "a ", " a", "a/b", "a%", "a_", "\u65e5\u672c", "\U0001F680", "'", `"`, `\`,
		"\ufffd", "\uffff", "null", "0", strings.Repeat("n", proto.MaxChannelBytes),
	}
	var drafts []journal.Draft
	for i, name := range names {
		for range i + 1 {
			drafts = append(drafts, journal.Draft{Channel: name, Key: fmt.Sprint("key ", len(drafts))})
		}
	}
	s.append(drafts...)
	heads, err := s.j.Heads(s.ctx(), names)
	if err != nil {
		s.Fatal(err)
	}
	for i, name := range names {
		if int(heads.Offsets[i]) != i+1 {
			s.Errorf("channel %q must have head %d, not %d", name, i+1, heads.Offsets[i])
		}
	}
}

func (s *suite) times() {
	last := int64(0)
	for range 50 {
		for _, at := range s.append(journal.Draft{Channel: "a"}, journal.Draft{Channel: "a"}) {
			if at.Time < last {
				s.Fatalf("times of a channel must not decrease, but %d follows %d", at.Time, last)
			}
			last = at.Time
		}
	}
	for i, m := range s.read("a", journal.Range{}).Messages {
		if i > 0 && m.Time < s.read("a", journal.Range{From: proto.Offset(i), Limit: 1}).Messages[0].Time {
			s.Fatalf("times read must not decrease at offset %d", m.Offset)
		}
	}
}
