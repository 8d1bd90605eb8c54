package journaltest

import (
	"bytes"
	"errors"

	"barrage/journal"
	"barrage/proto"
)

func (s *suite) attributes() {
	largest := append([]byte(`"`), bytes.Repeat([]byte("x"), proto.MaxAttributesBytes-2)...)
	drafts := []journal.Draft{
		{Channel: "a", Data: []byte("1")},
		{Channel: "a", Data: []byte("2"), Attributes: []byte(`{"info":{"name":"弹幕"},"tags":{"a":"b"}}`)},
		{Channel: "a", Data: []byte("3"), Attributes: append(largest, '"')},
	}
	both := append([]journal.Draft{{Channel: "b", Data: []byte("4")}, {Channel: "b", Key: "k", Data: []byte("5"), Attributes: []byte(`{}`)}}, drafts...)
	for _, batch := range [][]journal.Draft{drafts[:1], drafts[1:2], drafts, both} { // every way there is to store a batch
		stored := s.append(batch...)
		for i, d := range batch {
			got := s.read(d.Channel, journal.Range{From: stored[i].Offset, Limit: 1}).Messages
			if len(got) != 1 {
				s.Fatalf("offset %d of %s must be there", stored[i].Offset, d.Channel)
			}
			s.wantMessage(got[0], stored[i], d)
		}
	}
	if got := s.read("a", journal.Range{Limit: 1}).Messages[0].Attributes; got != nil {
		s.Errorf("a message without attributes must be read without, not with %q", got)
	}
	size := s.read("a", journal.Range{From: 2, Limit: 1}).Messages[0]
	s.wantSpan("a", journal.Range{From: 2, MaxBytes: size.Size()}, 2, 2, 8)
	s.wantSpan("a", journal.Range{From: 2, MaxBytes: size.Size() + 1}, 2, 3, 8)

	_, err := s.j.Append(s.ctx(), []journal.Draft{{Channel: "a"}, {Channel: "a", Attributes: make([]byte, proto.MaxAttributesBytes+1)}})
	if !errors.Is(err, journal.ErrDraft) {
		s.Errorf("attributes beyond the limit must be refused with ErrDraft, not %v", err)
	}
	if (&drafts[1]).Size()-(&drafts[0]).Size() != len(drafts[1].Attributes) {
		s.Errorf("a draft's size must count its attributes")
	}
}

func (s *suite) attributesOfRepeated() {
	s.append(
		journal.Draft{Channel: "a", Key: "k", Data: []byte("1"), Attributes: []byte(`{"info":1}`)},
		journal.Draft{Channel: "a", Key: "k", Data: []byte("1"), Attributes: []byte(`{"info":2}`)})
	s.append(
		journal.Draft{Channel: "a", Data: []byte("2"), Attributes: []byte(`{"info":3}`)},
		journal.Draft{Channel: "a", Key: "k", Data: []byte("1"), Attributes: []byte(`{"info":4}`)},
		journal.Draft{Channel: "a", Key: "l", Data: []byte("3")})
	messages := s.read("a", journal.Range{}).Messages
	if len(messages) != 3 {
		s.Fatalf("three messages must be stored, not %d", len(messages))
	}
	for i, want := range []string{`{"info":1}`, `{"info":3}`, ""} {
		if got := string(messages[i].Attributes); got != want {
			s.Errorf("offset %d must have the attributes %q, not %q", i+1, want, got)
		}
	}
}
