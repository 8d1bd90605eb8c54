// Package spare gives memory that nothing uses back to the system while the process is quiet.
//
// The collector lets garbage grow to the size of what is live before it collects, and keeps what it freed for the next
// time. That is right under load. Afterwards, with 10,000 connections that were opened in a second and then stay silent for
// hours, it would leave the process twice as large as it has to be for all that time. What became garbage since the last
// collection without any allocation shows at the next one, which the runtime makes at least every two minutes.
package spare

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// every is how often the process is looked at. It is quiet when it allocated less than quietBytes in that time.
	every      = 2 * time.Second
	quietBytes = 2 << 20
	// smallBytes is what is not worth a collection, whatever the size of the heap.
	smallBytes = 256 << 10
)

// Run looks after the memory until ctx ends. A collection and the return of memory take a few milliseconds for each
// 100,000 live objects, mostly beside the rest of the process.
func Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	r := newReader()
	before := r.read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := r.read()
		if now.wasteful(before) {
			debug.FreeOSMemory()
			now = r.read()
		}
		before = now
	}
}

// state is what the runtime tells, in bytes.
type state struct {
	allocated uint64 // since the start
	objects   uint64 // live ones and garbage
	live      uint64 // what the last collection found
	free      uint64 // without objects, and not given back
}

// wasteful says whether it is time to collect and give back: the process was quiet since before, and more than a sixteenth of its
// heap is not in use.
func (s state) wasteful(before state) bool {
	garbage := max(s.objects, s.live) - s.live
	return s.allocated-before.allocated < quietBytes && garbage+s.free > s.live/16+smallBytes
}

type reader struct{ samples []metrics.Sample }

func newReader() *reader {
	r := &reader{}
	for _, name := range []string{"/gc/heap/allocs:bytes", "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/free:bytes"} {
		r.samples = append(r.samples, metrics.Sample{Name: name})
	}
	return r
}

func (r *reader) read() state {
	metrics.Read(r.samples)
	v := func(i int) uint64 { return r.samples[i].Value.Uint64() }
	return state{allocated: v(0), objects: v(1), live: v(2), free: v(3)}
}
