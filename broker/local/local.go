// Package local is the broker of a node that stands alone: it connects nothing, delivers nothing and never fails.
package local

import (
	"context"
	"slices"
	"sync"
	"time"

	"barrage/broker"
)

// Broker implements broker.Broker without any other node.
type Broker struct {
	since   time.Time
	handler broker.Handler

	calls sync.Mutex // held during a call of handler: they come one after the other

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // calls of handler that have not ended; grows only while closed is false
}

var _ broker.Broker = (*Broker)(nil)

// Open returns a Broker that is up. h may be nil.
func Open(h broker.Handler) *Broker {
	b := &Broker{since: time.Now(), handler: h}
	b.tell(func() { h.StateChanged(b.State()) })
	return b
}

// tell calls the handler from another goroutine, as a network broker would: the caller may hold locks that the handler
// takes.
func (b *Broker) tell(call func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.handler == nil {
		return
	}
	b.running.Go(func() {
		b.calls.Lock()
		defer b.calls.Unlock()
		call()
	})
}

// Publish drops payload: there is nobody else to hear it.
func (b *Broker) Publish(string, []byte) error { return nil }

// Subscribe confirms the channels soon.
func (b *Broker) Subscribe(channels ...string) {
	if channels = slices.Clone(channels); len(channels) > 0 {
		b.tell(func() { b.handler.Subscribed(channels) })
	}
}

// Unsubscribe does nothing.
func (b *Broker) Unsubscribe(...string) {}

// State says that everything is well.
func (b *Broker) State() broker.State {
	return broker.State{Up: true, Since: b.since, Detail: "This node stands alone; it has no broker."}
}

// Shared is false: no other node can be reached.
func (b *Broker) Shared() bool { return false }

// Close waits for handler calls under way; none follows.
func (b *Broker) Close(context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.running.Wait()
	return nil
}
