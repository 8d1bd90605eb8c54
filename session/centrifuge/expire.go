package centrifuge

import (
	"math"
	"time"

	"barrage/proto"
	"barrage/session"
)

// ttl is how a client is told when something ends.
func (s *Server) ttl(end time.Time) (expires bool, seconds uint32) {
	if end.IsZero() {
		return false, 0
	}
	left := math.Ceil(end.Sub(s.now()).Seconds())
	return true, uint32(min(max(left, 1), math.MaxUint32))
}

// dueAt makes Tick look at the session at t, if not before.
func (s *Session) dueAt(t time.Time) {
	at := uint32(t.Add(time.Second - 1).Unix())
	for {
		old := s.due.Load()
		if old != 0 && old <= at || s.due.CompareAndSwap(old, at) {
			return
		}
	}
}

// Tick ends what has expired. It is called from time to time, and returns after how long it has something to do again at the
// latest; 0 for nothing that is known.
func (s *Session) Tick(now time.Time) (after time.Duration) {
	if s.ended.Load() {
		return 0
	}
	s.hasten(now)
	s.reap()
	due := s.due.Load()
	if due == 0 {
		return 0
	}
	if left := time.Unix(int64(due), 0).Sub(now); left > 0 {
		return left
	}
	s.due.CompareAndSwap(due, 0)
	s.expire(now)
	return 0
}

// reap takes out subscriptions that ended by themselves. One that the server had made cannot be begun again but with the connection.
func (s *Session) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := s.subs; sub != nil; sub = sub.next {
		if !sub.isOver() {
			continue
		}
		sub.leave()
		s.remove(sub)
		if sub.server {
			s.End(proto.CloseMissed.With("insufficient state"))
		}
	}
}

// expire ends the connection, or the subscriptions, whose time is over.
func (s *Session) expire(now time.Time) {
	s.mu.Lock()
	state, who := s.state, s.whoLocked()
	var over, server []string
	for sub := s.subs; sub != nil; sub = sub.next {
		switch {
		case sub.more == nil || sub.more.Expires.IsZero():
		case now.Before(sub.more.Expires.Add(session.Grace)):
			s.dueAt(sub.more.Expires.Add(session.Grace))
		case sub.server:
			server = append(server, sub.name())
		default:
			over = append(over, sub.name())
		}
	}
	s.mu.Unlock()
	switch {
	case state == fresh || state == refused:
		s.End(proto.CloseStale)
		return
	case who.Expires.IsZero():
	case now.Before(who.Expires.Add(session.Grace)):
		s.dueAt(who.Expires.Add(session.Grace))
	default:
		s.End(proto.CloseExpired)
		return
	}
	if len(server) > 0 {
		s.End(proto.CloseSubExpired)
		return
	}
	for _, name := range over {
		s.part(name, expired)
	}
}
