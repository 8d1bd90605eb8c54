package session

import (
	"sync"
	"time"

	"barrage/auth"
	"barrage/channel"
	"barrage/limit"
	"barrage/proto"
)

// Grace is how long a connection goes on after its token has expired, so that a refresh which is late still counts.
const Grace = 25 * time.Second

// extra is what a session has besides when its client has shown who it is, wants to hear of members, or sends commands while those
// are limited.
type extra struct {
	identity   *auth.Identity    // owner: Session.mu; nil without authentication
	sub        auth.Subscription // owner: Session.mu; what the token says of the channel
	attributes []byte            // owner: Session.mu; of what the client publishes
	expires    time.Time         // owner: Session.mu; zero for never
	use        limit.Connection  // owner: Message
	members    bool              // never changes after Start; the client wants to hear of members
	placing    sync.Mutex        // taken before Session.mu
	entered    bool              // owner: placing; the backend knows that the client is there
	gone       bool              // owner: placing
}

// adopt takes over an identity.
func (x *extra) adopt(id *auth.Identity, name string) {
	x.identity, x.sub, x.expires = id, id.Subs[name], expiry(id, name)
	a := proto.Attributes{Info: id.Info, ChanInfo: x.sub.Info}
	x.attributes, _ = a.Encode() // too large ones, and what is no JSON, are left out
}

// expiry is until when an identity counts in a channel: the end of its token or of what that says of the channel, whichever comes
// first. Zero means for ever.
func expiry(id *auth.Identity, name string) time.Time {
	if at := id.Subs[name].Expires; !at.IsZero() && (id.Expires.IsZero() || at.Before(id.Expires)) {
		return at
	}
	return id.Expires
}

// anonymous is who has shown nothing where nothing need be shown.
var anonymous auth.Identity

// identity is who the client has shown to be, nil without authentication, and until when that counts.
func (s *Session) identity() (id *auth.Identity, expires time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.extra == nil {
		return nil, time.Time{}
	}
	return s.extra.identity, s.extra.expires
}

func (s *Session) attributes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.extra == nil {
		return nil
	}
	return s.extra.attributes
}

// User is the id of the client's user; empty for an anonymous one. It never changes.
func (s *Session) User() string {
	if id, _ := s.identity(); id != nil {
		return id.User
	}
	return ""
}

// unix is a time in Unix seconds, 0 for none.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// allow says whether the client, a subscriber or about to be one, may do something.
func (s *Session) allow(what auth.Action) *proto.Error {
	policy := s.conn.Server().Policy
	if policy == nil {
		return nil
	}
	id, _ := s.identity()
	if id == nil {
		id = &anonymous
	}
	name := s.channel.Value()
	_, token := id.Subs[name]
	return policy.Allow(id, auth.Request{Action: what, Channel: name, Subscribed: what != auth.Subscribe, Token: token})
}

// admit says whether the client may join as q asks.
func (s *Session) admit(q *proto.JoinQuery) *proto.Error {
	if err := s.allow(auth.Subscribe); err != nil {
		return err
	}
	if s.format == Raw && (q.Since != nil || q.Last > 0) {
		if err := s.allow(auth.History); err != nil {
			return err // there is no other way to say so
		}
	}
	if q.Members && s.format == JSON {
		if err := s.allow(auth.Presence); err != nil {
			return err
		}
		s.ensure().members = true
	}
	return nil
}

// ensure returns the extra, and makes it if need be.
func (s *Session) ensure() *extra {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.extra == nil {
		s.extra = &extra{}
	}
	return s.extra
}

// CloseOf is how a connection is closed for an error that it cannot be told otherwise.
func CloseOf(err *proto.Error) proto.Close {
	c := proto.CloseInternal
	switch err.Code {
	case proto.ErrUnauthorized.Code:
		c = proto.CloseBadToken
	case proto.ErrTokenExpired.Code, proto.ErrExpired.Code:
		c = proto.CloseExpired
	case proto.ErrDenied.Code, proto.ErrUnknownChannel.Code:
		c = proto.CloseDenied
	case proto.ErrLimit.Code:
		c = proto.CloseConnections
	case proto.ErrTooMany.Code, proto.ErrUnavailable.Code:
		c = proto.CloseUnavailable
	}
	return c.With("%s", cut(err.Message, maxReason))
}

