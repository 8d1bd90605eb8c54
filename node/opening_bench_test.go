//go:build unix

package node

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"barrage/broker"
	"barrage/broker/brokertest"
	"barrage/channel"
	"barrage/journal/memory"
	"barrage/proto"
)

// BenchmarkOpening is a room on three nodes that 900 people on each enter within a second: each asks at once who is there.
func BenchmarkOpening(b *testing.B) {
	const nodes, people = 3, 900
	crew := &crew{t: b, hub: brokertest.NewHub(1, brokertest.Faults{})}
	for i := range nodes {
		n, err := New(Options{
			Name: fmt.Sprint("n", i), Journal: memory.New(), Codecs: []channel.Codec{eventLines{}}, Writers: 1,
			OpenBroker: func(id string, h broker.Handler) (broker.Broker, error) { return crew.hub.Join(id, h), nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		crew.nodes = append(crew.nodes, n)
	}
	time.Sleep(100 * time.Millisecond)
	var questions, refused, worst int64
	var cpu time.Duration
	for b.Loop() {
		var answered, busy, slowest atomic.Int64
		before := spent()
		for i := range people {
			for _, n := range crew.nodes {
				n.Enter("room", proto.MemberInfo{User: fmt.Sprint("user", i), Client: fmt.Sprint(n.Name(), "-", i)}, false)
				asked := time.Now()
				n.Presence("room", func(_ proto.Roster, err *proto.Error) {
					if err != nil {
						busy.Add(1)
					}
					if took := int64(time.Since(asked)); took > slowest.Load() {
						slowest.Store(took)
					}
					answered.Add(1)
				})
			}
			time.Sleep(time.Millisecond)
		}
		for answered.Load() < nodes*people {
			time.Sleep(time.Millisecond)
		}
		cpu += spent() - before
		refused += busy.Load()
		worst = max(worst, slowest.Load())
		for _, n := range crew.nodes {
			for i := range people {
				n.Exit("room", fmt.Sprint(n.Name(), "-", i))
			}
		}
	}
	for _, n := range crew.nodes {
		questions += n.Stats().Rosters.Load()
		stop(b, n)
	}
	crew.hub.Close()
	b.ReportMetric(float64(questions)/float64(b.N), "questions/op")
	b.ReportMetric(float64(refused)/float64(b.N), "refused/op")
	b.ReportMetric(float64(cpu.Milliseconds())/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(worst)/1e6, "worst-ms")
}

// spent is the processor time that this program has used.
func spent() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
