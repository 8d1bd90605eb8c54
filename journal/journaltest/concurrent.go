package journaltest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"barrage/journal"
	"barrage/proto"
)

func (s *suite) concurrent() {
	journals := []journal.Journal{s.j}
	if s.store.Shared {
		journals = append(journals, s.open(), s.open())
	}
	Contend(s.T, journals, Contention{Publishers: 4, Batches: 20})
}

// Contention says how hard Contend tries.
type Contention struct {
	// Publishers is the number of goroutines for each journal.
	Publishers int
	// Batches is how many batches each of them appends.
	Batches int
}

// Contend appends from many goroutines through several journals of one store to the same channels, each key from
// every journal, while a reader polls. It checks that no reader ever saw a gap, that the head was always that of the
// last message, and that every key was stored once. The store must be empty.
func Contend(t TB, journals []journal.Journal, c Contention) {
	t.Helper()
	channels := []string{"busy", "other", "third"}
	var work, reading sync.WaitGroup
	appended := make(chan struct{})
	counts := make([]map[proto.Offset]string, len(channels)) // whose key got which offset
	for i := range counts {
		counts[i] = map[proto.Offset]string{}
	}
	var mu sync.Mutex
	for n, j := range journals {
		for p := range c.Publishers {
			work.Go(func() {
				for b := range c.Batches {
					// The same keys come from every journal, and in another order of channels.
					batch, index := contended(channels, p, b, n)
					a, err := j.Append(context.Background(), batch)
					if err != nil {
						t.Errorf("append: %v", err)
						return
					}
					mu.Lock()
					for i, at := range a.Stored {
						key := batch[i].Key
						if was, ok := counts[index[i]][at.Offset]; ok && was != key {
							t.Errorf("offset %d of %s was given to keys %q and %q", at.Offset, batch[i].Channel, was, key)
						}
						counts[index[i]][at.Offset] = key
					}
					mu.Unlock()
				}
			})
		}
	}
	for i, name := range channels {
		reading.Go(func() { follow(t, journals[i%len(journals)], name, appended) })
	}
	work.Wait()
	close(appended)
	reading.Wait()
	for i, name := range channels {
		want := c.Publishers * c.Batches * keysPerBatch
		p, err := journals[0].Read(context.Background(), name, journal.Range{Backward: true, Limit: 1})
		if err != nil || int(p.Head) != want || len(counts[i]) != want {
			t.Errorf("%d different keys must give head %d in %s, not %d with %d offsets known, %v",
				want, want, name, p.Head, len(counts[i]), err)
		}
	}
}

const keysPerBatch = 4

// contended makes one batch with keys of every channel.
func contended(channels []string, publisher, batch, turn int) (drafts []journal.Draft, index []int) {
	for i := range channels {
		at := (i + turn) % len(channels)
		for k := range keysPerBatch {
			key := fmt.Sprintf("%d/%d/%d", publisher, batch, (k+turn)%keysPerBatch)
			drafts = append(drafts, journal.Draft{Channel: channels[at], Key: key, Data: []byte(key)})
			index = append(index, at)
		}
	}
	return drafts, index
}

// follow reads a channel as it grows, until appended is closed and everything was read.
func follow(t TB, j journal.Journal, name string, appended <-chan struct{}) {
	seen := proto.Offset(0)
	keys := map[string]bool{}
	for last := false; ; {
		p, err := j.Read(context.Background(), name, journal.Range{From: seen + 1})
		if err != nil {
			t.Errorf("read while others append: %v", err)
			return
		}
		for _, m := range p.Messages {
			if m.Offset != seen+1 {
				t.Errorf("a reader of %s must see %d next, not %d", name, seen+1, m.Offset)
				return
			}
			if keys[string(m.Data)] {
				t.Errorf("key %s of %s was stored twice", m.Data, name)
			}
			keys[string(m.Data)] = true
			seen = m.Offset
		}
		if len(p.Messages) < journal.MaxPage && p.Head != seen {
			t.Errorf("the head of %s must be that of the last message %d in the same snapshot, not %d", name, seen, p.Head)
			return
		}
		if last && len(p.Messages) == 0 {
			return
		}
		select {
		case <-appended:
			last = true
		default:
		}
	}
}

// TB is the part of testing.TB that Contend needs.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
}

