package journaltest

import (
	"sync"

	"barrage/journal"
	"barrage/proto"
)

func (s *suite) removeAll(channel string) {
	s.Helper()
	if err := s.j.Remove(s.ctx(), channel); err != nil {
		s.Fatalf("remove %q: %v", channel, err)
	}
}

func (s *suite) remove() {
	s.fill("a", 5)
	s.fill("a:1", 5)
	s.append(journal.Draft{Channel: "a", Key: "k"})
	s.removeAll("a")
	s.wantSpan("a", journal.Range{}, 0, 0, 6)
	s.wantSpan("a", journal.Range{From: 2}, 0, 0, 6)
	s.wantSpan("a", journal.Range{Backward: true}, 0, 0, 6)
	s.wantSpan("a:1", journal.Range{}, 1, 5, 5)
	if got := s.append(journal.Draft{Channel: "a", Key: "k"})[0]; got.Offset != 7 || got.Repeated {
		s.Errorf("a key whose message was removed must be new as offset 7, not %+v", got)
	}
	s.wantSpan("a", journal.Range{From: 2}, 7, 7, 7)
	s.removeAll("a")
	s.removeAll("a")
	s.wantSpan("a", journal.Range{}, 0, 0, 7)
	s.removeAll("no such channel")
	s.wantSpan("no such channel", journal.Range{}, 0, 0, 0)
	heads, err := s.j.Heads(s.ctx(), []string{"a"})
	if err != nil || heads.Offsets[0] != 7 {
		s.Errorf("removing must leave the head at 7, not %v, %v", heads.Offsets, err)
	}
}

func (s *suite) removeMany() {
	s.fill("a", 2500)
	s.trim(journal.Retention{Count: 2300})
	s.removeAll("a")
	s.wantSpan("a", journal.Range{}, 0, 0, 2500)
	s.fill("b", 1000) // as many as one step takes
	s.removeAll("b")
	s.wantSpan("b", journal.Range{}, 0, 0, 1000)
}

// removeConcurrent removes and trims again and again while a publisher appends: nothing may stop or go back, and a removal
// must take all that was acknowledged before it began.
func (s *suite) removeConcurrent() {
	const messages = 3000
	var work sync.WaitGroup
	var mu sync.Mutex
	var acknowledged proto.Offset
	appended := make(chan struct{})
	work.Go(func() {
		defer close(appended)
		for range messages / 50 {
			a, err := s.j.Append(s.ctx(), drafts("a", 50))
			if err != nil {
				s.Errorf("append during a removal: %v", err)
				return
			}
			mu.Lock()
			acknowledged = a.Stored[49].Offset
			mu.Unlock()
		}
	})
	over := func() bool {
		select {
		case <-appended:
			return true
		default:
			return false
		}
	}
	work.Go(func() {
		for !over() {
			if _, err := s.j.Trim(s.ctx(), journal.Policy{Default: journal.Retention{Count: 10}}); err != nil {
				s.Errorf("trim during a removal: %v", err)
				return
			}
		}
	})
	for !over() {
		mu.Lock()
		before := acknowledged
		mu.Unlock()
		s.removeAll("a")
		p := s.read("a", journal.Range{})
		if first, last := s.span(p, false); len(p.Messages) > 0 && (first <= before || last > p.Head) || p.Head < before {
			s.Fatalf("what was stored before a removal must be gone: up to %d, but %d to %d are there, with head %d", before, first, last, p.Head)
		}
	}
	work.Wait()
	s.removeAll("a")
	s.wantSpan("a", journal.Range{}, 0, 0, messages)
}
