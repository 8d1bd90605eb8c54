package node

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"barrage/journal"
	"barrage/journal/memory"
	"barrage/proto"
)

// query draws a query around a channel of head messages.
func query(t *rapid.T, head int) HistoryQuery {
	q := HistoryQuery{Limit: rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, journal.MaxPage-1)).Draw(t, "limit")}
	near := rapid.OneOf(
		rapid.Uint64Range(0, uint64(head)+10),
		rapid.SampledFrom([]uint64{0, 1, 2, uint64(head), uint64(head) + 1, 1<<53 - 1, math.MaxUint64}),
	)
	offset := proto.Offset(near.Draw(t, "offset"))
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		q.Since = &offset
	case 1:
		q.Before = &offset
	}
	return q
}

func describe(q HistoryQuery) string {
	s := fmt.Sprintf("limit %d", q.Limit)
	if q.Since != nil {
		s += fmt.Sprintf(" since %d", *q.Since)
	}
	if q.Before != nil {
		s += fmt.Sprintf(" before %d", *q.Before)
	}
	return s
}

// What memory answers is what the journal would have answered.
func TestHistoryFromMemoryIsHistoryFromTheJournal(t *testing.T) {
	for _, shape := range []struct{ messages, size int }{{0, 0}, {1, 1}, {50, 1}, {1500, 1}, {40, 60_000}} {
		j := memory.New()
		n, _ := start(t, j, nil)
		store(t, j, "room", shape.messages, shape.size)
		l := joined(t, n, "room")
		answered := 0
		rapid.Check(t, func(t *rapid.T) {
			q := query(t, shape.messages)
			got, ok := n.recent("room", q)
			if !ok {
				return
			}
			answered++
			want, err := n.read("room", q)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(offsetsOf(got)) != fmt.Sprint(offsetsOf(want)) || got.More != want.More || got.Offset != want.Offset || got.Epoch != want.Epoch {
				t.Fatalf("%s of %d messages: memory has %v, more %v; the journal has %v, more %v",
					describe(q), shape.messages, offsetsOf(got), got.More, offsetsOf(want), want.More)
			}
		})
		if answered == 0 {
			t.Errorf("of a channel with %d messages in use here memory must answer some questions", shape.messages)
		}
		l.out.Close()
		stop(t, n)
	}
}

// What the journal answers is what was asked for.
func TestHistoryIsWhatWasAskedFor(t *testing.T) {
	j := memory.New()
	n, _ := start(t, j, nil)
	defer stop(t, n)
	const head = 60
	store(t, j, "room", head, 1)
	rapid.Check(t, func(t *rapid.T) {
		q := query(t, head)
		h, err := n.read("room", q)
		if err != nil {
			t.Fatal(err)
		}
		var from int
		to := head
		switch {
		case q.Since != nil:
			from = int(min(*q.Since, head)) + 1
			to = min(head, from+q.Limit-1)
		case q.Before != nil:
			to = int(min(max(*q.Before, 1)-1, head))
			from = max(1, to-q.Limit+1)
		default:
			from = max(1, to-q.Limit+1)
		}
		var want []proto.Offset
		for o := from; o <= to; o++ {
			want = append(want, proto.Offset(o))
		}
		more := to < head
		if q.Since == nil {
			more = from > 1
		}
		if fmt.Sprint(offsetsOf(h)) != fmt.Sprint(want) || h.More != more || h.Offset != head {
			t.Fatalf("%s of %d messages: got %v with more %v and head %d, want %v with more %v", describe(q), head, offsetsOf(h), h.More, h.Offset, want, more)
		}
	})
}

// Pages that are cut by their size say that more follows, in both directions, and lead to everything.
func TestLargeMessagesMakeShortPages(t *testing.T) {
	j := memory.New()
	n, _ := start(t, j, nil)
	defer stop(t, n)
	const head = 50
	store(t, j, "room", head, 60_000)
	var all []proto.Offset
	pages := 1
	for at := proto.Offset(0); ; pages++ {
		h, err := n.read("room", HistoryQuery{Since: &at, Limit: 100})
		if err != nil || len(h.Messages) == 0 {
			t.Fatalf("after %d came %d messages (%v)", at, len(h.Messages), err)
		}
		all = append(all, offsetsOf(h)...)
		if at = h.Messages[len(h.Messages)-1].Offset; !h.More {
			break
		}
	}
	if len(all) != head || pages != 3 {
		t.Errorf("forward, %d pages hold %d messages, want 3 and %d", pages, len(all), head)
	}
	all, pages = nil, 1
	for at := proto.Offset(head + 1); ; pages++ {
		h, err := n.read("room", HistoryQuery{Before: &at, Limit: 100})
		if err != nil || len(h.Messages) == 0 {
			t.Fatalf("before %d came %d messages (%v)", at, len(h.Messages), err)
		}
		all = append(offsetsOf(h), all...)
		if at = h.Messages[0].Offset; !h.More {
			break
		}
	}
	if len(all) != head || pages != 3 || all[0] != 1 || all[head-1] != head {
		t.Errorf("backward, %d pages hold %v, want 3 pages and 1 to %d", pages, all, head)
	}
}

func TestBadLimitsOfHistoryAreHarmless(t *testing.T) {
	j := memory.New()
	n, _ := start(t, j, nil)
	defer stop(t, n)
	store(t, j, "room", 5, 1)
	for _, limit := range []int{-5, 0, math.MaxInt} {
		heard := make(chan proto.History, 1)
		n.History("room", HistoryQuery{Limit: limit}, func(h proto.History, _ *proto.Error) { heard <- h })
		if h := <-heard; len(h.Messages) != min(max(limit, 0), 5) || h.Offset != 5 {
			t.Errorf("a page of at most %d messages has %d, and the head %d", limit, len(h.Messages), h.Offset)
		}
	}
}
