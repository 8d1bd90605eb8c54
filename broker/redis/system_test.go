//go:build system

package redis

import (
	"testing"
	"time"

	"barrage/broker"
	"barrage/broker/brokertest"
	"barrage/internal/testserver"
)

// quick are options that find failures soon.
func quick(h broker.Handler) Options {
	return Options{
		NodeID: "test", Handler: h,
		ProbeEvery: 100 * time.Millisecond, ProbeTimeout: time.Second,
		BackoffMin: 20 * time.Millisecond, BackoffMax: 300 * time.Millisecond,
	}
}

// joiner opens brokers at url.
func joiner(url string) func(*testing.T, broker.Handler) broker.Broker {
	return func(t *testing.T, h broker.Handler) broker.Broker {
		t.Helper()
		b, err := Open(url, quick(h))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// must fails the test when a step did not work.
func must(t *testing.T, steps ...func() error) {
	t.Helper()
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

func startRedis(t *testing.T) *testserver.Redis {
	t.Helper()
	r, err := testserver.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestSingleKeepsTheContract(t *testing.T) {
	r := startRedis(t)
	brokertest.Run(t, brokertest.Setup{
		Limit: 15 * time.Second, Join: joiner(r.URL()),
		Interrupt: func(t *testing.T) { must(t, r.Kill, r.Start) },
	})
}

func TestSinglePartitionsKeepTheContract(t *testing.T) {
	r := startRedis(t)
	brokertest.Run(t, brokertest.Setup{
		Limit: 15 * time.Second, Join: joiner(r.URL() + "/3?partitions=4&prefix=other"),
		Interrupt: func(t *testing.T) { must(t, r.Stop, r.Start) },
	})
}

func TestSentinelKeepsTheContract(t *testing.T) {
	s, err := testserver.StartRedisSentinel()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	brokertest.Run(t, brokertest.Setup{
		Limit: 30 * time.Second, Join: joiner(s.URL()),
		Interrupt: func(t *testing.T) {
			master, err := s.Master()
			if err != nil {
				t.Fatal(err)
			}
			must(t, master.Kill, func() error { return s.WaitMaster(master) })
		},
	})
}

func TestSentinelFailoverOnCommand(t *testing.T) {
	s, err := testserver.StartRedisSentinel()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	heard := brokertest.NewRecorder()
	a, b := open(t, s.URL(), brokertest.NewRecorder()), open(t, s.URL(), heard)
	b.Subscribe("room")
	awaitTraffic(t, a, heard, "before the failover")
	must(t, s.Failover)
	awaitTraffic(t, a, heard, "after the failover")
}

func TestClusterKeepsTheContract(t *testing.T) {
	c, err := testserver.StartRedisCluster()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	brokertest.Run(t, brokertest.Setup{
		Limit: 30 * time.Second, Join: joiner(c.URL()),
		Interrupt: func(t *testing.T) { must(t, c.Servers[1].Kill, c.Servers[1].Start, c.WaitReady) },
	})
}

func TestClusterSlotMoves(t *testing.T) {
	c, err := testserver.StartRedisCluster()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	heard := brokertest.NewRecorder()
	a, b := open(t, c.URL(), brokertest.NewRecorder()), open(t, c.URL(), heard)
	b.Subscribe("room")
	awaitTraffic(t, a, heard, "before the slot moved")
	confirmed := heard.Confirmed("room")
	from, slot, err := c.Owner(b.links[partitionOf("room", len(b.links))].prefix)
	if err != nil {
		t.Fatal(err)
	}
	must(t, func() error { return c.MoveSlot(slot, (from+1)%len(c.Servers)) })
	await(t, "the channel is confirmed again at its new server", func() bool { return heard.Confirmed("room") > confirmed })
	awaitTraffic(t, a, heard, "after the slot moved")
}

// open opens a broker that is closed at the end of the test.
func open(t *testing.T, url string, h broker.Handler) *Broker {
	t.Helper()
	b, err := Open(url, quick(h))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWithin(t, b, 3*time.Second) })
	return b
}

// awaitTraffic publishes until something arrives in "room".
func awaitTraffic(t *testing.T, from *Broker, heard *brokertest.Recorder, when string) {
	t.Helper()
	before := len(heard.Payloads("room"))
	await(t, "a payload arrives "+when, func() bool {
		_ = from.Publish("room", []byte("x"))
		return len(heard.Payloads("room")) > before
	})
}
