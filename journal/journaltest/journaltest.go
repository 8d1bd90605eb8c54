// Package journaltest checks that a journal keeps what package journal promises. One suite for all implementations.
package journaltest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"barrage/journal"
	"barrage/proto"
)

// Store is a place for one journal, empty at first.
type Store struct {
	// Open opens the journal. Where Durable is set, it is called again after Close and must find everything; where
	// Shared is set, several journals of one Store may be open at once.
	Open func() (journal.Journal, error)
	// Durable says that the messages outlive Close.
	Durable bool
	// Shared is what Shared of its journals must say.
	Shared bool
}

// Run runs the suite. Every test has a Store of its own, made by create.
func Run(t *testing.T, create func(t *testing.T) Store) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"offsets count from 1 without gaps", (*suite).offsets},
		{"messages come back as they were", (*suite).content},
		{"what cannot be stored is refused and changes nothing", (*suite).refused},
		{"an ended context stores nothing", (*suite).ended},
		{"a large batch of many channels", (*suite).mixed},
		{"a repeated key is stored once", (*suite).keys},
		{"a key repeated within a batch is stored once", (*suite).folds},
		{"pages forward and backward", (*suite).pages},
		{"pages are bounded by bytes", (*suite).pageBytes},
		{"pages are bounded by number", (*suite).pageLimit},
		{"heads of many channels", (*suite).heads},
		{"names that look alike are different channels", (*suite).names},
		{"times do not decrease", (*suite).times},
		{"trimming by count", (*suite).trimCount},
		{"trimming by age", (*suite).trimAge},
		{"trimming many channels", (*suite).trimMany},
		{"trimming while appends go on", (*suite).trimConcurrent},
		{"trimming by namespace", (*suite).trimNamed},
		{"attributes come back as they were", (*suite).attributes},
		{"a repeated key keeps the first attributes", (*suite).attributesOfRepeated},
		{"removing a channel's history", (*suite).remove},
		{"removing much in steps", (*suite).removeMany},
		{"removing while appends go on", (*suite).removeConcurrent},
		{"appends of many goroutines", (*suite).concurrent},
		{"appends through the writer", (*suite).writer},
		{"closing and opening again", (*suite).reopen},
		{"epochs", (*suite).epochs},
		{"a closed journal says so", (*suite).closed},
		{"any history of calls agrees with the model", (*suite).model},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, create: create, store: create(t)}
			s.j = s.open()
			c.test(s)
		})
	}
}

// suite is one running test with an open journal.
type suite struct {
	*testing.T
	create func(t *testing.T) Store
	store  Store
	j      journal.Journal
}

// limit is how long any call of the suite may take.
const limit = time.Minute

func (s *suite) open() journal.Journal {
	s.Helper()
	return open(s.T, s.store)
}

func open(t *testing.T, store Store) journal.Journal {
	t.Helper()
	j, err := store.Open()
	if err != nil {
		t.Fatalf("the journal must open: %v", err)
	}
	t.Cleanup(func() { _ = j.Close() }) // a second Close is allowed
	return j
}

func (s *suite) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	s.Cleanup(cancel)
	return ctx
}

// append appends and fails the test when that fails.
func (s *suite) append(drafts ...journal.Draft) []journal.Stored {
	s.Helper()
	a, err := s.j.Append(s.ctx(), drafts)
	if err != nil {
		s.Fatalf("append of %d drafts: %v", len(drafts), err)
	}
	if len(a.Stored) != len(drafts) {
		s.Fatalf("append of %d drafts reports %d", len(drafts), len(a.Stored))
	}
	if a.Epoch == "" {
		s.Fatal("append must tell the epoch")
	}
	return a.Stored
}

// fill appends n messages 1..n in batches.
func (s *suite) fill(channel string, n int) {
	s.Helper()
	for at := 0; at < n; {
		var batch []journal.Draft
		for ; at < n && len(batch) < journal.MaxBatch; at++ {
			batch = append(batch, journal.Draft{Channel: channel, Data: number(at + 1)})
		}
		s.append(batch...)
	}
}

func number(n int) []byte { return fmt.Append(nil, n) }

func (s *suite) read(channel string, r journal.Range) journal.Page {
	s.Helper()
	p, err := s.j.Read(s.ctx(), channel, r)
	if err != nil {
		s.Fatalf("read of %q %+v: %v", channel, r, err)
	}
	if p.Epoch == "" {
		s.Fatal("a page must tell the epoch")
	}
	return p
}

func (s *suite) trim(p journal.Retention) int64 {
	s.Helper()
	n, err := s.j.Trim(s.ctx(), journal.Policy{Default: p})
	if err != nil {
		s.Fatalf("trim %+v: %v", p, err)
	}
	return n
}

// span returns the offsets of a page, after checking that they are consecutive in the right direction.
func (s *suite) span(p journal.Page, backward bool) (first, last proto.Offset) {
	s.Helper()
	if len(p.Messages) == 0 {
		return 0, 0
	}
	step := proto.Offset(1)
	if backward {
		step = ^proto.Offset(0)
	}
	for i := range p.Messages[1:] {
		if p.Messages[i+1].Offset != p.Messages[i].Offset+step {
			s.Fatalf("a page must have no gap, but %d follows %d", p.Messages[i+1].Offset, p.Messages[i].Offset)
		}
	}
	return p.Messages[0].Offset, p.Messages[len(p.Messages)-1].Offset
}

// wantSpan reads a page and compares the offsets it holds.
func (s *suite) wantSpan(channel string, r journal.Range, first, last, head proto.Offset) {
	s.Helper()
	p := s.read(channel, r)
	gotFirst, gotLast := s.span(p, r.Backward)
	if gotFirst != first || gotLast != last || p.Head != head {
		s.Errorf("a read of %q %+v must give %d to %d with head %d, not %d to %d with head %d",
			channel, r, first, last, head, gotFirst, gotLast, p.Head)
	}
}

func (s *suite) wantMessage(got proto.Message, at journal.Stored, d journal.Draft) {
	s.Helper()
	want := proto.Message{Offset: at.Offset, Time: at.Time, User: d.User, Client: d.Client, Attributes: d.Attributes}
	data := got.Data
	got.Data = nil
	if !reflect.DeepEqual(got, want) || !bytes.Equal(data, d.Data) {
		s.Errorf("the message must be %+v with data %q, not %+v with data %q", want, d.Data, got, data)
	}
}