// maxReason is the longest reason of a close frame, in bytes. RFC 6455, section 5.5.
const maxReason = 123

// spend asks the limits for a command. What a publish costs besides is asked for once it is known to be allowed: see spendPublish.
func (s *Session) spend(kind proto.CommandKind) *proto.Error {
	limits, user := s.conn.Server().Limits, s.User()
	if !limits.OfCommands(user) {
		return nil
	}
	use := &s.ensure().use
	if err := limits.Command(use, time.Now()); err != nil {
		return err
	}
	if kind != proto.CommandPublish {
		use.Taken()
	}
	return nil
}

// spendPublish asks the limits for a publish.
func (s *Session) spendPublish() *proto.Error {
	limits, user := s.conn.Server().Limits, s.User()
	if !limits.OfCommands(user) {
		return nil
	}
	return limits.Publish(&s.ensure().use, user, s.channel.Value(), time.Now())
}

// refuse answers a command that was too much, and ends a session that goes on all the same.
func (s *Session) refuse(id string, err *proto.Error) {
	s.fail(id, err)
	if s.conn.Server().Limits.Exhausted(&s.ensure().use) {
		s.Leave(proto.CloseUnavailable.With("%d commands in a row were refused as too many; slow down", limit.Patience))
	}
}

// arrive tells the backend that the client is there, and joins the channel's events if the client wants them.
func (s *Session) arrive(x *extra) {
	x.placing.Lock()
	defer x.placing.Unlock()
	if x.gone {
		return
	}
	backend, name := s.conn.Server().Backend, s.channel.Value()
	if x.members {
		backend.Join(proto.EventsOf(name), channel.JoinRequest{
			Format: s.codec(), Outlet: s.conn.Outlet(),
			Ready: func(j channel.Joined) bool { return j.Err == nil && !s.ended.Load() },
		})
	}
	if id, _ := s.identity(); id != nil {
		x.entered = true
		backend.Enter(name, s.member(), s.announces())
	}
}

// announces says whether other members are told that the client comes and goes.
func (s *Session) announces() bool {
	policy := s.conn.Server().Policy
	if policy == nil {
		return false
	}
	ns, _, _ := policy.Of(s.channel.Value())
	return ns.JoinLeave
}

