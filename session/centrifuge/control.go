package centrifuge

import (
	"time"

	"github.com/centrifugal/protocol"

	"barrage/auth"
	"barrage/channel"
	"barrage/fanout"
	"barrage/proto"
)

// Control does what the server API asks of the connection. Whether it is meant is for the caller to know.
func (s *Session) Control(c proto.Control) {
	switch c.Kind {
	case proto.ControlDisconnect:
		closing := proto.CloseForced
		if c.Code != 0 {
			closing = proto.Close{Code: c.Code, Reason: c.Reason}
		}
		s.End(closing)
	case proto.ControlUnsubscribe:
		why := serverUnsubscribe
		if c.Code != 0 {
			why = parting{uint32(c.Code), c.Reason}
		}
		for _, name := range s.named(c.Channel) {
			s.part(name, why)
		}
	case proto.ControlSubscribe:
		s.subscribeByServer(c)
	case proto.ControlRefresh:
		s.refreshByServer(c)
	}
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

// part unsubscribes the client and tells it why.
func (s *Session) part(name string, why parting) {
	s.drop(name, func() { s.reply(unsubscribed(name, why)) })
}

// subscribeByServer subscribes the client to a channel, unless it is already, is not connected, or the channel does not exist.
func (s *Session) subscribeByServer(c proto.Control) {
	s.mu.Lock()
	ready := s.state == connected
	s.mu.Unlock()
	if !ready || !s.server().exists(c.Channel) {
		return
	}
	terms := auth.Subscription{Info: c.Info, Data: c.Data}
	if c.Expires > 0 {
		terms.Expires = time.Unix(c.Expires, 0)
	}
	sub, err := s.add(c.Channel, terms, s.server().announces(c.Channel), true)
	if err != nil {
		return
	}
	s.backend().Join(c.Channel, channel.JoinRequest{
		Start: channel.Start{Since: c.Since, Epoch: c.Epoch, Ahead: true}, Format: s.codec(), Outlet: s.conn.Outlet(),
		Ready: func(j channel.Joined) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if sub.state != joining {
				return false
			}
			if j.Err != nil {
				sub.state = failed
				return false
			}
			sub.state = placing
			push := &protocol.Subscribe{Data: protocol.Raw(c.Data)}
			if !j.Live {
				push.Recoverable, push.Positioned = true, true
				push.Epoch, push.Offset = string(j.Epoch), uint64(j.Next-1)
			}
			s.reply(&protocol.Reply{Push: &protocol.Push{Channel: c.Channel, Subscribe: push}})
			return true
		},
		Placed: func(m *fanout.Member) { s.placed(sub, m) },
	})
}

// refreshByServer moves the end of the connection.
func (s *Session) refreshByServer(c proto.Control) {
	if c.Expired {
		s.End(proto.CloseExpired)
		return
	}
	s.mu.Lock()
	if s.state != connected { // nobody yet: the identity is what connect will find
		s.mu.Unlock()
		return
	}
	who := *s.whoLocked()
	who.Expires = time.Time{}
	if c.Expires > 0 {
		who.Expires = time.Unix(c.Expires, 0)
		s.dueAt(who.Expires.Add(grace))
	}
	s.identity = &who
	s.mu.Unlock()
	push := &protocol.Refresh{}
	push.Expires, push.Ttl = s.server().ttl(who.Expires)
	s.reply(&protocol.Reply{Push: &protocol.Push{Refresh: push}})
}
