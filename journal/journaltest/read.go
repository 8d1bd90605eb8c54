package journaltest

import (
	"fmt"
	"math"
	"slices"

	"barrage/journal"
	"barrage/proto"
)

func (s *suite) pages() {
	s.fill("a", 25)
	s.fill("b", 3)
	for _, c := range []struct {
		r           journal.Range
		first, last proto.Offset
	}{
		{journal.Range{}, 1, 25},
		{journal.Range{From: 1}, 1, 25},
		{journal.Range{From: 10}, 10, 25},
		{journal.Range{From: 10, Limit: 5}, 10, 14},
		{journal.Range{From: 25}, 25, 25},
		{journal.Range{From: 26}, 0, 0},
		{journal.Range{From: math.MaxUint64}, 0, 0},
		{journal.Range{Limit: -1}, 1, 25},
		{journal.Range{Backward: true}, 25, 1},
		{journal.Range{Backward: true, Limit: 10}, 25, 16},
		{journal.Range{Backward: true, From: 15, Limit: 10}, 15, 6},
		{journal.Range{Backward: true, From: 5, Limit: 10}, 5, 1},
		{journal.Range{Backward: true, From: 1}, 1, 1},
		{journal.Range{Backward: true, From: 26, Limit: 1}, 25, 25},
		{journal.Range{Backward: true, From: math.MaxUint64, Limit: 1}, 25, 25},
	} {
		s.wantSpan("a", c.r, c.first, c.last, 25)
	}
	s.trim(journal.Retention{Count: 10})
	s.wantSpan("a", journal.Range{From: 3, Limit: 2}, 16, 17, 25)
	s.wantSpan("a", journal.Range{Backward: true, From: 17}, 17, 16, 25)
	s.wantSpan("a", journal.Range{Backward: true, From: 15}, 0, 0, 25)
}

func (s *suite) pageBytes() {
	for range 10 {
		s.append(journal.Draft{Channel: "a", User: "u", Data: make([]byte, 1000)})
	}
	one := s.read("a", journal.Range{Limit: 1}).Messages[0]
	size := one.Size()
	for _, c := range []struct{ bytes, messages int }{
		{1, 1}, {size, 1}, {size + 1, 2}, {3 * size, 3}, {3*size + 1, 4}, {-1, 10}, {0, 10}, {math.MaxInt32, 10},
	} {
		s.wantSpan("a", journal.Range{MaxBytes: c.bytes}, 1, proto.Offset(c.messages), 10)
		s.wantSpan("a", journal.Range{MaxBytes: c.bytes, Backward: true}, 10, proto.Offset(11-c.messages), 10)
	}
	for range 3 {
		s.append(journal.Draft{Channel: "large", Data: make([]byte, journal.DefaultMaxSize*2/3)})
	}
	s.wantSpan("large", journal.Range{}, 1, 2, 3)
}

func (s *suite) pageLimit() {
	s.fill("a", journal.MaxPage+5)
	s.wantSpan("a", journal.Range{}, 1, journal.MaxPage, journal.MaxPage+5)
	s.wantSpan("a", journal.Range{Limit: journal.MaxPage + 1}, 1, journal.MaxPage, journal.MaxPage+5)
	s.wantSpan("a", journal.Range{Backward: true}, journal.MaxPage+5, 6, journal.MaxPage+5)
}

func (s *suite) heads() {
	const channels = 20_000
	names := make([]string, channels)
	for i := range names {
		names[i] = fmt.Sprintf("channel %d", i)
	}
	for at := 0; at < channels; {
		var batch []journal.Draft
		for ; at < channels && len(batch) < journal.MaxBatch; at += 2 { // every second one stays empty
			batch = append(batch, journal.Draft{Channel: names[at]})
		}
		s.append(batch...)
	}
	s.append(journal.Draft{Channel: names[2]})
	heads, err := s.j.Heads(s.ctx(), append(slices.Clone(names), names[2]))
	if err != nil {
		s.Fatal(err)
	}
	if len(heads.Offsets) != channels+1 || heads.Epoch == "" {
		s.Fatalf("%d heads must come with an epoch, not %d and %q", channels+1, len(heads.Offsets), heads.Epoch)
	}
	for i, got := range heads.Offsets {
		want := proto.Offset(1 - i%2)
		if i == 2 || i == channels {
			want = 2
		}
		if got != want {
			s.Fatalf("head %d must be %d, not %d", i, want, got)
		}
	}
	if none, err := s.j.Heads(s.ctx(), nil); err != nil || len(none.Offsets) != 0 || none.Epoch != heads.Epoch {
		s.Errorf("the heads of no channels must be none, with the epoch, not %v, %v", none, err)
	}
}
