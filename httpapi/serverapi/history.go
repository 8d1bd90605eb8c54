package serverapi

import (
	"slices"

	"barrage/node"
	"barrage/proto"
)

// Bounds of one answer of history.
const (
	MaxHistory      = 10_000
	maxHistoryBytes = 8 << 20
)

func (a *API) history(c *call, q *HistoryRequest, done func(*HistoryResult, *proto.Error)) {
	if err := proto.CheckChannel(q.Channel); err != nil {
		done(nil, proto.ErrBadRequest.With("channel: %v", err))
		return
	}
	h := &reading{a: a, call: c, channel: q.Channel, left: q.Limit, backward: q.Reverse, done: done}
	if q.Limit < 0 || q.Limit > MaxHistory {
		h.left = MaxHistory
	}
	if q.Since != nil {
		at := proto.Offset(q.Since.Offset)
		h.at, h.epoch = &at, proto.Epoch(q.Since.Epoch)
	} else if !q.Reverse {
		h.at = new(proto.Offset) // from the first message
	}
	h.next()
}

// reading gathers one answer from as many pages as it takes. Only one page is under way at a time, and only its callback
// touches the fields.
type reading struct {
	a        *API
	call     *call
	channel  string
	at       *proto.Offset // the page begins after it, or, backward, ends before it; nil for the head
	epoch    proto.Epoch   // that at belongs to; empty for any
	left     int           // messages that are still wanted
	bytes    int           // gathered so far
	backward bool
	result   *HistoryResult
	done     func(*HistoryResult, *proto.Error)
}

func (h *reading) next() {
	q := node.HistoryQuery{Limit: h.left}
	if h.backward {
		q.Before = h.at
	} else {
		q.Since = h.at
	}
	h.a.backend.Messages.History(h.channel, q, h.page)
}

// page takes one page, and asks for another where that is wanted.
func (h *reading) page(p proto.History, err *proto.Error) {
	if err != nil {
		h.done(nil, err)
		return
	}
	if !h.epoch.Matches(p.Epoch) {
		h.done(nil, proto.ErrUnrecoverable.With("the position belongs to the epoch %q, and the channel is in %q now", h.epoch, p.Epoch))
		return
	}
	if h.result == nil {
		h.result = &HistoryResult{Publications: []Publication{}, Epoch: string(p.Epoch), Offset: uint64(p.Offset)}
		h.epoch = p.Epoch
	}
	size := 0
	for i := range p.Messages {
		size += p.Messages[i].Size()
	}
	if !h.call.spend(size) {
		h.done(nil, errAnswer)
		return
	}
	h.bytes += size
	h.take(p.Messages)
	if len(p.Messages) > 0 && p.More && h.left > 0 && h.bytes < maxHistoryBytes && h.call.ctx.Err() == nil {
		at := proto.Offset(h.result.Publications[len(h.result.Publications)-1].Offset)
		h.at = &at
		h.next()
		return
	}
	h.result.More = p.More
	h.done(h.result, nil)
}

// take appends messages in the direction that was asked for; a page ascends.
func (h *reading) take(messages []proto.Message) {
	from := len(h.result.Publications)
	for i := range messages {
		h.result.Publications = append(h.result.Publications, publication(&messages[i]))
	}
	if h.backward {
		slices.Reverse(h.result.Publications[from:])
	}
	h.left -= len(messages)
}

func publication(m *proto.Message) Publication {
	attributes := proto.ParseAttributes(m.Attributes)
	p := Publication{Data: m.Data, Offset: uint64(m.Offset), Tags: attributes.Tags}
	if m.User != "" || m.Client != "" {
		p.Info = &ClientInfo{User: m.User, Client: m.Client, ConnInfo: attributes.Info, ChanInfo: attributes.ChanInfo}
	}
	return p
}

func (a *API) historyRemove(_ *call, q *ChannelRequest, done func(*Empty, *proto.Error)) {
	if err := proto.CheckChannel(q.Channel); err != nil {
		done(nil, proto.ErrBadRequest.With("channel: %v", err))
		return
	}
	if a.backend.Eraser == nil {
		done(nil, absent("history_remove"))
		return
	}
	a.backend.Eraser.RemoveHistory(q.Channel, func(err *proto.Error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(&Empty{}, nil)
	})
}
