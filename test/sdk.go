package test

import (
	"fmt"
	"slices"
	"sync"
)

// Ledger is the bookkeeping of a channel whose publishers are told that their message was stored, but not where: those of the
// Centrifuge protocol. Its methods may be called from any goroutine.
type Ledger struct {
	mu    sync.Mutex
	acked map[string]bool
	at    map[uint64]string // by offset, as the first who saw it said
	seen  map[string]uint64 // by subscriber: the last offset
	codes map[string]int    // how often a subscriber was told what
	wrong []string
}

// NewLedger returns an empty ledger. All of its subscribers see the channel from its first message on.
func NewLedger() *Ledger {
	return &Ledger{acked: map[string]bool{}, at: map[uint64]string{}, seen: map[string]uint64{}, codes: map[string]int{}}
}

// Acked notes that the message with this key was stored.
func (l *Ledger) Acked(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[key] = true
}

// Event notes something that a client was told, such as "disconnected 3010".
func (l *Ledger) Event(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.codes[event]++
}

// Events is how often a client was told something.
func (l *Ledger) Events(event string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.codes[event]
}

// Subscribed opens the page of a subscriber, once or again.
func (l *Ledger) Subscribed(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[name] += 0
}

// Got notes a message in the order of arrival.
func (l *Ledger) Got(name string, offset uint64, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if due := l.seen[name] + 1; offset != due {
		l.wrong = append(l.wrong, fmt.Sprintf("%s was given offset %d (%s) where %d was due", name, offset, key, due))
	}
	if first, ok := l.at[offset]; ok && first != key {
		l.wrong = append(l.wrong, fmt.Sprintf("offset %d is %s for %s and %s for others", offset, key, name, first))
	}
	l.at[offset] = key
	l.seen[name] = max(offset, l.seen[name])
}

// Counts returns how many messages were acknowledged, how many subscribers there are, and how many of them have seen all that any
// has.
func (l *Ledger) Counts() (acked, subscribers, complete int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.seen {
		if at == uint64(len(l.at)) {
			complete++
		}
	}
	return len(l.acked), len(l.seen), complete
}

// Check returns what is wrong: every acknowledged message must have been seen, once, by every subscriber, all in one order without
// gaps.
func (l *Ledger) Check() (wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wrong = slices.Clone(l.wrong)
	stored := map[string]uint64{}
	for offset := uint64(1); offset <= uint64(len(l.at)); offset++ {
		key, ok := l.at[offset]
		if before, twice := stored[key]; ok && twice {
			wrong = append(wrong, fmt.Sprintf("%s was stored twice, at %d and %d", key, before, offset))
		}
		stored[key] = offset
	}
	for key := range l.acked {
		if stored[key] == 0 {
			wrong = append(wrong, fmt.Sprintf("%s was acknowledged and nobody saw it", key))
		}
	}
	for name, at := range l.seen {
		if at != uint64(len(l.at)) {
			wrong = append(wrong, fmt.Sprintf("%s saw messages up to %d of %d", name, at, len(l.at)))
		}
	}
	return wrong
}

// order is what the channel holds, as its subscribers saw it.
func (l *Ledger) order() (keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for offset := uint64(1); offset <= uint64(len(l.at)); offset++ {
		keys = append(keys, l.at[offset])
	}
	return keys
}
