package centrifuge

import (
	"unique"

	"github.com/centrifugal/protocol"

	"barrage/auth"
	"barrage/channel"
	"barrage/fanout"
	"barrage/proto"
	"barrage/session"
)

// subscription is a channel that a client is subscribed to, or is about to be. There may be very many: a test bounds its size.
type subscription struct {
	channel unique.Handle[string]
	next    *subscription  // owner: Session.mu
	member  *fanout.Member // owner: Session.mu; nil before it is a member
	more    *details       // owner: Session.mu; nil for nothing
	state   stage          // owner: Session.mu
	server  bool           // the server has subscribed the client
}

// details are what few subscriptions have.
type details struct {
	auth.Subscription
	joinLeave bool           // the client is told of members that join and leave
	events    *fanout.Member // of the channel's events; nil before it is one
	parted    func()         // when leaving: tells that it is over
	next      *intent        // when leaving: the subscription that follows it; nil for none
	again     bool           // the server has ended it before it was one, and the client is to come back
}

// intent is a subscription that is to be made.
type intent struct {
	channel   string
	terms     auth.Subscription
	joinLeave bool // the client hears of others: whether others hear of it the namespace says, for all members alike
	server    bool
	join      func(*subscription) // looks for its place
	refuse    func(*proto.Error)  // says that it cannot be made
}

// stage is how far a subscription has come.
type stage uint8

const (
	joining  stage = iota // its place is looked for
	promised              // the reply to connect has told the client where it begins; its place is looked for
	placing               // the client was told; it becomes a member at once
	member
	leaving // unsubscribed while it was placed; the next may wait for that
	dropped // taken out of the session
)

func (sub *subscription) name() string { return sub.channel.Value() }

// detail makes room for details. The session is locked, or does not know the subscription yet.
func (sub *subscription) detail() *details {
	if sub.more == nil {
		sub.more = &details{}
	}
	return sub.more
}

// find returns the subscription to a channel, nil for none. The session is locked.
func (s *Session) find(channel string) *subscription {
	for sub := s.subs; sub != nil; sub = sub.next {
		if sub.name() == channel {
			return sub
		}
	}
	return nil
}

// remove takes a subscription out, and tells the backend so. What the backend is told of one channel's subscriptions comes in the order
// of their lives only because the session is locked.
func (s *Session) remove(sub *subscription) {
	sub.state = dropped
	for at := &s.subs; *at != nil; at = &(*at).next {
		if *at == sub {
			*at = sub.next
			s.count--
			s.backend().Exit(sub.name(), s.id())
			return
		}
	}
}

// isOver says whether a subscription ended by itself. The session is locked.
func (sub *subscription) isOver() bool {
	return sub.state == member && sub.member.Left()
}

// leave ends the memberships of a subscription. The session is locked.
func (sub *subscription) leave() {
	if sub.member != nil {
		sub.member.Leave()
	}
	if sub.more != nil && sub.more.events != nil {
		sub.more.events.Leave()
	}
}

// enter makes a subscription, at once or when the one before it has parted, and has it look for its place.
func (s *Session) enter(e *intent) *proto.Error {
	s.mu.Lock()
	if old := s.find(e.channel); old != nil && old.state == leaving && old.more.next == nil {
		old.more.next = e
		s.mu.Unlock()
		return nil
	}
	sub, err := s.add(e)
	s.mu.Unlock()
	if err == nil {
		e.join(sub)
	}
	return err
}

