package centrifuge

import (
	"time"

	"github.com/centrifugal/protocol"

	"barrage/proto"
	"barrage/session"
)

// roomy says whether the outlet has room for more; if not, Room is called later. The session is locked.
func (s *Session) roomy() bool { return s.conn.Outlet().Offer(nil, s) }

// ensure returns the edge, and makes it if need be. The session is locked.
func (s *Session) ensure() *edge {
	if s.edge == nil {
		s.edge = &edge{}
	}
	return s.edge
}

// offer answers a read. When there is no room, nothing is kept of the answer, so that a client that reads slowly holds no more than what
// its outlet does: the read is done again, by calling again, when there is.
func (s *Session) offer(answer func() (frame []byte), again func()) {
	out := s.conn.Outlet()
	var frame []byte
	if out.Offer(nil, s) { // otherwise it need not be written
		frame = answer()
	}
	s.mu.Lock()
	if frame != nil && out.Offer(frame, s) {
		s.mu.Unlock()
		s.finish(1)
		return
	}
	s.ensure().later = append(s.ensure().later, again)
	next := s.nextAnswer() // there may be room by now
	s.mu.Unlock()
	if next != nil {
		go next() // a channel may be locked
	}
}

// offerCall answers a call, whose answer is kept when there is no room. When too many are, the client is closed.
func (s *Session) offerCall(id uint32, data []byte) {
	r := &protocol.Reply{Id: id, Rpc: &protocol.RPCResult{Data: data}}
	if len(data) <= smallCall {
		s.reply(r)
		s.finish(0)
		return
	}
	frame := s.frame(r)
	s.mu.Lock()
	if s.conn.Outlet().Offer(frame, s) {
		s.mu.Unlock()
		s.finish(0)
		return
	}
	e := s.ensure()
	if e.calls == maxCalls {
		s.mu.Unlock()
		s.tooSlow()
		return
	}
	e.calls++
	e.later = append(e.later, func() {
		s.mu.Lock()
		s.ensure().calls--
		s.mu.Unlock()
		s.offerCall(id, data)
	})
	next := s.nextAnswer()
	s.mu.Unlock()
	if next != nil {
		go next() // a channel may be locked
	}
}

// nextAnswer returns how to try again the answer that waits longest, if there is one and room for it. The session is locked.
func (s *Session) nextAnswer() (again func()) {
	e := s.edge
	if e == nil || len(e.later) == 0 || s.ended.Load() || !s.roomy() {
		return nil
	}
	again = e.later[0]
	e.later[0] = nil
	if e.later = e.later[1:]; len(e.later) == 0 {
		e.later = nil
	}
	return again
}

// tooSlow closes a client that lets too much pile up.
func (s *Session) tooSlow() {
	if s.End(proto.CloseSlow.With("too much is waiting to be read")) {
		s.conn.Slow()
	}
}

// Room implements fanout.Waiter: answers that waited go on, and so do commands.
func (s *Session) Room() {
	s.mu.Lock()
	next, resume := s.nextAnswer(), s.resumable()
	s.mu.Unlock()
	if next != nil {
		next()
	}
	if resume {
		s.conn.Resume()
	}
}

// hasten ends a session that is leaving whose client takes longer than session.Grace to read the answers that it is to have: it stays subscribed
// until it ends.
func (s *Session) hasten(now time.Time) {
	if !s.leaving.Load() {
		return
	}
	var last *proto.Close
	s.mu.Lock()
	if e := s.edge; e != nil && e.last != nil && len(e.later) > 0 && session.Overdue(&e.since, now) {
		last = e.last
	}
	s.mu.Unlock()
	if last != nil {
		s.End(*last)
	}
}
