package centrifuge

import (
	"time"

	"github.com/centrifugal/protocol"

	"barrage/auth"
	"barrage/channel"
	"barrage/fanout"
	"barrage/proto"
	"barrage/session"
)

// Control does what the server API asks of the connection, if it concerns it, and reports whether it did. Whether the connection is
// meant is for the caller to know. A connection that is to end still has the answers to its commands under way.
func (s *Session) Control(c proto.Control) (concerned bool) {
	switch c.Kind {
	case proto.ControlDisconnect:
		closing := proto.CloseForced
		if c.Code != 0 {
			closing = proto.Close{Code: c.Code, Reason: c.Reason}
		}
		s.Leave(closing)
		return true
	case proto.ControlUnsubscribe:
		why := serverUnsubscribe
		if c.Code != 0 {
			why = parting{uint32(c.Code), c.Reason}
		}
		for _, name := range s.named(c.Channel) {
			concerned = s.part(name, why) || concerned
		}
		return concerned
	case proto.ControlSubscribe:
		return s.subscribeByServer(c)
	case proto.ControlRefresh:
		return s.refreshByServer(c)
	}
	return false
}

// named are the channels that a name stands for: an empty one for all.
func (s *Session) named(channel string) (names []string) {
	if channel != "" {
		return []string{channel}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := s.subs; sub != nil; sub = sub.next {
		names = append(names, sub.name())
	}
	return names
}

// part unsubscribes the client and tells it why; false when it was not subscribed. A client whose connect is under way knows of no
// subscription yet, and will not be told of this one.
func (s *Session) part(name string, why parting) bool {
	return s.drop(name, why.code >= insufficientState.code, func() {
		if s.state != connecting {
			s.push(unsubscribed(name, why))
		}
	})
}

// subscribeByServer subscribes the client to a channel, unless it is already; false when it is not connected, may have
// no more, or the channel does not exist.
func (s *Session) subscribeByServer(c proto.Control) bool {
	s.mu.Lock()
	ready := s.state == connected
	s.mu.Unlock()
	if !ready || s.server().exists(c.Channel) != nil {
		return false
	}
	terms := auth.Subscription{Info: c.Info, Data: c.Data}
	if c.Expires > 0 {
		terms.Expires = time.Unix(c.Expires, 0)
	}
	err := s.enter(&intent{
		channel: c.Channel, terms: terms, joinLeave: s.server().announces(c.Channel), server: true,
		join:   func(sub *subscription) { s.joinByServer(sub, c) },
		refuse: func(*proto.Error) {},
	})
	return err == nil || err.Code == proto.ErrSubscribed.Code
}

// joinByServer makes the client a member, and tells it so.
func (s *Session) joinByServer(sub *subscription, c proto.Control) {
	s.backend().Join(c.Channel, channel.JoinRequest{
		Start: channel.Start{Since: c.Since, Epoch: c.Epoch, Ahead: true}, Format: s.codec(), Outlet: s.conn.Outlet(),
		Ready: func(j channel.Joined) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if sub.state != joining {
				return false
			}
			if j.Err != nil { // the client was told nothing of it, and is told nothing now
				s.remove(sub)
				return false
			}
			sub.state = placing
			push := &protocol.Subscribe{Data: protocol.Raw(c.Data)}
			if !j.Live {
				push.Recoverable, push.Positioned = true, true
				push.Epoch, push.Offset = string(j.Epoch), uint64(j.Next-1)
			}
			s.push(&protocol.Push{Channel: c.Channel, Subscribe: push})
			return true
		},
		Placed: func(m *fanout.Member) { s.placed(sub, m) },
	})
}

// refreshByServer moves the end of the connection; false when it is not connected.
func (s *Session) refreshByServer(c proto.Control) bool {
	if c.Expired {
		s.Leave(proto.CloseExpired)
		return true
	}
	s.mu.Lock()
	if s.state != connected { // nobody yet: the identity is what connect will find
		s.mu.Unlock()
		return false
	}
	who := *s.whoLocked()
	who.Expires = time.Time{}
	if c.Expires > 0 {
		who.Expires = time.Unix(c.Expires, 0)
		s.dueAt(who.Expires.Add(session.Grace))
	}
	s.identity = &who
	s.mu.Unlock()
	push := &protocol.Refresh{}
	push.Expires, push.Ttl = s.server().ttl(who.Expires)
	s.push(&protocol.Push{Refresh: push})
	return true
}
