package journaltest

import (
	"fmt"
	"sync"
	"time"

	"barrage/journal"
	"barrage/proto"
)

func (s *suite) trimCount() {
	s.fill("a", 2500)
	s.fill("b", 5)
	s.append(journal.Draft{Channel: "c", Key: "k"}, journal.Draft{Channel: "c"})
	if n := s.trim(journal.Retention{}); n != 0 {
		s.Errorf("the zero policy must keep everything, but %d were removed", n)
	}
	if n := s.trim(journal.Retention{Count: 5}); n != 2495 {
		s.Errorf("keeping 5 of 2500 and of 5 must remove 2495, not %d", n)
	}
	s.wantSpan("a", journal.Range{}, 2496, 2500, 2500)
	s.wantSpan("b", journal.Range{}, 1, 5, 5)
	if got := s.append(journal.Draft{Channel: "c", Key: "k"})[0]; got.Offset != 1 || !got.Repeated {
		s.Errorf("a key must be known while its message is kept, not %+v", got)
	}
	s.trim(journal.Retention{Count: 1})
	s.wantSpan("c", journal.Range{}, 2, 2, 2)
	if got := s.append(journal.Draft{Channel: "c", Key: "k"})[0]; got.Offset != 3 || got.Repeated {
		s.Errorf("a key whose message was removed must be new as offset 3, not %+v", got)
	}
}

func (s *suite) trimAge() {
	s.fill("all", 1200)
	if n := s.trim(journal.Retention{Age: time.Hour}); n != 0 {
		s.Errorf("nothing is an hour old, but %d were removed", n)
	}
	last := s.append(journal.Draft{Channel: "all", Key: "k"})[0]
	s.waitFor("the clock to pass the last message by 5 ms", func() bool {
		at := s.append(journal.Draft{Channel: "clock"})[0].Time
		return at > last.Time+5
	})
	if n := s.trim(journal.Retention{Age: time.Millisecond}); n < 1201 {
		s.Errorf("everything in the channel is older than a millisecond, but only %d were removed", n)
	}
	s.wantSpan("all", journal.Range{}, 0, 0, 1201)
	heads, err := s.j.Heads(s.ctx(), []string{"all"})
	if err != nil || heads.Offsets[0] != 1201 {
		s.Errorf("trimming must leave the head at 1201, not %v, %v", heads.Offsets, err)
	}
	s.append(journal.Draft{Channel: "all"})
	s.wantSpan("all", journal.Range{}, 1202, 1202, 1202)
	if n := s.trim(journal.Retention{Age: time.Hour, Count: 10}); n > 0 && s.read("all", journal.Range{}).Messages == nil {
		s.Errorf("the younger message must stay")
	}
}

func (s *suite) trimMany() {
	const channels = 1500
	for range 2 {
		for at := 0; at < channels; {
			var batch []journal.Draft
			for ; at < channels && len(batch) < journal.MaxBatch; at++ {
				batch = append(batch, journal.Draft{Channel: fmt.Sprint("many ", at)})
			}
			s.append(batch...)
		}
	}
	s.fill("one", 1100)
	if n := s.trim(journal.Retention{Count: 1}); n != channels+1099 {
		s.Errorf("trimming to 1 must remove %d, not %d", channels+1099, n)
	}
	s.wantSpan("many 0", journal.Range{}, 2, 2, 2)
	s.wantSpan(fmt.Sprint("many ", channels-1), journal.Range{}, 2, 2, 2)
	s.wantSpan("one", journal.Range{}, 1100, 1100, 1100)
	if n := s.trim(journal.Retention{Count: 1}); n != 0 {
		s.Errorf("trimming again must remove nothing, not %d", n)
	}
}

