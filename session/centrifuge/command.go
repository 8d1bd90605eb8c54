package centrifuge

import (
	"math"
	"slices"

	"github.com/centrifugal/protocol"

	"barrage/auth"
	"barrage/limit"
	"barrage/node"
	"barrage/proto"
)

// command takes one command.
func (s *Session) command(c *protocol.Command) {
	switch {
	case c.Id == 0 && c.Send == nil && isBlank(c):
		s.pong()
		return
	case c.Id == 0 && (c.Send == nil || !isBlank(c)):
		s.End(proto.CloseBadRequest.With("a command has no id"))
		return
	}
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	switch {
	case state == fresh && c.Connect != nil:
		s.connect(c.Id, c.Connect)
	case state == fresh:
		s.End(proto.CloseBadRequest.With("the first command must be connect"))
	case state == refused || c.Connect != nil:
		s.End(proto.CloseBadRequest.With("connect is sent once"))
	case s.within(c):
		s.carryOut(c)
	}
}

// isBlank says whether a command asks for nothing that has an answer.
func isBlank(c *protocol.Command) bool {
	return c.Connect == nil && c.Subscribe == nil && c.Unsubscribe == nil && c.Publish == nil &&
		c.Presence == nil && c.PresenceStats == nil && c.History == nil && c.Ping == nil && c.Rpc == nil && c.Refresh == nil && c.SubRefresh == nil
}

// within says whether the limits allow a command, and answers it if not. What a publish costs besides is asked for once it is known
// to be allowed: see affords.
func (s *Session) within(c *protocol.Command) bool {
	limits, user := s.server().Limits, s.who().User
	if !limits.OfCommands(user) {
		return true
	}
	if s.use == nil {
		s.use = &limit.Connection{}
	}
	if err := limits.Command(s.use, s.server().now()); err != nil {
		s.tooMuch(c.Id, err)
		return false
	}
	if c.Publish == nil {
		s.use.Taken()
	}
	return true
}

// affords says whether the limits allow a publish into a channel that the client may publish into, and answers it if not.
func (s *Session) affords(id uint32, channel string) bool {
	if s.use == nil { // nothing is limited
		return true
	}
	err := s.server().Limits.Publish(s.use, s.who().User, channel, s.server().now())
	if err != nil {
		s.tooMuch(id, err)
	}
	return err == nil
}

// tooMuch answers a command that the limits refused, and ends a session that goes on all the same.
func (s *Session) tooMuch(id uint32, err *proto.Error) {
	if id != 0 {
		s.fail(id, err.With("%s; try again after %d ms", err.Message, err.RetryAfter.Milliseconds()))
	}
	if s.server().Limits.Exhausted(s.use) {
		s.Leave(proto.CloseUnavailable.With("%d commands in a row were refused as too many; slow down", limit.Patience))
	}
}

// carryOut takes a command of a client that is connected.
func (s *Session) carryOut(c *protocol.Command) {
	switch {
	case c.Subscribe != nil:
		s.subscribe(c.Id, c.Subscribe)
	case c.Unsubscribe != nil:
		s.unsubscribe(c.Id, c.Unsubscribe)
	case c.Publish != nil:
		s.publish(c.Id, c.Publish)
	case c.Presence != nil:
		s.presence(c.Id, c.Presence.Channel)
	case c.PresenceStats != nil:
		s.presenceStats(c.Id, c.PresenceStats.Channel)
	case c.History != nil:
		s.history(c.Id, c.History)
	case c.Ping != nil:
		s.reply(&protocol.Reply{Id: c.Id, Ping: &protocol.PingResult{}})
	case c.Send != nil:
		s.send(c.Send)
	case c.Rpc != nil:
		s.rpc(c.Id, c.Rpc)
	case c.Refresh != nil:
		s.refresh(c.Id, c.Refresh)
	case c.SubRefresh != nil:
		s.subRefresh(c.Id, c.SubRefresh)
	default:
		s.fail(c.Id, proto.ErrMethod)
	}
}

// anonymous is nobody.
var anonymous = &auth.Identity{}

// who is the client's identity.
func (s *Session) who() *auth.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whoLocked()
}

// whoLocked is who with the session locked.
func (s *Session) whoLocked() *auth.Identity {
	if s.identity == nil {
		return anonymous
	}
	return s.identity
}

// may asks whether the client may do something in a channel, and returns who it is and what a token said of its subscription.
func (s *Session) may(a auth.Action, channel string) (*auth.Identity, auth.Subscription, *proto.Error) {
	if err := proto.CheckChannel(channel); err != nil {
		return nil, auth.Subscription{}, proto.ErrBadRequest.With("%s", err)
	}
	s.mu.Lock()
	who := s.whoLocked()
	var terms auth.Subscription
	sub := s.find(channel)
	subscribed := sub.told()
	if subscribed && sub.more != nil {
		terms = sub.more.Subscription
	}
	s.mu.Unlock()
	return who, terms, s.server().allow(who, auth.Request{Action: a, Channel: channel, Subscribed: subscribed})
}

