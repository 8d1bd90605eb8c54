//go:build system

package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/broker"
	"barrage/broker/brokertest"
	"barrage/internal/testserver"
)

func TestRedisComesLater(t *testing.T) {
	r := startRedis(t)
	must(t, r.Kill)
	heard := brokertest.NewRecorder()
	a, b := open(t, r.URL(), brokertest.NewRecorder()), open(t, r.URL(), heard)
	b.Subscribe("room")
	await(t, "the broker says that Redis is away", func() bool { return len(heard.States()) == 1 && !heard.State().Up })
	must(t, r.Start)
	await(t, "the broker says that Redis is there", func() bool { return heard.State().Up })
	awaitTraffic(t, a, heard, "although Redis came later")
}

func TestRestartConfirmsEveryChannelAgain(t *testing.T) {
	r := startRedis(t)
	heard := brokertest.NewRecorder()
	b := open(t, r.URL(), heard)
	var channels []string
	for i := range 3*chunkChannels + 1 {
		channels = append(channels, fmt.Sprint("room ", i))
	}
	b.Subscribe(channels...)
	confirmed := func(n int) func() bool {
		return func() bool {
			for _, c := range channels {
				if heard.Confirmed(c) != n {
					return false
				}
			}
			return heard.State().Up
		}
	}
	await(t, "every channel is confirmed once", confirmed(1))
	must(t, r.Kill, r.Start)
	await(t, "every channel is confirmed a second time", confirmed(2))
	b.Unsubscribe(channels[1:]...)
	await(t, "Redis forgets the channels given up", func() bool {
		out, err := r.Do("PUBSUB", "CHANNELS", DefaultPrefix+":{0}:*")
		return err == nil && out == DefaultPrefix+":{0}:"+channels[0]
	})
	if s := b.Stats(); s.Reconnects == 0 || s.Channels != 1 {
		t.Errorf("Stats counts reconnects and channels; got %+v", s)
	}
}

// detection is how long noticing a dead connection may take: ProbeTimeout of quick, and some time for a busy machine.
const detection = 4 * time.Second

func TestHalfOpenConnectionsAreFound(t *testing.T) {
	r := startRedis(t)
	proxy, err := testserver.StartProxy(r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	heard := brokertest.NewRecorder()
	a, b := open(t, r.URL(), brokertest.NewRecorder()), open(t, "redis://"+proxy.Addr(), heard)
	b.Subscribe("room")
	awaitTraffic(t, a, heard, "through the proxy")
	proxy.Blackhole(true)
	start := time.Now()
	await(t, "a connection that fell silent is found", func() bool { return !heard.State().Up })
	if took := time.Since(start); took > detection {
		t.Errorf("finding it took %s, want less than %s", took, detection)
	}
	proxy.Blackhole(false)
	await(t, "the connection is built again", func() bool { return heard.State().Up })
	awaitTraffic(t, a, heard, "after the silence")
	proxy.Cut()
	awaitTraffic(t, a, heard, "after the connections were cut")
	proxy.Blackhole(true)
	closeWithin(t, b, 2*time.Second)
}

func TestHungRedisFillsTheQueueAndIsCounted(t *testing.T) {
	r := startRedis(t)
	heard := brokertest.NewRecorder()
	o := quick(heard)
	o.QueuePayloads, o.QueueBytes = 1000, 1<<20
	b, err := Open(r.URL(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { closeWithin(t, b, 2*time.Second) }()
	await(t, "the broker comes up", func() bool { return heard.State().Up })
	must(t, r.Pause)
	var sent, full, down uint64
	await(t, "a hung Redis first fills the queue and then is found", func() bool {
		for range 100 {
			switch err := b.Publish("room", []byte("x")); {
			case err == nil:
				sent++
			case errors.Is(err, broker.ErrFull):
				full++
			case errors.Is(err, broker.ErrDown):
				down++
			}
		}
		return full > 0 && down > 0
	})
	await(t, "the handler hears of it", func() bool { return !heard.State().Up })
	must(t, r.Resume)
	await(t, "the broker comes up again", func() bool { return heard.State().Up })
	s := b.Stats()
	if s.DroppedFull != full || s.Published+s.DroppedFailed+s.DroppedDown != sent+down || s.Queued != 0 {
		t.Errorf("every payload is counted once: %d taken, %d full, %d down; Stats says %+v", sent, full, down, s)
	}
}

func TestWrongPasswordIsToldAndNotShown(t *testing.T) {
	r := startRedis(t)
	if _, err := r.Do("CONFIG", "SET", "requirepass", "right-word"); err != nil {
		t.Fatal(err)
	}
	heard := brokertest.NewRecorder()
	open(t, "redis://:wrong-word@"+r.Addr(), heard)
	await(t, "a wrong password is announced", func() bool { return strings.Contains(heard.State().Detail, "WRONGPASS") })
	if d := heard.State().Detail; strings.Contains(d, "wrong-word") {
		t.Errorf("the password is shown: %s", d)
	}
	open(t, "redis://:right-word@"+r.Addr(), heard)
	await(t, "the right password works", func() bool { return heard.State().Up })
}