// trimNamed trims channels of several namespaces and of none at once.
func (s *suite) trimNamed() {
	names := []string{"a:1", "a:2", "a:2:3", "b:1", "all:1", "other:1", "a", ":a", "none", `q"'{`, `q"'{:1`, "é:1", "A:1"}
	for _, name := range names {
		s.fill(name, 20)
	}
	p := journal.Policy{Default: journal.Retention{Count: 10}, Named: map[string]journal.Retention{
		"a": {Count: 3}, "b": {Count: 15}, "all": {}, "old": {Age: time.Hour}, `q"'{`: {Count: 4}, "é": {Count: 5},
	}}
	want := map[string]proto.Offset{"a:1": 3, "a:2": 3, "a:2:3": 3, "b:1": 15, "all:1": 20, `q"'{:1`: 4, "é:1": 5}
	sum := int64(0)
	for _, name := range names {
		if want[name] == 0 {
			want[name] = 10
		}
		sum += int64(20 - want[name])
	}
	if n, err := s.j.Trim(s.ctx(), p); err != nil || n != sum {
		s.Errorf("trimming by namespace must remove %d messages, not %d, %v", sum, n, err)
	}
	for _, name := range names {
		s.wantSpan(name, journal.Range{}, 21-want[name], 20, 20)
	}
	last := s.append(journal.Draft{Channel: "young:1"})[0]
	s.waitFor("the clock to pass the last message by 5 ms", func() bool {
		return s.append(journal.Draft{Channel: "clock:1"})[0].Time > last.Time+5
	})
	p = journal.Policy{Named: map[string]journal.Retention{"young": {Age: time.Millisecond}, "all": {Age: time.Hour}}}
	if n, err := s.j.Trim(s.ctx(), p); err != nil || n != 1 {
		s.Errorf("only the one old message of its namespace must go, not %d, %v", n, err)
	}
	s.wantSpan("young:1", journal.Range{}, 0, 0, 1)
	s.wantSpan("all:1", journal.Range{}, 1, 20, 20)
}

// trimConcurrent trims and appends at once, while a reader checks that nothing is missing in the middle.
func (s *suite) trimConcurrent() {
	const messages, keep = 4000, 100
	s.fill("a", 2000)
	var work sync.WaitGroup
	appended := make(chan struct{})
	work.Go(func() {
		defer close(appended)
		for sent := 2000; sent < messages; sent += 50 {
			if _, err := s.j.Append(s.ctx(), drafts("a", 50)); err != nil {
				s.Errorf("append during a trim: %v", err)
				return
			}
		}
	})
	until := func(f func() bool) {
		for more := true; more && f(); {
			select {
			case <-appended:
				more = false
			default:
			}
		}
	}
	work.Go(func() {
		until(func() bool {
			_, err := s.j.Trim(s.ctx(), journal.Policy{Default: journal.Retention{Count: keep}})
			if err != nil {
				s.Errorf("trim during appends: %v", err)
			}
			return err == nil
		})
	})
	work.Go(func() {
		var head proto.Offset
		until(func() bool {
			p, err := s.j.Read(s.ctx(), "a", journal.Range{Backward: true, Limit: keep})
			if err != nil || len(p.Messages) != keep || p.Messages[0].Offset != p.Head || p.Head < head ||
				p.Messages[keep-1].Offset != p.Head-keep+1 {
				s.Errorf("the last %d messages up to the head must always be there; a page of %d with head %d after %d, %v",
					keep, len(p.Messages), p.Head, head, err)
				return false
			}
			head = p.Head
			return true
		})
	})
	work.Wait()
	s.trim(journal.Retention{Count: keep})
	s.wantSpan("a", journal.Range{}, messages-keep+1, messages, messages)
}

func drafts(channel string, n int) []journal.Draft {
	d := make([]journal.Draft, n)
	for i := range d {
		d[i] = journal.Draft{Channel: channel, Data: number(i)}
	}
	return d
}

// waitFor calls f until it is true.
func (s *suite) waitFor(what string, f func() bool) {
	s.Helper()
	for deadline := time.Now().Add(limit); !f(); {
		if time.Now().After(deadline) {
			s.Fatalf("waited too long for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