func (s *Session) publish(id uint32, r *protocol.PublishRequest) {
	if r.Type != 0 || r.Key != "" || r.Removed {
		s.fail(id, proto.ErrNotAvailable.With("there are no maps: publish without type, key and removed"))
		return
	}
	who, terms, err := s.may(auth.Publish, r.Channel)
	if err != nil {
		s.fail(id, err)
		return
	}
	if !s.affords(id, r.Channel) {
		return
	}
	data, err := proto.CompactJSON(r.Data)
	if err != nil {
		s.fail(id, proto.ErrBadRequest.With("data must be JSON: %s", err.Message))
		return
	}
	attributes, encodeErr := (&proto.Attributes{Info: who.Info, ChanInfo: terms.Info}).Encode()
	if encodeErr != nil {
		s.fail(id, proto.ErrBadRequest.With("%s", encodeErr))
		return
	}
	s.begin(0)
	p := node.Publication{Channel: r.Channel, User: who.User, Client: s.id(), Data: data, Attributes: attributes}
	s.backend().Publish(p, func(_ node.Published, err *proto.Error) {
		if err != nil {
			s.fail(id, err)
		} else {
			s.reply(&protocol.Reply{Id: id, Publish: &protocol.PublishResult{}})
		}
		s.finish(0)
	})
}

// maxPage is how many publications a page of history has at most.
const maxPage = math.MaxInt32

func (s *Session) history(id uint32, r *protocol.HistoryRequest) {
	if _, _, err := s.may(auth.History, r.Channel); err != nil {
		s.fail(id, err)
		return
	}
	q, err := query(r)
	if err != nil {
		s.fail(id, err)
		return
	}
	s.begin(1)
	s.readHistory(id, r, q)
}

// readHistory answers a history that is under way.
func (s *Session) readHistory(id uint32, r *protocol.HistoryRequest, q node.HistoryQuery) {
	s.backend().History(r.Channel, q, func(h proto.History, err *proto.Error) {
		if err == nil && r.Since != nil && !proto.Epoch(r.Since.Epoch).Matches(h.Epoch) {
			err = proto.ErrUnrecoverable
		}
		if err != nil {
			s.fail(id, err)
			s.finish(1)
			return
		}
		s.offer(func() []byte { return s.frame(&protocol.Reply{Id: id, History: page(&h, r)}) }, func() { s.readHistory(id, r, q) })
	})
}

// query is what a request asks the backend for.
func query(r *protocol.HistoryRequest) (q node.HistoryQuery, err *proto.Error) {
	q.Limit = int(r.Limit)
	if q.Limit < 0 {
		q.Limit = maxPage
	}
	var at proto.Offset
	if r.Since != nil {
		at = min(proto.Offset(r.Since.Offset), proto.MaxOffset)
	}
	switch {
	case !r.Reverse:
		q.Since = &at
	case r.Since != nil && at == 0:
		return q, proto.ErrBadRequest.With("nothing is before offset 0")
	case r.Since != nil:
		q.Before = &at
	}
	return q, nil
}

func page(h *proto.History, r *protocol.HistoryRequest) *protocol.HistoryResult {
	result := &protocol.HistoryResult{Epoch: string(h.Epoch), Offset: uint64(h.Offset)}
	if r.Limit == 0 {
		h.Messages = nil
	}
	result.Publications = make([]*protocol.Publication, len(h.Messages)) // not nil: clients want a list
	for i := range h.Messages {
		result.Publications[i] = publication(&h.Messages[i])
	}
	if r.Reverse {
		slices.Reverse(result.Publications)
	}
	return result
}

// mayAskWhoIsIn says whether the client may ask who is in a channel. Other nodes are asked for each name once a second at most, so that
// only other names cost anything.
func (s *Session) mayAskWhoIsIn(channel string) *proto.Error {
	if _, _, err := s.may(auth.Presence, channel); err != nil {
		return err
	}
	if s.subscribedTo(channel) != nil {
		return nil
	}
	return s.unfamiliar()
}

func (s *Session) presence(id uint32, channel string) {
	if err := s.mayAskWhoIsIn(channel); err != nil {
		s.fail(id, err)
		return
	}
	s.begin(1)
	s.readPresence(id, channel)
}

// readPresence answers a presence that is under way.
func (s *Session) readPresence(id uint32, channel string) {
	s.backend().Presence(channel, func(r proto.Roster, err *proto.Error) {
		if err != nil {
			s.fail(id, err)
			s.finish(1)
			return
		}
		s.offer(func() []byte { return s.deflated(s.wire().roster(id, &r)) }, func() { s.readPresence(id, channel) })
	})
}

func (s *Session) presenceStats(id uint32, channel string) {
	if err := s.mayAskWhoIsIn(channel); err != nil {
		s.fail(id, err)
		return
	}
	s.begin(1)
	s.backend().Counts(channel, func(n proto.Counts, err *proto.Error) {
		if err != nil {
			s.fail(id, err)
		} else {
			s.reply(&protocol.Reply{Id: id, PresenceStats: &protocol.PresenceStatsResult{NumClients: uint32(n.Clients), NumUsers: uint32(n.Users)}})
		}
		s.finish(1)
	})
}

func (s *Session) send(r *protocol.SendRequest) {
	call := s.server().RPC
	if call == nil {
		s.End(proto.CloseNotAvailable)
		return
	}
	s.begin(0)
	call(Call{Client: s.id(), Identity: s.who(), Data: r.Data, Sent: true, Done: func([]byte, *proto.Error) { s.finish(0) }})
}

func (s *Session) rpc(id uint32, r *protocol.RPCRequest) {
	call := s.server().RPC
	if call == nil {
		s.fail(id, proto.ErrNotAvailable)
		return
	}
	s.begin(0)
	call(Call{Client: s.id(), Identity: s.who(), Method: r.Method, Data: r.Data, Done: func(data []byte, err *proto.Error) {
		switch {
		case err != nil:
			s.fail(id, err)
			s.finish(0)
		case !s.wire().embeds(data):
			s.End(proto.CloseFormat)
			s.finish(0)
		default:
			s.offerCall(id, data)
		}
	}})
}
