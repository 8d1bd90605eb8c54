package centrifuge

import (
	"bytes"
	"maps"
	"slices"
	"sync"

	"github.com/centrifugal/protocol"
	"github.com/centrifugal/protocol/cfjson"

	"barrage/auth"
	"barrage/channel"
	"barrage/fanout"
	"barrage/proto"
	"barrage/session"
)

// ParseConnect reads what a client of a unidirectional format connects with; nothing stands for an empty object.
func ParseConnect(b []byte) (*protocol.ConnectRequest, error) {
	r := &protocol.ConnectRequest{}
	b = bytes.Clone(bytes.TrimSpace(b)) // what is read are parts of it
	if len(b) == 0 {
		return r, nil
	}
	if b[0] != '{' {
		return nil, errNotOne
	}
	return r, cfjson.Unmarshal(b, r, 0)
}

// Connect takes what a client of a unidirectional format connects with. It is called once, and Message is not.
func (s *Session) Connect(r *protocol.ConnectRequest) { s.connect(0, r) }

func (s *Session) connect(id uint32, r *protocol.ConnectRequest) {
	who, err := s.identify(r.Token)
	switch {
	case err == nil:
	case err.Code == proto.ErrUnauthorized.Code:
		s.End(proto.CloseBadToken.With("invalid token: %s", err.Message))
		return
	case s.format.unidirectional():
		s.End(session.CloseOf(err))
		return
	default:
		s.mu.Lock()
		s.state = refused
		s.mu.Unlock()
		s.fail(id, err)
		return
	}
	user := ""
	if who != nil {
		user = who.User
	}
	if err := s.conn.Admit(user); err != nil {
		s.End(session.CloseOf(err))
		return
	}
	s.mu.Lock()
	s.identity = who
	s.state, s.admitted = connecting, true
	s.mu.Unlock()
	s.due.Store(0)
	if who != nil && !who.Expires.IsZero() {
		s.dueAt(who.Expires.Add(session.Grace))
	}
	s.arrive(id, r.Subs)
}

// identify is who a client is by its token, or by its connection when it shows none.
func (s *Session) identify(token string) (*auth.Identity, *proto.Error) {
	server := s.server()
	s.mu.Lock()
	who := s.identity
	s.mu.Unlock()
	switch {
	case server.Tokens == nil, token == "" && who != nil:
		return who, nil
	case token != "":
		shown, err := server.Tokens.Connection(token)
		if err == nil && who != nil && shown.User != who.User {
			return nil, proto.ErrUnauthorized.With("the token is of another user than the handshake")
		}
		return shown, err
	case server.Anonymous:
		return nil, nil
	}
	return nil, proto.ErrUnauthorized.With("a connection token is needed")
}

// arrival is a connect whose subscriptions are looked up.
type arrival struct {
	session *Session
	id      uint32
	subs    []arriving

	mu   sync.Mutex
	left int // owner: mu; how many positions are not known yet, and one while they are asked for
}

// arriving is a channel that the server subscribes a client to.
type arriving struct {
	sub   *subscription
	hints hints
	at    channel.Joined // owner: arrival.mu
}

// arrive finds out where the subscriptions begin that the server makes, replies, and only then makes the client a member: so the
// reply to connect goes out before their publications. What is published between the two is in the journal; of a live channel it is lost.
func (s *Session) arrive(id uint32, known map[string]*protocol.SubscribeRequest) {
	a := &arrival{session: s, id: id, left: 1}
	places := s.given()
	if s.format.unidirectional() {
		more, closing := s.wanted(places, known)
		if closing != nil {
			s.End(*closing)
			return
		}
		places = append(places, more...)
	}
	for _, p := range places {
		s.mu.Lock()
		sub, err := s.add(&intent{channel: p.channel, terms: p.terms, joinLeave: p.joinLeave, server: true})
		s.mu.Unlock()
		if err != nil {
			s.End(proto.CloseChannels)
			return
		}
		h := s.hints(p.channel, known[p.channel])
		h.reject = false
		a.subs = append(a.subs, arriving{sub: sub, hints: h})
	}
	a.left += len(a.subs)
	for i := range a.subs {
		in := &a.subs[i]
		s.backend().Join(in.sub.name(), channel.JoinRequest{
			Start: in.hints.start(), Format: s.codec(), Outlet: s.conn.Outlet(),
			Ready: func(j channel.Joined) bool {
				if a.found(in, j) {
					go a.welcome() // not with this channel locked
				}
				return false
			},
		})
	}
	if a.found(nil, channel.Joined{}) {
		a.welcome()
	}
}

// exists says, by nil, that a channel may have this name, whoever gives it.
func (s *Server) exists(channel string) *proto.Error {
	if err := proto.CheckChannel(channel); err != nil {
		return proto.ErrBadRequest.With("%s", err)
	}
	if s.Policy == nil {
		return nil
	}
	return s.Policy.Exists(channel)
}