// add makes a subscription that is joining, and lets the backend know of the member. The session is locked.
func (s *Session) add(e *intent) (*subscription, *proto.Error) {
	sub, terms := &subscription{channel: unique.Make(e.channel), server: e.server}, e.terms
	if terms.Info != nil || terms.Data != nil || !terms.Expires.IsZero() || e.joinLeave {
		sub.more = &details{Subscription: terms, joinLeave: e.joinLeave}
	}
	if old := s.find(e.channel); old != nil && old.isOver() {
		old.leave()
		s.remove(old)
	} else if old != nil {
		return nil, proto.ErrSubscribed
	}
	if int(s.count) >= s.server().channels() || s.state == gone {
		return nil, proto.ErrLimit.With("a client may be subscribed to %d channels", s.server().channels())
	}
	sub.next, s.subs = s.subs, sub
	s.count++
	if !terms.Expires.IsZero() {
		s.dueAt(terms.Expires.Add(session.Grace))
	}
	info := proto.MemberInfo{User: s.whoLocked().User, Client: s.id(), Info: s.whoLocked().Info, ChanInfo: terms.Info}
	s.backend().Enter(e.channel, info, s.server().announces(e.channel))
	return sub, nil
}

// declined says what of a request there is not.
func declined(r *protocol.SubscribeRequest) *proto.Error {
	switch {
	case r.Type != 0 || r.Phase != 0:
		return proto.ErrNotAvailable.With("there are no maps and no shared polls: subscribe with type 0")
	case r.Tf != nil:
		return proto.ErrNotAvailable.With("there are no filters by tags: subscribe without tf")
	}
	return nil
}

// flagRejectUnrecovered makes a subscribe fail that cannot recover.
const flagRejectUnrecovered = 1 << 1

// hints are what a client says of its position.
type hints struct {
	recover, reject bool
	blind           bool // it may not read what was published before
	offset          proto.Offset
	epoch           proto.Epoch
}

func hintsOf(r *protocol.SubscribeRequest) hints {
	if r == nil {
		return hints{}
	}
	return hints{
		recover: r.Recover, reject: r.Flag&flagRejectUnrecovered != 0,
		offset: min(proto.Offset(r.Offset), proto.MaxOffset), epoch: proto.Epoch(r.Epoch),
	}
}

// hints are what a client says of its position in a channel, as far as it may read what was published before.
func (s *Session) hints(name string, r *protocol.SubscribeRequest) hints {
	h := hintsOf(r)
	h.blind = h.recover && s.server().allow(s.who(), auth.Request{Action: auth.History, Channel: name, Subscribed: true}) != nil
	return h
}

func (h *hints) start() channel.Start {
	if !h.recover || h.blind {
		return channel.Start{}
	}
	since := h.offset
	return channel.Start{Since: &since, Epoch: h.epoch, Ahead: true}
}

func (s *Session) subscribe(id uint32, r *protocol.SubscribeRequest) {
	if err := declined(r); err != nil {
		s.fail(id, err)
		return
	}
	terms, err := s.permit(r)
	if err != nil {
		s.fail(id, err)
		return
	}
	if err := s.unfamiliar(); err != nil {
		s.fail(id, err)
		return
	}
	s.begin(0)
	s.enterChannel(id, r, terms)
}

// enterChannel makes a client a member that may be one. The command is under way.
func (s *Session) enterChannel(id uint32, r *protocol.SubscribeRequest, terms auth.Subscription) {
	e := &intent{channel: r.Channel, terms: terms, joinLeave: s.wantsEvents(r)}
	e.refuse = func(err *proto.Error) {
		s.fail(id, err)
		s.finish(0)
	}
	e.join = func(sub *subscription) {
		h := s.hints(r.Channel, r)
		s.backend().Join(r.Channel, channel.JoinRequest{
			Start: h.start(), Format: s.codec(), Outlet: s.conn.Outlet(),
			Ready:  func(j channel.Joined) bool { return s.answer(sub, id, h, j) },
			Placed: func(m *fanout.Member) { s.placed(sub, m) },
		})
	}
	if err := s.enter(e); err != nil {
		e.refuse(err)
	}
}

// What a subscribe is answered with that was taken back before it was carried out: by the client, or by the server, which may want the
// client to come back.
var (
	errUndone = proto.ErrNotAvailable.With("unsubscribed before it was subscribed")
	errAgain  = proto.ErrInternal.With("unsubscribed before it was subscribed; subscribe again")
)

