package brokertest

import (
	"slices"
	"sync"
	"time"

	"barrage/broker"
)

// Recorder is a broker.Handler that writes down what it hears. Its methods may be called from any goroutine.
type Recorder struct {
	mu        sync.Mutex
	payloads  map[string][]string
	confirmed map[string]int
	states    []broker.State
}

// NewRecorder returns a Recorder that has heard nothing.
func NewRecorder() *Recorder {
	return &Recorder{payloads: map[string][]string{}, confirmed: map[string]int{}}
}

// Receive implements broker.Handler.
func (r *Recorder) Receive(channel string, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.payloads[channel] = append(r.payloads[channel], string(payload))
}

// Subscribed implements broker.Handler.
func (r *Recorder) Subscribed(channels []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range channels {
		r.confirmed[c]++
	}
}

// StateChanged implements broker.Handler.
func (r *Recorder) StateChanged(s broker.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = append(r.states, s)
}

// Payloads returns what was received in channel so far, in order.
func (r *Recorder) Payloads(channel string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.payloads[channel])
}

// Channels returns how many channels payloads came from.
func (r *Recorder) Channels() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.payloads)
}

// Confirmed returns how often channel was named by Subscribed.
func (r *Recorder) Confirmed(channel string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.confirmed[channel]
}

// States returns all states that were announced.
func (r *Recorder) States() []broker.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.states)
}

// State returns the state announced last; the zero State when none was.
func (r *Recorder) State() broker.State {
	if s := r.States(); len(s) > 0 {
		return s[len(s)-1]
	}
	return broker.State{}
}

// waitFor asks ok again and again until it is true or the limit has passed.
func waitFor(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
