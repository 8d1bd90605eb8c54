package node

import (
	"context"
	"math"
	"slices"
	"time"

	"barrage/journal"
	"barrage/proto"
)

// Bounds of reading history.
const (
	maxHistories   = 16   // reads of the journal at a time
	maxRecent      = 4    // answers from memory that are written at a time
	maxWaiting     = 4096 // reads that wait or run; one more is refused
	historyTimeout = 10 * time.Second
)

// HistoryQuery asks for a page of a channel: the messages after Since, or those before Before, or the last ones.
type HistoryQuery struct {
	Since, Before *proto.Offset
	// Limit is how many messages at most; the page ends earlier when it grows beyond 1 MiB.
	Limit int
}

// History reads a page. done hears once, from another goroutine unless it is refused: an answer may be a megabyte to write,
// and whoever reads commands has others to serve. The messages ascend. It never blocks.
func (n *Node) History(name string, q HistoryQuery, done func(proto.History, *proto.Error)) {
	if n.hub.IsLive(name) {
		done(proto.History{}, proto.ErrNotAvailable.With("the channel is live: none of its messages are stored"))
		return
	}
	q.Limit = max(min(q.Limit, journal.MaxPage-1), 0) // one more is read, to know whether more follows
	if n.waiting.Add(1) > maxWaiting {
		n.waiting.Add(-1)
		done(proto.History{}, proto.ErrTooMany)
		return
	}
	go func() {
		defer n.waiting.Add(-1)
		if n.answerRecent(name, q, done) {
			return
		}
		select {
		case n.histories <- struct{}{}:
			defer func() { <-n.histories }()
		case <-n.ctx.Done():
			done(proto.History{}, proto.ErrUnavailable)
			return
		}
		h, err := n.read(name, q)
		if err != nil {
			n.log.Debug("reading history failed", "channel", name, "error", err)
			done(proto.History{}, proto.ErrUnavailable)
			return
		}
		done(h, nil)
	}()
}

// answerRecent answers from memory if that holds the page. It takes its turn, so that many who ask do not hold up the rest.
func (n *Node) answerRecent(name string, q HistoryQuery, done func(proto.History, *proto.Error)) bool {
	n.recents <- struct{}{}
	defer func() { <-n.recents }()
	h, ok := n.recent(name, q)
	if ok {
		done(h, nil)
	}
	return ok
}

// recent answers from memory when it can.
func (n *Node) recent(name string, q HistoryQuery) (proto.History, bool) {
	more := false
	messages, p, ok := n.hub.Tail(name, func(first proto.Offset, head proto.Position) (from, to proto.Offset, ok bool) {
		from, to = q.bounds(head.Offset)
		if q.Since != nil {
			more = to <= head.Offset
			return from, to, from >= first && *q.Since <= head.Offset // the journal may know more than this node
		}
		if q.Before != nil && *q.Before > head.Offset+1 {
			return 0, 0, false // the same
		}
		more = from > 1
		return from, to, from > first || from == 1 // the message before the page is in memory too, or there is none
	})
	return proto.History{Epoch: p.Epoch, Offset: p.Offset, Messages: messages, More: more}, ok
}

// bounds is the range [from, to) that q asks for when the head is head and nothing was removed.
func (q HistoryQuery) bounds(head proto.Offset) (from, to proto.Offset) {
	limit := proto.Offset(q.Limit)
	if q.Since != nil {
		from = min(*q.Since, head) + 1
		return from, min(from+limit, head+1)
	}
	to = head + 1
	if q.Before != nil {
		to = min(to, max(*q.Before, 1))
	}
	return to - min(limit, to-1), to
}

// read answers from the journal.
func (n *Node) read(name string, q HistoryQuery) (proto.History, error) {
	r := journal.Range{Limit: q.Limit + 1, Backward: q.Since == nil}
	switch {
	case q.Since != nil:
		r.From = min(*q.Since, math.MaxInt64) + 1
	case q.Before != nil:
		r.From = max(*q.Before-1, 1) // before the first there is nothing; the page is read for its head
	}
	ctx, cancel := context.WithTimeout(n.ctx, historyTimeout)
	defer cancel()
	page, err := n.journal.Read(ctx, name, r)
	if err != nil {
		return proto.History{}, err
	}
	h := proto.History{Epoch: page.Epoch, Offset: page.Head, Messages: page.Messages}
	if q.Before != nil && *q.Before <= 1 {
		h.Messages = nil
		return h, nil
	}
	if len(h.Messages) > q.Limit {
		h.Messages, h.More = h.Messages[:q.Limit], true
	}
	if last := len(h.Messages) - 1; last >= 0 && !h.More {
		h.More = cut(h, r.Backward) // by its size
	}
	if r.Backward {
		slices.Reverse(h.Messages)
	}
	return h, nil
}

// cut says whether a page with room left ended before the last message there is.
func cut(h proto.History, backward bool) bool {
	last := h.Messages[len(h.Messages)-1].Offset
	if !backward {
		return last < h.Offset
	}
	size := 0
	for i := range h.Messages {
		size += h.Messages[i].Size()
	}
	return last > 1 && size >= journal.DefaultMaxSize
}