// undone is what a subscribe is answered with.
func undone(again bool) *proto.Error {
	if again {
		return errAgain
	}
	return errUndone
}

// permit decides whether a client may subscribe, and returns what its token says.
func (s *Session) permit(r *protocol.SubscribeRequest) (terms auth.Subscription, err *proto.Error) {
	if e := proto.CheckChannel(r.Channel); e != nil {
		return terms, proto.ErrBadRequest.With("%s", e)
	}
	server, who := s.server(), s.who()
	shown := r.Token != "" && server.Tokens != nil
	if shown {
		if terms, err = server.Tokens.Subscription(r.Token, r.Channel, who.User, s.id()); err != nil {
			return terms, subscriptionError(err)
		}
	}
	return terms, server.allow(who, auth.Request{Action: auth.Subscribe, Channel: r.Channel, Token: shown})
}

// subscriptionError is what a client is told of a token for a channel: one that is not good permits nothing.
func subscriptionError(err *proto.Error) *proto.Error {
	if err.Code == proto.ErrUnauthorized.Code {
		return proto.ErrDenied.With("the subscription token is not good: %s", err.Message)
	}
	return err
}

// wantsEvents says whether the client is told of members that join and leave: when the namespace says so, or when it asks and may
// know who is there.
func (s *Session) wantsEvents(r *protocol.SubscribeRequest) bool {
	if s.server().announces(r.Channel) {
		return true
	}
	return r.JoinLeave && s.server().allow(s.who(), auth.Request{Action: auth.Presence, Channel: r.Channel, Subscribed: true}) == nil
}

// answer replies to a subscribe: what Ready is. It is called with the channel locked.
func (s *Session) answer(sub *subscription, id uint32, h hints, j channel.Joined) (in bool) {
	defer s.finish(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.state != joining {
		s.fail(id, undone(sub.more != nil && sub.more.again))
		return false
	}
	switch {
	case j.Err != nil:
		s.remove(sub)
		s.fail(id, proto.ErrUnavailable)
	case h.recover && h.reject && !h.recovered(j):
		s.remove(sub)
		s.fail(id, proto.ErrUnrecoverable)
	default:
		sub.state = placing
		s.reply(&protocol.Reply{Id: id, Subscribe: s.result(sub, h, j)})
		return true
	}
	return false
}

// result tells a client where its subscription begins. The session is locked.
func (s *Session) result(sub *subscription, h hints, j channel.Joined) *protocol.SubscribeResult {
	r := &protocol.SubscribeResult{WasRecovering: h.recover}
	if sub.more != nil {
		r.Data = protocol.Raw(sub.more.Data)
		r.Expires, r.Ttl = s.server().ttl(sub.more.Expires)
	}
	if j.Live {
		return r
	}
	r.Recoverable, r.Positioned, r.Recovered = true, true, h.recovered(j)
	r.Epoch, r.Offset = string(j.Epoch), uint64(j.Next-1)
	return r
}

// recovered says whether all that the client missed follows.
func (h *hints) recovered(j channel.Joined) bool {
	return h.recover && !j.Reset && !j.Live && j.Next == h.offset+1 && h.epoch.Matches(j.Epoch)
}

// placed takes what to leave by. It is called with the channel locked.
func (s *Session) placed(sub *subscription, m *fanout.Member) {
	s.mu.Lock()
	sub.member = m
	if sub.state != placing { // unsubscribed meanwhile, or the connection is gone
		refused := s.partAt(sub)
		s.mu.Unlock()
		if refused != nil {
			refused()
		}
		return
	}
	sub.state = member
	watch := sub.more != nil && sub.more.joinLeave
	s.mu.Unlock()
	if watch {
		go s.watch(sub) // not with this channel locked
	}
}

// partAt ends a subscription that was to leave as soon as it has its place, and makes the one that follows it: both in one step, so that
// whatever the client says next finds that. refused is to be called, if not nil, when the session is not locked any more. The session is
// locked.
func (s *Session) partAt(sub *subscription) (refused func()) {
	sub.leave()
	s.remove(sub)
	if sub.more == nil || sub.more.parted == nil {
		return nil
	}
	sub.more.parted()
	e := sub.more.next
	if e == nil {
		return nil
	}
	next, err := s.add(e)
	if err != nil {
		return func() { e.refuse(err) }
	}
	go e.join(next) // not with this channel locked
	return nil
}

// watch makes the client a member of the channel's events.
func (s *Session) watch(sub *subscription) {
	s.backend().Join(proto.EventsOf(sub.name()), channel.JoinRequest{
		Format: s.codec(), Outlet: s.conn.Outlet(),
		Ready: func(j channel.Joined) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return j.Err == nil && sub.state == member
		},
		Placed: func(m *fanout.Member) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if sub.state != member {
				m.Leave()
				return
			}
			sub.more.events = m
		},
	})
}