// member is the client as others see it.
func (s *Session) member() proto.MemberInfo {
	m := proto.MemberInfo{Client: s.id()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.extra; x != nil && x.identity != nil {
		m.User, m.Info, m.ChanInfo = x.identity.User, x.identity.Info, x.sub.Info
	}
	return m
}

// Gone says that the connection has ended. Nothing is called after it.
func (s *Session) Gone() {
	s.mu.Lock()
	x := s.extra
	s.mu.Unlock()
	if x == nil {
		return
	}
	x.placing.Lock()
	defer x.placing.Unlock()
	x.gone = true
	if x.entered {
		s.conn.Server().Backend.Exit(s.channel.Value(), s.id())
	}
}

// info answers how large the audience is; how many users that are is told to those who may list them, where there is
// authentication.
func (s *Session) info(c proto.Command) {
	backend, name := s.conn.Server().Backend, s.channel.Value()
	n := backend.Info(name)
	info := proto.Info{ID: c.ID, Members: n.Members, Nodes: n.Nodes}
	if id, _ := s.identity(); id == nil || s.allow(auth.Presence) != nil {
		s.reply(proto.AppendInfo(nil, info))
		return
	}
	s.begin(1)
	backend.Counts(name, func(counts proto.Counts, err *proto.Error) {
		if err == nil {
			info.Users, info.Exact = counts.Users, &counts.Exact
		}
		s.reply(proto.AppendInfo(nil, info))
		s.finish(1)
	})
}

// presence answers who is there.
func (s *Session) presence(c proto.Command) {
	if err := s.allow(auth.Presence); err != nil {
		s.fail(c.ID, err)
		return
	}
	s.begin(1)
	s.readPresence(c)
}

func (s *Session) readPresence(c proto.Command) {
	s.conn.Server().Backend.Presence(s.channel.Value(), func(r proto.Roster, err *proto.Error) {
		if err != nil {
			s.fail(c.ID, err)
			s.finish(1)
			return
		}
		s.offer(func() []byte { return proto.AppendPresence(nil, &proto.Presence{ID: c.ID, Roster: r}) }, func() { s.readPresence(c) })
	})
}

// refresh takes a new token.
func (s *Session) refresh(c proto.Command) {
	tokens := s.conn.Server().Tokens
	if tokens == nil {
		s.fail(c.ID, proto.ErrNotAvailable.With("this server has no authentication by tokens"))
		return
	}
	id, err := tokens.Connection(c.Token)
	if err == nil && id.User != s.User() {
		err = proto.ErrUnauthorized.With("the token is another user's; connect again with it")
	}
	if err != nil {
		s.fail(c.ID, err)
		return
	}
	x := s.ensure()
	s.mu.Lock()
	x.adopt(id, s.channel.Value())
	expires := unix(x.expires)
	s.mu.Unlock()
	if err := s.allow(auth.Subscribe); err != nil {
		s.Leave(CloseOf(err))
		return
	}
	s.reply(proto.AppendRefreshed(nil, proto.Refreshed{ID: c.ID, Expires: expires}))
}

// Expire ends the session if its token has expired and was not refreshed, and returns how long to wait until that must be looked at
// again; 0 for as long as one likes. It is called from time to time.
func (s *Session) Expire(now time.Time) (after time.Duration) {
	s.hasten(now)
	_, expires := s.identity()
	if expires.IsZero() || s.ended.Load() {
		return 0
	}
	if after = expires.Add(Grace).Sub(now); after > 0 {
		return after
	}
	s.Leave(proto.CloseExpired.With("the token has expired; connect again with a new one"))
	return 0
}

// Control does what the server API asks of the connection, if it concerns it, and reports whether it did.
func (s *Session) Control(c proto.Control) bool {
	own := c.Channel == s.channel.Value()
	switch c.Kind {
	case proto.ControlDisconnect:
		s.Leave(closeOr(c, proto.CloseForced))
	case proto.ControlUnsubscribe:
		if !own && c.Channel != "" {
			return false
		}
		s.Leave(unsubscribed(c))
	case proto.ControlRefresh:
		if c.Expired {
			s.Leave(proto.CloseExpired)
			return true
		}
		s.expireAt(c.Expires)
	default:
		return own && c.Kind == proto.ControlSubscribe // it is subscribed
	}
	return true
}

func (s *Session) expireAt(seconds int64) {
	x := s.ensure()
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.expires = (time.Time{}); seconds > 0 {
		x.expires = time.Unix(seconds, 0)
	}
}

// unsubscribed is how a connection ends that the server API unsubscribes: without its one channel it is of no use. Unsubscribe codes from
// 2500 on invite to subscribe again.
func unsubscribed(c proto.Control) proto.Close {
	if c.Code >= 2500 {
		return proto.CloseReconnect.With("the server has ended the subscription; connect again")
	}
	return proto.CloseForced.With("the server has ended the subscription")
}

// closeOr is the close that a control asks for, as far as it says so.
func closeOr(c proto.Control, otherwise proto.Close) proto.Close {
	if c.Code >= 3000 && c.Code < 5000 {
		otherwise = proto.Close{Code: c.Code, Reason: otherwise.Reason}
	}
	if c.Reason != "" {
		otherwise.Reason = cut(c.Reason, maxReason)
	}
	return otherwise
}

// Info describes the connection for the server API.
func (s *Session) Info() proto.ConnectionInfo {
	m := s.member()
	protocol := "ws"
	if s.format == Raw {
		protocol = "raw"
	}
	return proto.ConnectionInfo{
		Node: s.conn.Server().Node, Client: m.Client, User: m.User, Protocol: protocol, Channels: []string{s.channel.Value()}, Info: m.Info,
	}
}

// cut shortens a text to at most n bytes, without cutting a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && text[n]&0xC0 == 0x80 {
		n--
	}
	return text[:n]
}
