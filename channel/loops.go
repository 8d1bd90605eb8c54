package channel

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"barrage/journal"
	"barrage/proto"
)

// open reads where the journal stands, again and again until it answers or the channel is not needed any more.
func (h *Hub) open(c *Channel) {
	h.stats.Opens.Add(1)
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		page, err := h.read(c, journal.Range{Backward: true, Limit: tailMessages, MaxBytes: tailBytes})
		if err == nil {
			slices.Reverse(page.Messages)
			c.open(page)
			return
		}
		h.log.Debug("opening a channel failed", "channel", c.name, "error", err)
		if !h.sleep(pause/2 + rand.N(pause/2)) {
			return
		}
		c.mu.Lock()
		gone := c.gone
		c.mu.Unlock()
		if gone {
			return
		}
	}
}

// fetch reads what a channel misses. Each channel has at most one fetch under way.
func (h *Hub) fetch(c *Channel, from proto.Offset) {
	h.wg.Go(func() {
		page, err := h.read(c, journal.Range{From: from})
		if err != nil {
			h.log.Debug("repairing a channel failed", "channel", c.name, "from", from, "error", err)
		}
		c.fetched(page, err)
	})
}

// read reads a page of c when there is a place.
func (h *Hub) read(c *Channel, r journal.Range) (journal.Page, error) {
	select {
	case h.reads <- struct{}{}:
		defer func() { <-h.reads }()
	case <-h.ctx.Done():
		return journal.Page{}, h.ctx.Err()
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.readTimeout)
	defer cancel()
	return h.store.Read(ctx, c.name, r)
}

// sleep reports false when the hub is closed before d is over.
func (h *Hub) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.ctx.Done():
		return false
	}
}

// sweepLoop retires channels without members.
func (h *Hub) sweepLoop() {
	for h.sleep(time.Second) {
		now := h.now()
		var idle []string
		for _, c := range h.all() {
			if c.sweep(now, h.patience, h.linger) {
				idle = append(idle, c.name)
			}
		}
		h.retire(idle)
	}
}

func (h *Hub) all() []*Channel {
	h.mu.Lock()
	defer h.mu.Unlock()
	cs := make([]*Channel, 0, len(h.channels))
	for _, c := range h.channels {
		cs = append(cs, c)
	}
	return cs
}

func (h *Hub) retire(names []string) {
	lives := map[uint64]bool{}
	h.mu.Lock()
	for _, name := range names {
		if c := h.channels[name]; c != nil && c.retire() {
			delete(h.channels, name)
			lives[c.life.Load()] = true
			h.subscriber.Unsubscribe(name)
		}
	}
	h.mu.Unlock()
	h.pages.forget(lives)
}

// checkLoop compares heads with the journal: of suspects at once, of all channels at intervals.
func (h *Hub) checkLoop() {
	last := h.now()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.wake:
		case <-time.After(h.untilAudit(last)):
		}
		if h.untilAudit(last) <= 0 {
			last = h.now()
			h.checkAll()
		}
		for names := h.takeSuspects(); len(names) > 0; names = h.takeSuspects() {
			if err := h.compare(names); err != nil {
				h.log.Debug("comparing heads failed", "channels", len(names), "error", err)
				if !h.sleep(minRetry + rand.N(maxRetry)) {
					return
				}
				h.Check(names...)
				break
			}
		}
	}
}

func (h *Hub) untilAudit(last time.Time) time.Duration {
	every := h.audit[0]
	if h.up.Load() {
		every = h.audit[1]
	}
	return last.Add(every).Sub(h.now())
}

// headsPerCall bounds one comparison.
const headsPerCall = 1000

func (h *Hub) takeSuspects() (names []string) {
	h.suspectMu.Lock()
	defer h.suspectMu.Unlock()
	for name := range h.suspects {
		if len(names) == headsPerCall {
			break
		}
		names = append(names, name)
		delete(h.suspects, name)
	}
	return names
}

func (h *Hub) compare(names []string) error {
	ctx, cancel := context.WithTimeout(h.ctx, h.readTimeout)
	defer cancel()
	h.stats.Checks.Add(1)
	before := make([]proto.Position, len(names))
	for i, name := range names {
		if c := h.lookup(name); c != nil {
			before[i] = c.position()
		}
	}
	heads, err := h.store.Heads(ctx, names)
	if err != nil {
		return err
	}
	for i, name := range names {
		if c := h.lookup(name); c != nil {
			c.headChecked(proto.Position{Epoch: heads.Epoch, Offset: heads.Offsets[i]}, before[i])
		}
	}
	return nil
}
