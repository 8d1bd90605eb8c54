package cluster

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"barrage/broker/brokertest"
)

// diary is a log that can be counted in.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, string(b))
	return len(b), nil
}

func (d *diary) count(text string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range d.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// bootAs starts a node with a name that others may have too. It answers with its id.
func bootAs(hub *brokertest.Hub, id, name string) (*Cluster, *diary) {
	d := &diary{}
	c := New(Options{ID: id, Name: name, Log: slog.New(slog.NewTextHandler(d, nil))})
	c.Handle("who", func(Request) ([]byte, error) { return []byte(id), nil })
	c.Start(hub.Join(id, handler{c}))
	return c, d
}

func ids(c *Cluster) string {
	var list []string
	for _, n := range c.Nodes() {
		list = append(list, n.ID)
	}
	return strings.Join(list, " ")
}

func closeAll(hub *brokertest.Hub, nodes ...*Cluster) {
	for _, c := range nodes {
		c.Close()
	}
	hub.Close()
}

const (
	startedAgain = "another node was started again"
	sameName     = "two live nodes have the same name"
	isAlive      = "that was taken for replaced"
)

func TestANodeThatIsStartedAgainReplacesItsOldSelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		a, log := bootAs(hub, "a1", "a")
		b, _ := bootAs(hub, "b1", "b")
		c, _ := bootAs(hub, "c1", "c")
		time.Sleep(3 * time.Second)
		hub.Crash("b1")
		early := make(chan Answers, 1)
		if err := a.Ask(Query{Kind: "who", Done: func(a Answers) { early <- a }}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		b2, _ := bootAs(hub, "b2", "b")
		synctest.Wait()
		began := time.Now()
		if p, m := said(t, a, Query{Kind: "who"}); p != "a1 b2 c1" || m != "" || time.Since(began) > proofTime {
			t.Errorf("who asks at once does not wait long for the old node and does not miss it, but %q answered, missing are %q after %v", p, m, time.Since(began))
		}
		if got := <-early; len(got.List) != 2 || fmt.Sprint(got.Missing) != "[b]" {
			t.Errorf("a question that was put to the old node alone misses it, but got %+v", got)
		}
		for _, n := range []*Cluster{a, b2, c} {
			began = time.Now()
			if p, m := said(t, n, Query{Kind: "who"}); p != "a1 b2 c1" || m != "" || time.Since(began) > 0 {
				t.Errorf("then nobody waits for the old node, but %q answered and %q are missing after %v", p, m, time.Since(began))
			}
		}
		if got := ids(a) + "|" + ids(c); got != "a1 b2 c1|a1 b2 c1" {
			t.Errorf("the old node is not among the nodes, but they are %s", got)
		}
		time.Sleep(time.Minute)
		if got := ids(a); got != "a1 b2 c1" || log.count(startedAgain) != 1 || log.count(sameName)+log.count(isAlive) != 0 {
			t.Errorf("it is said once, but the nodes are %s and the log is %q", got, log.lines)
		}
		closeAll(hub, a, b, b2, c)
	})
}

func TestWhatUsersUsedOnANodeThatIsStartedAgainDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		_, here, endHere := bootUsage(hub, "a")
		_, dying, endDying := bootUsage(hub, "b")
		for range 3 {
			dying.Connected("ann")
		}
		time.Sleep(2500 * time.Millisecond)
		hub.Crash("id-b")
		b2, _ := bootAs(hub, "id-b2", "b")
		time.Sleep(proofTime + 10*time.Millisecond)
		if n := here.Connections("ann"); n != 0 {
			t.Errorf("the connections of a node that was started again are gone, but %d count", n)
		}
		endHere()
		endDying()
		closeAll(hub, b2)
	})
}

// Two nodes that were given one name by mistake, started together or one after the other.
func TestLiveNodesWithOneNameDoNotReplaceEachOther(t *testing.T) {
	for _, apart := range []time.Duration{0, time.Millisecond, 700 * time.Millisecond, 90 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			hub := brokertest.NewHub(1, brokertest.Faults{Delay: 50 * time.Millisecond, Reorder: 0.5, Repeat: 0.3})
			a, log := bootAs(hub, "a1", "a")
			b, logOfB := bootAs(hub, "b1", "b")
			time.Sleep(apart)
			b2, logOfB2 := bootAs(hub, "b2", "b")
			time.Sleep(100 * time.Millisecond)
			for range 600 {
				time.Sleep(100 * time.Millisecond)
				if got := ids(a) + "|" + ids(b) + "|" + ids(b2); got != "a1 b1 b2|a1 b1 b2|a1 b1 b2" {
					t.Fatalf("started %v apart, two nodes with one name are both there all the time, but the nodes are %s: %q", apart, got, log.lines)
				}
			}
			if p, m := said(t, a, Query{Kind: "who"}); p != "a1 b1 b2" || m != "" {
				t.Errorf("both answer, but %q did and %q are missing", p, m)
			}
			for _, d := range []*diary{log, logOfB, logOfB2} {
				if d.count(startedAgain)+d.count(isAlive) != 0 || d.count(sameName) > 1 || d != log && d.count(sameName) == 0 {
					t.Errorf("both say once that they have one name, but one log is %q", d.lines)
				}
			}
			closeAll(hub, a, b, b2)
		})
	}
}

