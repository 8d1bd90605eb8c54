package test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Account is the bookkeeping of one channel: what publishers were promised, and what each subscriber saw. Its methods
// may be called from any goroutine.
type Account struct {
	mu    sync.Mutex
	sent  map[string]int // key of a message to how often it was sent
	acked map[string]uint64
	seen  []*Seen
	wrong []string // what was wrong at the moment it happened
}

// NewAccount returns an empty account.
func NewAccount() *Account {
	return &Account{sent: map[string]int{}, acked: map[string]uint64{}}
}

// Sent notes that the message with this key is being published, perhaps again.
func (a *Account) Sent(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent[key]++
}

// Acked notes that the message was acknowledged at offset. A key may be acknowledged twice, at the same offset.
func (a *Account) Acked(key string, offset uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if before, ok := a.acked[key]; ok && before != offset {
		a.complain("%s was acknowledged at offset %d, and later at %d", key, before, offset)
	}
	if a.sent[key] == 0 {
		a.complain("%s was acknowledged and never sent", key)
	}
	a.acked[key] = offset
}

// Wrong notes something that must not happen.
func (a *Account) Wrong(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complain(format, args...)
}

func (a *Account) complain(format string, args ...any) {
	a.wrong = append(a.wrong, fmt.Sprintf(format, args...))
}

// Counts returns how many messages were sent and how many of them acknowledged.
func (a *Account) Counts() (sent, acked int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.sent), len(a.acked)
}

// Head returns the highest acknowledged offset.
func (a *Account) Head() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var head uint64
	for _, offset := range a.acked {
		head = max(head, offset)
	}
	return head
}

// Subscriber opens the book of one subscriber that has seen everything up to and including offset after.
func (a *Account) Subscriber(name string, after uint64) *Seen {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &Seen{account: a, name: name, after: after, next: after + 1}
	a.seen = append(a.seen, s)
	return s
}

// Seen is the book of one subscriber. It is written by that subscriber's goroutine alone, under the account's lock.
type Seen struct {
	account *Account
	name    string
	after   uint64
	next    uint64 // the offset that must come next
	keys    []string
	late    []Delay
}

// Delay tells how long after it was sent a message arrived.
type Delay struct {
	At   time.Time
	Late time.Duration
}

// Got notes one message, in the order of arrival. sent is when its publisher first sent it; zero when unknown.
func (s *Seen) Got(offset uint64, key string, sent time.Time) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	now := time.Now()
	switch {
	case offset == s.next:
		s.next++
		s.keys = append(s.keys, key)
		if !sent.IsZero() {
			s.late = append(s.late, Delay{At: now, Late: now.Sub(sent)})
		}
	case offset > s.next:
		s.account.complain("%s missed offsets %d to %d: after %d came %d (%s)", s.name, s.next, offset-1, s.next-1, offset, key)
		s.keys = append(s.keys, make([]string, offset-s.next)...)
		s.keys = append(s.keys, key)
		s.next = offset + 1
	default:
		s.account.complain("%s saw offset %d (%s) again or out of order: %d was due", s.name, offset, key, s.next)
	}
}

// Position is the last offset seen.
func (s *Seen) Position() uint64 {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	return s.next - 1
}

// Worst returns the longest delay among messages that arrived between from and to.
func (s *Seen) Worst(from, to time.Time) time.Duration {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	var worst time.Duration
	for _, d := range s.late {
		if !d.At.Before(from) && !d.At.After(to) {
			worst = max(worst, d.Late)
		}
	}
	return worst
}

// maxComplaints bounds the length of a report; the number of all findings is in its first line.
const maxComplaints = 25

// Check compares everything: each acknowledged message is at its offset at every subscriber, no message is there twice,
// nobody missed anything up to the highest acknowledged offset, and all saw the same. It returns nil or a report.
func (a *Account) Check() error {
	head := a.Head()
	a.mu.Lock()
	defer a.mu.Unlock()
	found := slices.Clone(a.wrong)
	at := map[uint64]string{} // by offset, from acknowledgements first
	for key, offset := range a.acked {
		if other, ok := at[offset]; ok {
			found = append(found, fmt.Sprintf("offset %d was acknowledged to both %s and %s", offset, other, key))
		}
		at[offset] = key
	}
	for _, s := range a.seen {
		found = append(found, s.check(a, at, head)...)
	}
	if len(found) == 0 {
		return nil
	}
	n := len(found)
	if n > maxComplaints {
		found = append(found[:maxComplaints], fmt.Sprintf("… and %d more", n-maxComplaints))
	}
	return errors.New(fmt.Sprintf("%d findings; %d messages sent, %d acknowledged, head %d, %d subscribers:\n  ",
		n, len(a.sent), len(a.acked), head, len(a.seen)) + strings.Join(found, "\n  "))
}

// check compares one book with what is known about each offset, and adds to that what it alone saw. The account's lock
// is held.
func (s *Seen) check(a *Account, at map[uint64]string, head uint64) (found []string) {
	if s.next <= head {
		found = append(found, fmt.Sprintf("%s saw nothing after offset %d, and %d was acknowledged", s.name, s.next-1, head))
	}
	where := map[string]uint64{}
	for i, key := range s.keys {
		offset := s.after + 1 + uint64(i)
		if key == "" {
			continue // missed; complained about when it happened
		}
		if a.sent[key] == 0 {
			found = append(found, fmt.Sprintf("%s saw %s at offset %d, which nobody sent", s.name, key, offset))
		}
		if first, ok := where[key]; ok {
			found = append(found, fmt.Sprintf("%s saw %s twice, at offsets %d and %d", s.name, key, first, offset))
		}
		where[key] = offset
		if known, ok := at[offset]; ok && known != key {
			found = append(found, fmt.Sprintf("%s saw %s at offset %d, others or the acknowledgement say %s", s.name, key, offset, known))
		}
		at[offset] = key
		if acked, ok := a.acked[key]; ok && acked != offset {
			found = append(found, fmt.Sprintf("%s saw %s at offset %d, it was acknowledged at %d", s.name, key, offset, acked))
		}
	}
	return found
}
