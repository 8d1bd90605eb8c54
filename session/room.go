package session

import (
	"time"

	"barrage/proto"
)

// Full reports whether Message must not be called; Connection.Resume is called later if so. A session that has ended is never
// full: what it is given is ignored.
func (s *Session) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = !s.ended.Load() && (!s.joined || s.underway >= Limit || s.histories >= maxHistories || !s.roomy())
	return s.paused
}

// resumable says whether to call Resume now. The session is locked.
func (s *Session) resumable() bool {
	if !s.paused || !s.joined || s.underway > Limit/2 || s.histories > maxHistories/2 || !s.roomy() {
		return false
	}
	s.paused = false
	return true
}

// roomy says whether the outlet has room for more; if not, Room is called later. The session is locked.
func (s *Session) roomy() bool { return s.conn.Outlet().Offer(nil, s) }

// offer answers a read. When there is no room, nothing is kept of the answer, so that a client that reads slowly holds no more than what
// its outlet does: the read is done again, by calling again, when there is.
func (s *Session) offer(answer func() []byte, again func()) {
	out := s.conn.Outlet()
	var frame []byte
	if out.Offer(nil, s) { // otherwise it need not be written
		frame = s.frame(answer())
	}
	s.mu.Lock()
	if frame != nil && out.Offer(frame, s) {
		s.mu.Unlock()
		s.finish(1)
		return
	}
	if s.edge == nil {
		s.edge = &edge{}
	}
	s.edge.reads = append(s.edge.reads, again)
	read := s.nextRead() // there may be room by now
	s.mu.Unlock()
	if read != nil {
		go read() // a channel may be locked
	}
}

// nextRead returns the read that waits longest, if there is one and room for its answer. The session is locked.
func (s *Session) nextRead() (read func()) {
	if s.edge == nil || len(s.edge.reads) == 0 || s.ended.Load() || !s.roomy() {
		return nil
	}
	read = s.edge.reads[0]
	s.edge.reads[0] = nil
	if s.edge.reads = s.edge.reads[1:]; len(s.edge.reads) == 0 {
		s.edge.reads = nil
		s.trim()
	}
	return read
}

// trim lets go of what is not needed besides. The session is locked.
func (s *Session) trim() {
	if s.edge.greeting == nil && s.edge.last == nil && s.edge.reads == nil {
		s.edge = nil
	}
}

// Room implements fanout.Waiter: reads that waited go on, and so do commands.
func (s *Session) Room() {
	s.mu.Lock()
	read, resume := s.nextRead(), s.resumable()
	s.mu.Unlock()
	if read != nil {
		read()
	}
	if resume {
		s.conn.Resume()
	}
}

// hasten ends a session that is leaving whose client takes longer than Grace to read the answers that it is to have: it is a member until
// it ends.
func (s *Session) hasten(now time.Time) {
	if !s.leaving.Load() {
		return
	}
	var last *proto.Close
	s.mu.Lock()
	if e := s.edge; e != nil && e.last != nil && len(e.reads) > 0 && Overdue(&e.since, now) {
		last = e.last
	}
	s.mu.Unlock()
	if last != nil {
		s.End(*last)
	}
}

// Overdue notes in since, when that is zero, that something is waited for from now on, and reports whether that has lasted for Grace.
func Overdue(since *time.Time, now time.Time) bool {
	if since.IsZero() {
		*since = now
	}
	return now.Sub(*since) >= Grace
}
