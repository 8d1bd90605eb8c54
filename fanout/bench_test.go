package fanout

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
)

// sink is a Socket that takes everything and counts it.
type sink struct{ taken *atomic.Int64 }

func (s sink) TryWrite(b []byte) (int, error) { s.taken.Add(int64(len(b))); return len(b), nil }
func (sink) ArmWrite()                        {}
func (sink) Finish()                          {}
func (sink) Abort(error)                      {}

// BenchmarkFanout measures a message from Append until every member was given it: batch messages at a time, as a room that
// is that busy has them waiting when the writers come round.
func BenchmarkFanout(b *testing.B) {
	for _, members := range []int{10, 1000, 10_000} {
		for _, batch := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("members=%d/batch=%d", members, batch), func(b *testing.B) {
				w := NewWriters(0)
				defer w.Close()
				var taken atomic.Int64
				feed := NewFeed(w, &history{}, 1)
				for range members {
					feed.Join(NewOutlet(w, sink{&taken}, 0), 1, 0)
				}
				f := frame(1, 0, 128)
				entries := make([]Entry, batch)
				for i := range entries {
					entries[i] = Entry{f, 0}
				}
				b.ReportAllocs()
				due := int64(0)
				for b.Loop() {
					feed.Append(entries...)
					due += int64(batch * members * len(f))
					for taken.Load() < due {
						runtime.Gosched()
					}
				}
				deliveries := float64(b.N) * float64(batch*members)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
				b.ReportMetric(float64(w.Stats.Writes.Load())/deliveries, "writes/delivery")
			})
		}
	}
}

// BenchmarkSeveralFeeds measures connections that are each in several busy feeds: what they are given goes in fewer writes than there
// are messages.
func BenchmarkSeveralFeeds(b *testing.B) {
	for _, feeds := range []int{1, 5} {
		b.Run(fmt.Sprintf("feeds=%d", feeds), func(b *testing.B) {
			const members = 1000
			w := NewWriters(0)
			defer w.Close()
			var taken atomic.Int64
			busy := make([]*Feed, feeds)
			for i := range busy {
				busy[i] = NewFeed(w, &history{}, 1)
			}
			for range members {
				out := NewOutlet(w, sink{&taken}, 0)
				for _, f := range busy {
					f.Join(out, 1, 0)
				}
			}
			f := frame(1, 0, 128)
			b.ReportAllocs()
			due := int64(0)
			for b.Loop() {
				for _, feed := range busy {
					feed.Append(Entry{f, 0})
				}
				due += int64(feeds * members * len(f))
				for taken.Load() < due {
					runtime.Gosched()
				}
			}
			deliveries := float64(b.N) * float64(feeds*members)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
			b.ReportMetric(float64(w.Stats.Writes.Load())/deliveries, "writes/delivery")
		})
	}
}

// stuck is a Socket that takes nothing.
type stuck struct{ sink }

func (stuck) TryWrite([]byte) (int, error) { return 0, nil }

// BenchmarkStalledMembers measures what it costs the others that 1 % of a room take nothing.
func BenchmarkStalledMembers(b *testing.B) {
	for _, stalled := range []int{0, 100} {
		b.Run(fmt.Sprintf("stalled=%d", stalled), func(b *testing.B) {
			const members = 10_000
			w := NewWriters(0)
			defer w.Close()
			var taken atomic.Int64
			feed := NewFeed(w, &history{oldest: 1 << 60}, 1)
			for i := range members {
				sock := Socket(sink{&taken})
				if i < stalled {
					sock = stuck{}
				}
				feed.Join(NewOutlet(w, sock, 0), 1, 0)
			}
			f := frame(1, 0, 128)
			due := int64(0)
			for b.Loop() {
				feed.Append(Entry{f, 0})
				due += int64((members - stalled) * len(f))
				for taken.Load() < due {
					runtime.Gosched()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(members-stalled), "ns/delivery")
		})
	}
}