// passOver takes note of a channel that the client is not subscribed to although it, or its token, names it: its connection goes on.
func (s *Session) passOver(channel string, why *proto.Error) {
	if fn := s.server().PassedOver; fn != nil {
		fn(s.id(), channel, why)
	}
}

// place is a channel that the server subscribes a client to.
type place struct {
	channel   string
	terms     auth.Subscription
	joinLeave bool
}

// given are those of the client's token and its own where they exist, in order.
func (s *Session) given() (places []place) {
	who := s.who()
	names := slices.Collect(maps.Keys(who.Subs))
	if own, ok := auth.PersonalChannel(who.User); ok && s.server().Personal && !slices.Contains(names, own) {
		names = append(names, own)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := s.server().exists(name); err != nil {
			s.passOver(name, err)
			continue
		}
		places = append(places, place{name, who.Subs[name], s.server().announces(name)})
	}
	return places
}

// wanted are those that a client that cannot subscribe asks for when it connects, in order, without those that it has and those that
// it may not subscribe to: the connect push tells it what it got. When it has to ask again, or otherwise, closing says so.
func (s *Session) wanted(has []place, asked map[string]*protocol.SubscribeRequest) (places []place, closing *proto.Close) {
	if len(asked) > s.server().channels() {
		return nil, &proto.CloseChannels
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if slices.ContainsFunc(has, func(p place) bool { return p.channel == name }) {
			continue
		}
		r := &protocol.SubscribeRequest{}
		if asked[name] != nil {
			r = asked[name]
		}
		r.Channel = name
		terms, err := auth.Subscription{}, declined(r)
		if err == nil {
			terms, err = s.permit(r)
		}
		switch {
		case err == nil:
			places = append(places, place{name, terms, s.wantsEvents(r)})
		case err.Retry:
			c := session.CloseOf(err)
			return nil, &c
		case err.Code == proto.ErrBadRequest.Code, err.Code == proto.ErrNotAvailable.Code:
			c := proto.CloseBadRequest.With("%s", err.Message)
			return nil, &c
		default:
			s.passOver(name, err)
		}
	}
	return places, nil
}

// found takes a position, and reports whether it was the last.
func (a *arrival) found(in *arriving, j channel.Joined) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if in != nil {
		in.at = j
	}
	a.left--
	return a.left == 0
}

// welcome replies, and makes the client a member of the channels from the positions that the reply tells.
func (a *arrival) welcome() {
	s := a.session
	result, ok := a.reply()
	if !ok {
		s.End(proto.CloseUnavailable)
		return
	}
	for i := range a.subs {
		in := &a.subs[i]
		if r := result.Subs[in.sub.name()]; r != nil {
			s.continueAt(in.sub, in.at.Live, proto.Position{Epoch: proto.Epoch(r.Epoch), Offset: proto.Offset(r.Offset)})
		}
	}
	s.mu.Lock()
	resume := s.resumable()
	s.mu.Unlock()
	if resume {
		s.conn.Resume()
	}
}

// reply tells the client that it is connected, and its subscriptions but for those that the server has ended meanwhile: of their end it
// is not told, as it knows nothing of them. ok is false when one could not be opened.
func (a *arrival) reply() (result *protocol.ConnectResult, ok bool) {
	s := a.session
	result = s.connectResult()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range a.subs {
		in := &a.subs[i]
		switch {
		case in.sub.state != joining:
			continue
		case in.at.Err != nil:
			return nil, false
		case result.Subs == nil:
			result.Subs = map[string]*protocol.SubscribeResult{}
		}
		result.Subs[in.sub.name()] = s.result(in.sub, in.hints, in.at)
		in.sub.state = promised
	}
	s.reply(&protocol.Reply{Id: a.id, Connect: result})
	if s.state == connecting {
		s.state = connected
	}
	return result, true
}

func (s *Session) connectResult() *protocol.ConnectResult {
	server := s.server()
	r := &protocol.ConnectResult{Client: s.id(), Version: server.Version, Ping: server.ping(), Pong: true}
	r.Expires, r.Ttl = server.ttl(s.who().Expires)
	if e, ok := s.conn.(Emulated); ok {
		r.Node, r.Session = e.Emulation()
	}
	return r
}

// continueAt makes the client a member of a channel after a position that it was told.
func (s *Session) continueAt(sub *subscription, live bool, p proto.Position) {
	start := channel.Start{Ahead: true}
	if !live {
		start.Since, start.Epoch = &p.Offset, p.Epoch
	}
	s.backend().Join(sub.name(), channel.JoinRequest{
		Start: start, Format: s.codec(), Outlet: s.conn.Outlet(),
		Ready: func(j channel.Joined) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if sub.state != promised {
				return false
			}
			switch {
			case j.Err != nil:
				s.End(proto.CloseUnavailable)
				return false
			case j.Reset:
				s.End(proto.CloseMissed.With("insufficient state"))
				return false
			}
			sub.state = placing
			return true
		},
		Placed: func(m *fanout.Member) { s.placed(sub, m) },
	})
}