func TestALossyBrokerDoesNotMakeNodesWithOneNameTakeTurns(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			hub := brokertest.NewHub(seed, brokertest.Faults{Lose: 0.3, Delay: 200 * time.Millisecond, Reorder: 0.5, Repeat: 0.3})
			a, log := bootAs(hub, "a1", "a")
			b, _ := bootAs(hub, "b1", "b")
			time.Sleep(10 * time.Second)
			b2, _ := bootAs(hub, "b2", "b")
			time.Sleep(3 * time.Minute)
			if n := log.count(startedAgain); n > 2 || n > log.count(isAlive) {
				t.Errorf("seed %d: a live node is taken for replaced at most while the new one is young, but it was %d times: %q", seed, n, log.lines)
			}
			hub.SetFaults(brokertest.Faults{})
			time.Sleep(3 * time.Second)
			if got := ids(a); got != "a1 b1 b2" {
				t.Errorf("seed %d: both are there in the end, but the nodes are %s", seed, got)
			}
			closeAll(hub, a, b, b2)
		})
	}
}

// Somebody starts another node in the place of one that is cut off, and that comes back.
func TestANodeThatWasCutOffComesBackBesideItsReplacement(t *testing.T) {
	for _, away := range []time.Duration{time.Second, 5 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			hub := brokertest.NewHub(1, brokertest.Faults{})
			a, log := bootAs(hub, "a1", "a")
			b, logOfB := bootAs(hub, "b1", "b")
			time.Sleep(3 * time.Second)
			hub.SetDown("b1", true)
			time.Sleep(100 * time.Millisecond)
			b2, _ := bootAs(hub, "b2", "b")
			time.Sleep(away)
			if got := ids(a) + "|" + ids(b2); got != "a1 b2|a1 b2" {
				t.Errorf("who is cut off is replaced, but the nodes are %s", got)
			}
			hub.SetDown("b1", false)
			time.Sleep(10 * time.Millisecond)
			for range 100 {
				if got := ids(a) + "|" + ids(b) + "|" + ids(b2); got != "a1 b1 b2|a1 b1 b2|a1 b1 b2" {
					t.Fatalf("who is back after %v is back for good, but the nodes are %s", away, got)
				}
				time.Sleep(time.Second)
			}
			if log.count(isAlive) > 1 || log.count(sameName) != 1 || logOfB.count(sameName) != 1 {
				t.Errorf("it is said once that there are two, but the logs are %q and %q", log.lines, logOfB.lines)
			}
			closeAll(hub, a, b, b2)
		})
	}
}

func TestWhoWasCutOffHearsOfANodeThatWasStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		a, _ := bootAs(hub, "a1", "a")
		b, _ := bootAs(hub, "b1", "b")
		c, _ := bootAs(hub, "c1", "c")
		time.Sleep(3 * time.Second)
		hub.SetDown("a1", true)
		hub.Crash("b1")
		b2, _ := bootAs(hub, "b2", "b")
		time.Sleep(30 * time.Second)
		if got := ids(a); got != "a1 b1 c1" {
			t.Errorf("who hears nothing takes nobody for replaced, but the nodes are %s", got)
		}
		hub.SetDown("a1", false)
		time.Sleep(proofTime + 10*time.Millisecond)
		if got := ids(a); got != "a1 b2 c1" {
			t.Errorf("who is back knows of a restart, and that the others are alive, but the nodes are %s", got)
		}
		closeAll(hub, a, b, b2, c)
	})
}

