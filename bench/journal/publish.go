package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"barrage/internal/load"
	"barrage/journal"
	"barrage/proto"
)

// crowd is a number of publishers.
type crowd struct {
	publishers, channels, size int
	warmup, duration           time.Duration
	// prefix of the channels' names, so that each cell begins with new ones.
	prefix string
}

// heard is what one publisher measured: how long each acknowledgement took, in µs. A histogram for each would not fit into the
// processor's caches, and cost more than publishing.
type heard struct {
	took []uint32
	err  error
}

// publishAll has all publishers publish until the time is up, and adds up what was acknowledged while measuring.
func publishAll(ctx context.Context, w *journal.Writer, c crowd) (cell, error) {
	from := time.Now().Add(c.warmup)
	to := from.Add(c.duration)
	all := make([]heard, c.publishers)
	var warm sync.Mutex
	var before journal.Stats // owner: warm
	timer := time.AfterFunc(c.warmup, func() {
		warm.Lock()
		defer warm.Unlock()
		before = w.Stats()
	})
	defer timer.Stop()
	var m meter
	end := m.start(c.warmup)
	var work sync.WaitGroup
	for i := range all {
		work.Go(func() { all[i].publish(ctx, w, c, i, from, to) })
	}
	work.Wait()
	after := w.Stats()
	warm.Lock()
	defer warm.Unlock()
	out := cell{Publishers: c.publishers, Channels: c.channels}
	var took load.Histogram
	var count int64
	for i := range all {
		if all[i].err != nil {
			return out, all[i].err
		}
		count += int64(len(all[i].took))
		for _, us := range all[i].took {
			took.Add(time.Duration(us) * time.Microsecond)
		}
	}
	out.CPUus = end(float64(count))
	out.PerSecond = float64(count) / c.duration.Seconds()
	out.P50 = float64(took.Quantile(0.5).Microseconds()) / 1000
	out.P99 = float64(took.Quantile(0.99).Microseconds()) / 1000
	out.Batch = float64(after.Messages-before.Messages) / float64(max(1, after.Batches-before.Batches))
	return out, nil
}

// publish is publisher number i: one message after the other, each when the last was acknowledged.
func (h *heard) publish(ctx context.Context, w *journal.Writer, c crowd, i int, from, to time.Time) {
	draft := journal.Draft{
		Channel: fmt.Sprint(c.prefix, i%c.channels), User: fmt.Sprint("user-", i), Client: fmt.Sprintf("client-%08d", i),
		Data: make([]byte, c.size),
	}
	for i := range draft.Data {
		draft.Data[i] = byte('a' + i%26)
	}
	acknowledged := make(chan error, 1)
	done := func(_ journal.Stored, _ proto.Epoch, err error) { acknowledged <- err }
	for begin := time.Now(); begin.Before(to) && ctx.Err() == nil; {
		if h.err = w.Publish(draft, done); h.err != nil {
			return
		}
		if h.err = <-acknowledged; h.err != nil {
			return
		}
		now := time.Now()
		if now.After(from) && now.Before(to) {
			h.took = append(h.took, uint32(now.Sub(begin).Microseconds()))
		}
		begin = now
	}
	h.err = ctx.Err()
}
