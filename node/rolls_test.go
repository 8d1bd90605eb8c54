package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"barrage/proto"
)

func TestWhoTakesLongToHearARosterHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 2, PresenceOptions{})
		enter(c.nodes[0], "room", "alice", "a1")
		for range 20 {
			c.nodes[0].Presence("room", func(proto.Roster, *proto.Error) { time.Sleep(time.Second) })
		}
		time.Sleep(12 * time.Second)
		for _, n := range c.nodes {
			if got := len(n.Cluster()); got != 2 {
				t.Errorf("while 20 answers take 20 s all nodes stay alive, but %s knows %d", n.Name(), got)
			}
		}
		if r := rosterOf(t, c.nodes[1], "room"); clientsOf(r) != "a1" || len(r.Missing) > 0 {
			t.Errorf("and others are answered, but got %+v", r)
		}
		time.Sleep(20 * time.Second)
		c.stop()
	})
}

func TestQuestionsForRostersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 1, PresenceOptions{})
		goOn := make(chan bool)
		for i := range maxRollsUnderWay {
			c.nodes[0].Presence(fmt.Sprint(i), func(proto.Roster, *proto.Error) { <-goOn })
			if i%64 == 0 {
				synctest.Wait()
			}
		}
		var refused *proto.Error
		c.nodes[0].Presence("another", func(_ proto.Roster, err *proto.Error) { refused = err })
		if !errors.Is(refused, proto.ErrTooMany) {
			t.Errorf("more than %d questions under way are refused, but got %v", maxRollsUnderWay, refused)
		}
		close(goOn)
		synctest.Wait()
		if r := rosterOf(t, c.nodes[0], "another"); r.Clients != 0 {
			t.Errorf("when they have ended there is room again, but got %+v", r)
		}
		c.stop()
	})
}

func TestRostersThatWereAskedForAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 2, PresenceOptions{})
		for range 2 {
			for i := range 100 {
				rosterOf(t, c.nodes[0], fmt.Sprint("room", i))
			}
			time.Sleep(2 * time.Second)
			n := &c.nodes[0].rolls
			n.mu.Lock()
			if len(n.calls) != 0 {
				t.Errorf("2 s after rosters were asked for none is kept, but %d are", len(n.calls))
			}
			n.mu.Unlock()
		}
		c.stop()
	})
}

func TestARosterHasABoundInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 3, PresenceOptions{})
		info, _ := json.Marshal(string(bytes.Repeat([]byte("<"), 500))) // each becomes 6 bytes
		for i := range 600 {
			c.nodes[i%3].Enter("room", proto.MemberInfo{Client: fmt.Sprint("c", i), Info: info}, false)
		}
		r := rosterOf(t, c.nodes[0], "room")
		b, err := json.Marshal(r.Members)
		if err != nil || len(b) > maxRosterBytes+1 || len(b) < maxRosterBytes/2 || !r.Sampled || r.Clients != 600 {
			t.Errorf("600 members with 3,000 bytes each are sampled to at most %d bytes and counted, but got %d bytes of %d members, sampled %v, %v", maxRosterBytes, len(b), r.Clients, r.Sampled, err)
		}
		c.stop()
	})
}

func TestPayloadsThatCannotBeReadAreOneWarningASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 1, PresenceOptions{})
		n := c.nodes[0]
		var log bytes.Buffer
		n.log = slog.New(slog.NewTextHandler(&log, nil))
		for range 30 {
			n.Receive("room", []byte("of another version"))
			time.Sleep(100 * time.Millisecond)
		}
		if lines := bytes.Count(log.Bytes(), []byte("level=WARN")); lines != 3 || n.Stats().BrokerBad.Load() != 30 {
			t.Errorf("30 payloads in 3 s are 3 warnings, but %d, and counted, but %d", lines, n.Stats().BrokerBad.Load())
		}
		c.stop()
	})
}

func TestARoomThatManyEnterIsAskedForTenTimesASecond(t *testing.T) {
	for _, crash := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := enlist(t, 2, PresenceOptions{})
			limit := rollEvery
			if crash {
				c.hub.Crash(c.nodes[1].ID())
				limit += time.Second // for an answer without the node that is missing
			}
			n := c.nodes[0]
			for i := range 900 {
				client := fmt.Sprint("c", i)
				enter(n, "room", "", client)
				began := time.Now()
				n.Presence("room", func(r proto.Roster, err *proto.Error) {
					found := slices.ContainsFunc(r.Members, func(m proto.MemberInfo) bool { return m.Client == client })
					if took := time.Since(began); err != nil || !found || took > limit {
						t.Errorf("who has just entered finds itself within %v, but %s did: %v, after %v, %v", limit, client, found, took, err)
					}
				})
				time.Sleep(time.Millisecond)
			}
			time.Sleep(2 * time.Second)
			if asked := n.Stats().Rosters.Load(); asked > 10 {
				t.Errorf("900 who enter within 0.9 s and ask cost at most 10 questions, but they cost %d", asked)
			}
			n.Exit("room", "c0")
			if r := rosterOf(t, n, "room"); r.Clients != 899 {
				t.Errorf("who asks later has what is true then, but %d are in the room", r.Clients)
			}
			synctest.Wait()
			n.rolls.mu.Lock()
			u := n.rolls.underWay
			n.rolls.mu.Unlock()
			if u != 0 {
				t.Errorf("no question is under way when all are answered, but %d are", u)
			}
			c.stop()
		})
	}
}