func (s *Session) unsubscribe(id uint32, r *protocol.UnsubscribeRequest) {
	done := func() { s.reply(&protocol.Reply{Id: id, Unsubscribe: &protocol.UnsubscribeResult{}}) }
	if !s.drop(r.Channel, false, done) {
		done()
	}
}

// drop ends the subscription to a channel and then calls done, at once or when it has its place, with the session locked: so the client
// is told before it can be subscribed again. It reports false, and calls nothing, when there is none. A subscribe that is under way is
// answered with an error, which with again invites to send it again.
func (s *Session) drop(name string, again bool, done func()) bool {
	var late *intent
	defer func() {
		if late != nil {
			late.refuse(undone(again))
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.find(name)
	switch {
	case sub == nil:
		return false
	case sub.state == leaving && sub.more.next == nil:
		return false
	case sub.state == leaving: // the last word counts
		parted := sub.more.parted
		sub.more.parted = func() { parted(); done() }
		late, sub.more.next = sub.more.next, nil // answered when the session is not locked any more
	case sub.state == placing:
		sub.state = leaving
		sub.detail().parted = done
	default:
		if sub.state == joining && again {
			sub.detail().again = true
		}
		sub.leave()
		s.remove(sub)
		done()
	}
	return true
}

func (s *Session) subRefresh(id uint32, r *protocol.SubRefreshRequest) {
	server := s.server()
	switch {
	case server.Tokens == nil:
		s.fail(id, proto.ErrNotAvailable.With("there are no tokens here"))
		return
	case r.Type != 0:
		s.fail(id, proto.ErrNotAvailable.With("there are no shared polls: refresh with type 0"))
		return
	}
	if sub := s.subscribedTo(r.Channel); sub == nil {
		s.fail(id, proto.ErrDenied.With("you are not subscribed to this channel"))
		return
	}
	terms, err := server.Tokens.Subscription(r.Token, r.Channel, s.who().User, s.id())
	if err != nil {
		if err.Code == proto.ErrTokenExpired.Code {
			err = proto.ErrExpired
		}
		s.fail(id, subscriptionError(err))
		return
	}
	s.mu.Lock()
	if sub := s.find(r.Channel); sub != nil {
		sub.detail().Subscription = terms
	}
	s.mu.Unlock()
	if !terms.Expires.IsZero() {
		s.dueAt(terms.Expires.Add(session.Grace))
	}
	result := &protocol.SubRefreshResult{}
	result.Expires, result.Ttl = server.ttl(terms.Expires)
	s.reply(&protocol.Reply{Id: id, SubRefresh: result})
}

// subscribedTo returns the subscription to a channel that the client is a member of, or was told that it is.
func (s *Session) subscribedTo(name string) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub := s.find(name); sub.told() {
		return sub
	}
	return nil
}

// told says whether the client was told that it is subscribed. The session is locked; nil is no subscription.
func (sub *subscription) told() bool {
	return sub != nil && (sub.state == promised || sub.state == placing || sub.state == member)
}
