package redis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"barrage/broker"
)

// side is one of the two things that must work in each partition.
type side int

const (
	publishing side = iota
	subscribed
)

func (s side) String() string {
	if s == publishing {
		return "publishing"
	}
	return "the subscription"
}

// errConnecting is the state of a side that has neither worked nor failed yet.
var errConnecting = errors.New("connecting")

// health joins what all partitions report into one State, and announces its changes.
type health struct {
	o      *Options
	target *target

	telling sync.Mutex // held while the handler hears a change: changes are announced in order

	mu        sync.Mutex
	parts     [][2]error // by partition and side; nil works
	now       broker.State
	announced bool // now.Up has been announced once
	closed    bool
}

func newHealth(o *Options, t *target) *health {
	h := &health{o: o, target: t, parts: make([][2]error, o.Partitions)}
	for i := range h.parts {
		h.parts[i] = [2]error{errConnecting, errConnecting}
	}
	h.now = broker.State{Since: time.Now(), Detail: fmt.Sprintf("Connecting to %s.", t)}
	return h
}

func (h *health) state() broker.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// close makes the state final. It waits for an announcement under way; none follows.
func (h *health) close() {
	h.telling.Lock()
	defer h.telling.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		h.now = broker.State{Since: time.Now(), Detail: "The broker is closed."}
	}
}

// report says that one side of a partition works (err is nil) or why it does not.
func (h *health) report(partition int, s side, err error) {
	h.telling.Lock()
	defer h.telling.Unlock()
	state, changed := h.set(partition, s, err)
	if !changed {
		return
	}
	if state.Up {
		h.o.Logger.Info("broker is up", "detail", state.Detail)
	} else {
		h.o.Logger.Warn("broker is down", "detail", state.Detail)
	}
	h.o.Handler.StateChanged(state)
}

// reportAll says the same of all partitions.
func (h *health) reportAll(err error) {
	for i := range h.parts {
		h.report(i, publishing, err)
		h.report(i, subscribed, err)
	}
}

func (h *health) set(partition int, s side, err error) (state broker.State, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return h.now, false
	}
	h.parts[partition][s] = err
	up, detail := h.judge()
	changed = up != h.now.Up || !h.announced && err != nil
	if up != h.now.Up {
		h.now.Since = time.Now()
	}
	h.announced = h.announced || changed
	h.now.Up, h.now.Detail = up, detail
	return h.now, changed
}

// judge derives the state from all parts. The caller holds mu.
func (h *health) judge() (up bool, detail string) {
	broken, failed := 0, error(nil)
	var where string
	for i, part := range h.parts {
		if part[publishing] == nil && part[subscribed] == nil {
			continue
		}
		broken++
		for s, err := range part {
			if err != nil && (failed == nil || errors.Is(failed, errConnecting)) {
				failed, where = err, side(s).String()
				if len(h.parts) > 1 {
					where += fmt.Sprintf(" of partition %d", i)
				}
			}
		}
	}
	switch {
	case broken == 0:
		return true, fmt.Sprintf("Connected to %s.", h.target)
	case errors.Is(failed, errConnecting):
		return false, fmt.Sprintf("Connecting to %s.", h.target)
	case len(h.parts) > 1:
		return false, fmt.Sprintf("%d of %d partitions of %s do not work: %s fails: %v.", broken, len(h.parts), h.target, where, failed)
	default:
		return false, fmt.Sprintf("%s does not work: %s fails: %v.", h.target, where, failed)
	}
}

// allDown says whether no partition works at all.
func (h *health) allDown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, part := range h.parts {
		if part[publishing] == nil || part[subscribed] == nil {
			return false
		}
	}
	return true
}

// backoff spaces attempts: a random part of a time that doubles with each failure.
type backoff struct {
	min, max time.Duration
	failures int
}

func (o *Options) backoff() *backoff { return &backoff{min: o.BackoffMin, max: o.BackoffMax} }

func (b *backoff) reset() { b.failures = 0 }

// next returns how long to wait now. It is never 0, so a failing loop never spins.
func (b *backoff) next() time.Duration {
	limit := b.max
	if b.failures < 30 {
		limit = min(limit, b.min<<b.failures)
	}
	b.failures++
	return 1 + rand.N(limit)
}