// A transcript of one node that hears heartbeats: at these times, in milliseconds, of these ids with the name b, which have run that
// long. Then who is alive.
func TestHeartbeatsThatAreLate(t *testing.T) {
	type beat struct {
		at, uptime int // ms
		id         string
	}
	for _, test := range []struct {
		what  string
		beats []beat
		at    int // ms
		alive string
	}{
		{"a new node needs time to be believed", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}}, 1200, "a b1 b2"},
		{"then the old one is replaced", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}}, 1260, "a b2"},
		{"a heartbeat that is repeated proves nothing", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {1100, 9000, "b1"}}, 1260, "a b2"},
		{"one that was overtaken proves nothing", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {1100, 7000, "b1"}}, 1260, "a b2"},
		{"nor does it bring anyone back", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {2000, 7000, "b1"}}, 2100, "a b2"},
		{"one that spoke just before may be alive", []beat{{0, 9000, "b1"}, {200, 10, "b2"}}, 2400, "a b1 b2"},
		{"and is not, when it is silent", []beat{{0, 9000, "b1"}, {200, 10, "b2"}}, 2510, "a b2"},
		{"a late one keeps the old node for now", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {1100, 9500, "b1"}}, 3500, "a b1 b2"},
		{"but not until its lease ends", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {1100, 9500, "b1"}, {3000, 2010, "b2"}}, 3610, "a b2"},
		{"a late one that brings it back does not for long", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {1300, 9500, "b1"}}, 3810, "a b2"},
		{"one who speaks as long as the new one is alive", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {2000, 11000, "b1"}, {4000, 13000, "b1"}, {8000, 7010, "b2"}}, 11900, "a b1 b2"},
		{"and has its lease", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {2000, 11000, "b1"}, {4000, 13000, "b1"}, {8000, 7010, "b2"}}, 12100, "a b2"},
		{"the old one may be heard of last", []beat{{1000, 10, "b2"}, {1100, 9500, "b1"}}, 3610, "a b2"},
		{"two restarts", []beat{{0, 9000, "b1"}, {1000, 10, "b2"}, {1500, 10, "b3"}}, 1760, "a b3"},
		{"another name is another node", []beat{{0, 9000, "c1"}, {1000, 10, "b2"}}, 2000, "a b2 c1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			hub := brokertest.NewHub(1, brokertest.Faults{})
			a, _ := bootAs(hub, "a", "a")
			began := time.Now()
			for _, b := range test.beats {
				time.Sleep(time.Until(began.Add(time.Duration(b.at) * time.Millisecond)))
				body, _ := json.Marshal(heartbeat{Name: b.id[:1], Uptime: int64(b.uptime)})
				a.Receive(everyone, appendFrame(nil, frame{kind: frameHeartbeat, from: b.id, body: body}))
			}
			time.Sleep(time.Until(began.Add(time.Duration(test.at) * time.Millisecond)))
			if got := ids(a); got != test.alive {
				t.Errorf("%s: after %d ms %s are alive, but got %s", test.what, test.at, test.alive, got)
			}
			closeAll(hub, a)
		})
	}
}

func TestAHeartbeatThatCannotBeIsCounted(t *testing.T) {
	c := New(Options{ID: "a", Name: "a"})
	for _, body := range []string{`{"name":"b","uptime_ms":-1}`, `{"name":"b","uptime_ms":9223372036854775807}`, `{"name":"` + strings.Repeat("b", maxTextBytes+1) + `"}`, `x`} {
		c.Receive(everyone, appendFrame(nil, frame{kind: frameHeartbeat, from: "b", body: []byte(body)}))
	}
	if n, got := c.Stats().Bad.Load(), ids(c); n != 4 || got != "a" {
		t.Errorf("4 heartbeats are bad, but %d are, and the nodes are %s", n, got)
	}
}

func TestWhoWasCutOffHoldsTheSilenceAgainstNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		a, log := bootAs(hub, "a1", "a")
		b, _ := bootAs(hub, "b1", "b")
		time.Sleep(3 * time.Second)
		b2, _ := bootAs(hub, "b2", "b")
		time.Sleep(100 * time.Millisecond)
		hub.SetDown("a1", true)
		time.Sleep(30 * time.Second)
		hub.SetFaults(brokertest.Faults{Delay: 100 * time.Millisecond})
		hub.SetDown("a1", false)
		for range 50 {
			time.Sleep(10 * time.Millisecond)
			if got := ids(a); got != "a1 b1 b2" {
				t.Errorf("of two nodes with one name both are alive when the broker is back, but the nodes are %s", got)
				break
			}
		}
		if log.count(startedAgain)+log.count(isAlive) != 0 {
			t.Errorf("nobody is taken for replaced, but the log is %q", log.lines)
		}
		closeAll(hub, a, b, b2)
	})
}