func (s *suite) writer() {
	const publishers, each = 20, 30
	w := journal.NewWriter(s.j, journal.WriterOptions{})
	var work sync.WaitGroup
	for p := range publishers {
		work.Go(func() {
			name := fmt.Sprint("room ", p%3)
			offsets := make(chan proto.Offset, each)
			for i := range each {
				err := w.Publish(journal.Draft{Channel: name, Data: number(i)}, func(at journal.Stored, _ proto.Epoch, err error) {
					if err != nil {
						s.Errorf("publish: %v", err)
					}
					offsets <- at.Offset
				})
				if err != nil {
					s.Errorf("publish: %v", err)
					offsets <- 0
				}
			}
			last := proto.Offset(0)
			for range each {
				if at := <-offsets; at <= last {
					s.Errorf("one publisher's messages must keep their order, but offset %d follows %d", at, last)
				} else {
					last = at
				}
			}
		})
	}
	work.Wait()
	if err := w.Close(s.ctx()); err != nil {
		s.Error(err)
	}
	for i, head := range []proto.Offset{7 * each, 7 * each, 6 * each} {
		s.wantSpan(fmt.Sprint("room ", i), journal.Range{}, 1, head, head)
	}
}

func (s *suite) reopen() {
	if s.j.Shared() != s.store.Shared {
		s.Errorf("Shared must be %v", s.store.Shared)
	}
	first := s.append(journal.Draft{Channel: "a", Key: "k", User: "u", Data: []byte("1")}, journal.Draft{Channel: "a"})
	epoch := s.read("a", journal.Range{}).Epoch
	if err := s.j.Close(); err != nil {
		s.Fatalf("close: %v", err)
	}
	if !s.store.Durable {
		return
	}
	s.j = s.open()
	p := s.read("a", journal.Range{})
	if p.Epoch != epoch || p.Head != 2 || len(p.Messages) != 2 {
		s.Fatalf("a journal opened again must have epoch %s and 2 messages, not %s and %d", epoch, p.Epoch, len(p.Messages))
	}
	s.wantMessage(p.Messages[0], first[0], journal.Draft{User: "u", Data: []byte("1")})
	got := s.append(journal.Draft{Channel: "a", Key: "k"}, journal.Draft{Channel: "a"})
	if !got[0].Repeated || got[0].Offset != 1 || got[1].Offset != 3 {
		s.Errorf("a journal opened again must know its keys and go on with 3, not %+v", got)
	}
}

func (s *suite) epochs() {
	a, err := s.j.Append(s.ctx(), []journal.Draft{{Channel: "a"}})
	if err != nil {
		s.Fatal(err)
	}
	heads, err := s.j.Heads(s.ctx(), []string{"a"})
	if err != nil {
		s.Fatal(err)
	}
	page := s.read("a", journal.Range{})
	none := s.read("never written", journal.Range{})
	if a.Epoch == "" || a.Epoch != heads.Epoch || a.Epoch != page.Epoch || a.Epoch != none.Epoch {
		s.Errorf("all answers must have one epoch, not %q, %q, %q, %q", a.Epoch, heads.Epoch, page.Epoch, none.Epoch)
	}
	other := open(s.T, s.create(s.T))
	p, err := other.Read(s.ctx(), "a", journal.Range{})
	if err != nil {
		s.Fatal(err)
	}
	if p.Epoch == a.Epoch {
		s.Errorf("another journal must have another epoch than %q", p.Epoch)
	}
}

func (s *suite) closed() {
	s.append(journal.Draft{Channel: "a"})
	if err := s.j.Close(); err != nil {
		s.Fatalf("close: %v", err)
	}
	if err := s.j.Close(); err != nil {
		s.Errorf("a second close must do nothing, not %v", err)
	}
	_, appendErr := s.j.Append(s.ctx(), []journal.Draft{{Channel: "a"}})
	_, readErr := s.j.Read(s.ctx(), "a", journal.Range{})
	_, headsErr := s.j.Heads(s.ctx(), []string{"a"})
	_, trimErr := s.j.Trim(s.ctx(), journal.Policy{Default: journal.Retention{Count: 1}})
	removeErr := s.j.Remove(s.ctx(), "a")
	for what, err := range map[string]error{"append": appendErr, "read": readErr, "heads": headsErr, "trim": trimErr, "remove": removeErr} {
		if !errors.Is(err, journal.ErrClosed) {
			s.Errorf("%s on a closed journal must fail with ErrClosed, not %v", what, err)
		}
	}
}
