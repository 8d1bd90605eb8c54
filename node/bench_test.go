package node

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"barrage/broker"
	"barrage/broker/local"
	"barrage/channel"
	"barrage/fanout"
	"barrage/journal/memory"
	"barrage/proto"
)

// sink is a Socket that takes everything and counts it.
type sink struct{ writes *atomic.Int64 }

func (s sink) TryWrite(b []byte) (int, error) { s.writes.Add(1); return len(b), nil }
func (sink) ArmWrite()                        {}
func (sink) Finish()                          {}
func (sink) Abort(error)                      {}

// BenchmarkLiveRooms measures a publish into one of 1,000 live rooms of 10 members, from Publish until all members have it.
func BenchmarkLiveRooms(b *testing.B) {
	const rooms, members = 1000, 10
	n, err := New(Options{
		Name: "n", Journal: memory.New(), Codecs: []channel.Codec{plain{}, plain{}},
		Namespaces: channel.Namespaces{Named: map[string]channel.Namespace{"live": {Live: true}}},
		OpenBroker: func(_ string, h broker.Handler) (broker.Broker, error) { return local.Open(h), nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	defer stop(b, n)
	var writes atomic.Int64
	outlets := make([]fanout.Outlet, rooms*members)
	names := make([]string, rooms)
	for i := range outlets {
		names[i%rooms] = "live:" + strconv.Itoa(i%rooms)
		outlets[i].Init(n.Writers(), sink{&writes}, 0)
		n.Join(names[i%rooms], channel.JoinRequest{Outlet: &outlets[i], Format: i / rooms % 2, Ready: func(channel.Joined) bool { return true }})
	}
	data := []byte(`"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"`)
	done := func(Published, *proto.Error) {}
	b.ReportAllocs()
	i := 0
	start := n.Writers().Stats.Entries.Load()
	for b.Loop() {
		n.Publish(Publication{Channel: names[i%rooms], Client: "client", Data: data}, done)
		if i++; i%100 == 0 { // as many as may wait at 10,000 a second
			for n.Writers().Stats.Entries.Load()-start < int64(i-100)*members {
				runtime.Gosched()
			}
		}
	}
	for deadline := time.Now().Add(10 * time.Second); n.Writers().Stats.Entries.Load()-start < int64(i)*members; runtime.Gosched() {
		if time.Now().After(deadline) {
			b.Fatalf("%d messages of %d were delivered", n.Writers().Stats.Entries.Load()-start, i*members)
		}
	}
	b.ReportMetric(float64(writes.Load())/float64(i), "writes/publish")
	for i := range outlets {
		outlets[i].Close()
	}
}
