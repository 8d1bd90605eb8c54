package centrifuge

import (
	"maps"
	"slices"

	"github.com/centrifugal/protocol"

	"barrage/auth"
	"barrage/proto"
	"barrage/session"
)

func (s *Session) refresh(id uint32, r *protocol.RefreshRequest) {
	server := s.server()
	if server.Tokens == nil {
		s.fail(id, proto.ErrNotAvailable.With("there are no tokens here"))
		return
	}
	who, err := server.Tokens.Connection(r.Token)
	switch {
	case err == nil && who.User != s.who().User:
		s.End(proto.CloseBadToken.With("the token is of another user"))
		return
	case err == nil:
	case err.Code == proto.ErrTokenExpired.Code:
		s.End(proto.CloseExpired)
		return
	case err.Code == proto.ErrUnauthorized.Code:
		s.End(proto.CloseBadToken.With("invalid token: %s", err.Message))
		return
	default:
		s.fail(id, err)
		return
	}
	s.mu.Lock()
	before := s.whoLocked()
	s.identity = who
	s.mu.Unlock()
	if !who.Expires.IsZero() {
		s.dueAt(who.Expires.Add(session.Grace))
	}
	result := &protocol.RefreshResult{Client: s.id(), Version: server.Version}
	result.Expires, result.Ttl = server.ttl(who.Expires)
	s.reply(&protocol.Reply{Id: id, Refresh: result})
	s.follow(before, who)
}

// follow makes the client's subscriptions what its new token says where the one before said otherwise: of channels that are not named any
// more it is unsubscribed, to new ones it is subscribed. What the client or the server API did besides stays.
func (s *Session) follow(before, now *auth.Identity) {
	own, _ := auth.PersonalChannel(now.User)
	for _, name := range slices.Sorted(maps.Keys(before.Subs)) {
		_, named := now.Subs[name]
		if !named && s.subscribedByServer(name) && (name != own || !s.server().Personal) {
			s.part(name, serverUnsubscribe)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now.Subs)) {
		if _, named := before.Subs[name]; named {
			continue
		}
		terms, err := now.Subs[name], s.server().exists(name)
		if err == nil && !s.subscribeByServer(proto.Control{Kind: proto.ControlSubscribe, Channel: name, Info: terms.Info, Data: terms.Data}) {
			err = proto.ErrLimit
		}
		if err != nil {
			s.passOver(name, err)
		}
	}
}

// subscribedByServer says whether the server has subscribed the client to a channel.
func (s *Session) subscribedByServer(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.find(name)
	return sub != nil && sub.server
}
