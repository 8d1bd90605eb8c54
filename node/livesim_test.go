package node_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"barrage/broker/brokertest"
	"barrage/proto"
	"barrage/session"
)

// In a live channel each reader gets the messages of each publisher at most once and in order; from its own node it gets every one,
// or is told how many it was not given; and once nothing is broken it gets all of every node. The journal is away all the time.
func TestLiveMessagesAreDeliveredAtMostOnceInOrder(t *testing.T) {
	from, to := seeds(t, 20)
	skips := uint64(0)
	for seed := from; seed < to && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { skips += simulateLive(t, seed) })
	}
	if skips == 0 && to > from+1 {
		t.Error("in none of these worlds a reader was too slow, so nothing was checked of that")
	}
}

// listening is one connection that follows a live channel and checks what it gets.
type listening struct {
	w    *world
	name string

	mu   sync.Mutex
	last map[string]int // by publisher, the number of its last message
	got  map[string]int
	lost uint64 // it was told of
}

func (l *listening) line(r proto.Reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.Message != nil:
		who, number, _ := strings.Cut(keyOf(r.Message.Data), "-")
		n, err := strconv.Atoi(number)
		if err != nil || r.Message.Offset != 0 {
			l.w.broken("%s got the message %.40s with offset %d", l.name, r.Message.Data, r.Message.Offset)
		}
		if n <= l.last[who] {
			l.w.broken("%s got message %d of %s after %d", l.name, n, who, l.last[who])
		}
		l.got[who]++
		l.last[who] = n
	case r.Skipped != nil:
		l.lost += r.Skipped.Count
	case r.Reset != nil, r.Error != nil:
		l.w.broken("%s was told %+v", l.name, r)
	}
}

// speaker publishes into a live channel on one node.
type speaker struct {
	sess   *session.Session
	name   string
	home   int
	number int
}

func (s *speaker) publish(padded int) {
	s.number++
	data := fmt.Sprintf(`"%s-%d|%s"`, s.name, s.number, padding[:padded])
	s.sess.Message(proto.AppendCommand(nil, proto.Command{Kind: proto.CommandPublish, Data: []byte(data)}))
}

// simulateLive returns how many messages readers were told they missed.
func simulateLive(t *testing.T, seed uint64) (skipped uint64) {
	w := newWorld(t, seed, 3)
	w.setAway(true)
	channel := []string{"live:a", "busy:a"}[w.int(2)]
	readers := map[int][]*listening{}
	for i := range 6 {
		l := &listening{w: w, name: "reader" + strconv.Itoa(i), last: map[string]int{}, got: map[string]int{}}
		stall := time.Duration(0)
		if w.int(3) == 0 {
			stall = 2 * time.Second
		}
		w.dial(w.nodes[i%3], l.name, channel, proto.JoinQuery{Echo: true}, stall, l.line, func() {})
		readers[i%3] = append(readers[i%3], l)
	}
	var speakers []*speaker
	for i := range 3 {
		s := &speaker{name: "speaker" + strconv.Itoa(i), home: w.int(3)}
		s.sess, _ = w.dial(w.nodes[s.home], s.name, channel, proto.JoinQuery{}, 0, func(proto.Reply) {}, func() {})
		speakers = append(speakers, s)
	}
	for range 60 {
		s := speakers[w.int(3)]
		switch w.int(6) {
		case 0:
			w.hub.SetFaults(brokertest.Faults{
				Lose: float64(w.int(4)) / 4, Repeat: float64(w.int(3)) / 4,
				Delay: w.upTo(300 * time.Millisecond), Reorder: float64(w.int(3)) / 2,
			})
		case 1:
			time.Sleep(w.upTo(500 * time.Millisecond))
		default:
			for range 1 + w.int(20) {
				s.publish(w.int(8) / 7 * w.int(40_000))
			}
		}
	}
	calm(w)
	settled := map[string]int{}
	for _, s := range speakers {
		settled[s.name] = s.number
		for range 5 {
			s.publish(0)
		}
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()
	skipped = checkLive(w, readers, speakers, settled)
	for i := range w.nodes {
		w.crash(i)
	}
	w.hub.Close()
	time.Sleep(10 * time.Second)
	for _, failure := range w.failed {
		t.Errorf("seed %d: %s", seed, failure)
	}
	return skipped
}

func checkLive(w *world, readers map[int][]*listening, speakers []*speaker, settled map[string]int) (skipped uint64) {
	for home, list := range readers {
		for _, l := range list {
			l.mu.Lock()
			owed, here := uint64(0), uint64(0)
			for _, s := range speakers {
				if l.last[s.name] != s.number {
					w.broken("%s last heard message %d of %s, which published %d", l.name, l.last[s.name], s.name, s.number)
				}
				if s.home == home {
					owed += uint64(s.number)
					here += uint64(l.got[s.name])
				}
				if n := s.number - settled[s.name]; l.lost == 0 && l.got[s.name] < n {
					w.broken("%s got %d messages of %s, of which %d were published when nothing was broken", l.name, l.got[s.name], s.name, n)
				}
			}
			if here+l.lost < owed {
				w.broken("%s got %d messages of its node and was told that it missed %d, but there were %d", l.name, here, l.lost, owed)
			}
			skipped += l.lost
			l.mu.Unlock()
		}
	}
	return skipped
}
