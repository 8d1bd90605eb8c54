package node

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"barrage/broker"
	"barrage/broker/brokertest"
	"barrage/broker/local"
	"barrage/channel"
	"barrage/journal/memory"
	"barrage/proto"
)

// eventLines is a Codec whose frames are the data of messages.
type eventLines struct{ plain }

func (eventLines) AppendFrame(dst []byte, name string, m *proto.Message) []byte {
	var e proto.MemberEvent
	if _, ok := proto.EventsBase(name); !ok || json.Unmarshal(m.Data, &e) != nil {
		return dst
	}
	if e.Join != nil {
		return fmt.Appendf(dst, "+%s%s ", e.Join.User, strings.TrimSuffix("/"+e.Join.Client, "/"))
	}
	return fmt.Appendf(dst, "-%s/%s ", e.Leave.User, e.Leave.Client)
}

// crew is nodes of one cluster.
type crew struct {
	t     testing.TB
	hub   *brokertest.Hub
	nodes []*Node
}

// enlist starts count nodes, which know each other. It must be used in a synctest bubble.
func enlist(t testing.TB, count int, o PresenceOptions) *crew {
	c := &crew{t: t, hub: brokertest.NewHub(1, brokertest.Faults{})}
	for i := range count {
		c.start(fmt.Sprint("n", i), o)
	}
	time.Sleep(100 * time.Millisecond)
	return c
}

// start starts another node.
func (c *crew) start(name string, o PresenceOptions) *Node {
	n, err := New(Options{
		Name: name, Version: "1", Journal: memory.New(), Codecs: []channel.Codec{eventLines{}}, Writers: 1, Presence: o,
		OpenBroker: func(id string, h broker.Handler) (broker.Broker, error) { return c.hub.Join(id, h), nil },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	return n
}

func (c *crew) stop() {
	for _, n := range c.nodes {
		stop(c.t, n)
	}
	c.hub.Close()
	time.Sleep(10 * time.Second)
}

func enter(n *Node, name, user, client string) {
	n.Enter(name, proto.MemberInfo{User: user, Client: client}, true)
}

// rosterOf asks and waits.
func rosterOf(t testing.TB, n *Node, name string) proto.Roster {
	t.Helper()
	heard := make(chan proto.Roster, 1)
	n.Presence(name, func(r proto.Roster, err *proto.Error) {
		if err != nil {
			t.Errorf("a roster is given, but got %v", err)
		}
		heard <- r
	})
	return <-heard
}

func countsOf(t testing.TB, n *Node, name string) proto.Counts {
	t.Helper()
	heard := make(chan proto.Counts, 1)
	n.Counts(name, func(c proto.Counts, err *proto.Error) {
		if err != nil {
			t.Errorf("counts are given, but got %v", err)
		}
		heard <- c
	})
	return <-heard
}

func clientsOf(r proto.Roster) string {
	var list []string
	for _, m := range r.Members {
		list = append(list, m.Client)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestARosterIsTheUnionOfTheLiveNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 3, PresenceOptions{})
		long := strings.Repeat("c", 36)
		enter(c.nodes[0], "room", "alice", "a1")
		enter(c.nodes[1], "room", "alice", "a2")
		enter(c.nodes[1], "room", "", "x1")
		enter(c.nodes[2], "room", "", long)
		enter(c.nodes[2], "elsewhere", "bob", "b1")
		c.nodes[2].Enter("room", proto.MemberInfo{User: "bob", Client: "b1", Info: json.RawMessage(`{"a":1}`), ChanInfo: json.RawMessage(`not JSON`)}, false)
		for _, n := range c.nodes {
			r := rosterOf(t, n, "room")
			if got, want := clientsOf(r), "a1 a2 b1 "+long+" x1"; got != want || r.Clients != 5 || r.Users != 4 || !r.Exact || r.Sampled || len(r.Missing) > 0 {
				t.Errorf("%s has the whole roster %q, but got %+v", n.Name(), want, r)
			}
			for _, m := range r.Members {
				if m.Client == "b1" && (m.User != "bob" || string(m.Info) != `{"a":1}` || m.ChanInfo != nil) {
					t.Errorf("a member is described as it entered, but got %+v", m)
				}
			}
		}
		c.nodes[2].Exit("room", long)
		c.nodes[2].Exit("room", "b1")
		c.nodes[2].Exit("room", "never entered")
		if got := countsOf(t, c.nodes[2], "room"); got.Clients != 3 || got.Users != 2 {
			t.Errorf("who exits is not counted any more, but got %+v", got)
		}
		time.Sleep(time.Second)
		c.hub.Crash(c.nodes[1].ID())
		if r := rosterOf(t, c.nodes[0], "room"); clientsOf(r) != "a1" || !slices.Equal(r.Missing, []string{"n1"}) {
			t.Errorf("the members of a killed node are gone and the node is named, but got %+v", r)
		}
		time.Sleep(9 * time.Second)
		if r := rosterOf(t, c.nodes[0], "room"); clientsOf(r) != "a1" || len(r.Missing) > 0 {
			t.Errorf("when its lease has ended it is not named any more, but got %+v", r)
		}
		for _, n := range c.nodes {
			if n.rosters.lookup("nowhere") != nil {
				t.Error("asking makes no rosters")
			}
		}
		c.stop()
	})
}

func TestANodeThatIsStartedAgainIsNotWaitedForUnderItsOldID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 3, PresenceOptions{})
		member, there := eventsOf(t, c.nodes[0], "room"), eventsOf(t, c.nodes[1], "room")
		enter(c.nodes[0], "room", "alice", "a1")
		enter(c.nodes[1], "room", "bob", "b1")
		time.Sleep(10*time.Second + 500*time.Millisecond) // members are told of to other nodes
		events := proto.EventsOf("room")
		if got := c.nodes[0].Info(events); got.Members != 2 || got.Nodes != 2 {
			t.Errorf("members on two nodes are counted, but got %+v", got)
		}
		c.hub.Crash(c.nodes[1].ID())
		again := c.start("n1", PresenceOptions{})
		enter(again, "room", "bob", "b2")
		time.Sleep(300 * time.Millisecond)
		for _, n := range []*Node{c.nodes[0], c.nodes[2], again} {
			began := time.Now()
			if r := rosterOf(t, n, "room"); clientsOf(r) != "a1 b2" || len(r.Missing) > 0 || time.Since(began) > 0 {
				t.Errorf("a roster is complete at once, but %s got %+v after %v", n.Name(), r, time.Since(began))
			}
			n.Control(proto.Control{Kind: proto.ControlDisconnect, User: "bob"}, func(_ int, missing []string, _ *proto.Error) {
				if len(missing) > 0 || time.Since(began) > 0 {
					t.Errorf("a command reaches all at once, but %q are missing after %v", missing, time.Since(began))
				}
			})
			synctest.Wait()
		}
		for range 15 {
			if got := c.nodes[0].Info(events); got.Members != 1 || got.Nodes != 1 {
				t.Fatalf("what the old node told of its members does not count any more, but got %+v", got)
			}
			time.Sleep(time.Second)
		}
		member.out.Close()
		there.out.Close()
		c.stop()
	})
}

func TestManyWhoAskCostOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 2, PresenceOptions{})
		enter(c.nodes[0], "room", "alice", "a1")
		answers := 0
		var mu sync.Mutex
		for range 1000 {
			c.nodes[0].Presence("room", func(r proto.Roster, _ *proto.Error) {
				mu.Lock()
				defer mu.Unlock()
				answers += len(r.Members)
			})
		}
		time.Sleep(500 * time.Millisecond)
		rosterOf(t, c.nodes[0], "room")
		if n := c.nodes[0].Stats().Rosters.Load(); answers != 1000 || n != 1 {
			t.Errorf("1,000 who ask at once are answered by one question, but %d answers came from %d", answers, n)
		}
		enter(c.nodes[0], "room", "bob", "b1")
		if r := rosterOf(t, c.nodes[0], "room"); clientsOf(r) != "a1 b1" {
			t.Errorf("who has just entered a small room finds itself there, but got %+v", r)
		}
		c.stop()
	})
}

func TestALargeRosterIsSampledAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 3, PresenceOptions{})
		const users = 30_000
		for i := range users {
			// Every third user is on two nodes, and there are twice as many on the first.
			enter(c.nodes[max(0, i%4-1)], "room", fmt.Sprint("user", i), fmt.Sprint("c", i))
			if i%3 == 0 {
				enter(c.nodes[2], "room", fmt.Sprint("user", i), fmt.Sprint("d", i))
			}
		}
		r := rosterOf(t, c.nodes[1], "room")
		if r.Clients != users*4/3 || r.Exact || !r.Sampled || len(r.Members) != 1000 {
			t.Errorf("%d connections are counted exactly and 1,000 are listed, but got %d and %d, exact %v, sampled %v", users*4/3, r.Clients, len(r.Members), r.Exact, r.Sampled)
		}
		if off := float64(r.Users-users) / users; off > 0.03 || off < -0.03 {
			t.Errorf("users are estimated within 3 %%, but got %d for %d", r.Users, users)
		}
		seen, low := map[string]bool{}, 0
		for _, m := range r.Members {
			seen[m.Client] = true
			var i int
			if _, err := fmt.Sscanf(m.Client[1:], "%d", &i); err == nil && i < users/2 {
				low++
			}
		}
		if len(seen) != 1000 || low < 400 || low > 600 {
			t.Errorf("a sample is even and names nobody twice, but of %d the first half are %d", len(seen), low)
		}
		c.stop()
	})
}

// eventsOf follows what the members of a channel are told on one node.
func eventsOf(t testing.TB, n *Node, name string) *listener {
	t.Helper()
	return joined(t, n, proto.EventsOf(name))
}

func TestJoinsAndLeavesAreToldOncePerUser(t *testing.T) {
	steps := []struct {
		name string
		do   func(c *crew)
		want string
	}{
		{"a join and, after a while, a leave", func(c *crew) {
			enter(c.nodes[0], "room", "alice", "a1")
			time.Sleep(time.Second)
			c.nodes[0].Exit("room", "a1")
		}, "+alice/a1 -alice/a1"},
		{"a second connection on another node is no news", func(c *crew) {
			enter(c.nodes[0], "room", "alice", "a1")
			time.Sleep(time.Second)
			enter(c.nodes[1], "room", "alice", "a2")
			time.Sleep(time.Second)
			c.nodes[0].Exit("room", "a1")
			time.Sleep(10 * time.Second)
			c.nodes[1].Exit("room", "a2")
		}, "+alice/a1 -alice/a2"},
		{"who reconnects to the same node was never away", func(c *crew) {
			enter(c.nodes[0], "room", "alice", "a1")
			time.Sleep(time.Second)
			c.nodes[0].Exit("room", "a1")
			time.Sleep(time.Second)
			enter(c.nodes[0], "room", "alice", "a2")
		}, "+alice/a1"},
		{"who reconnects to another node was never away", func(c *crew) {
			enter(c.nodes[0], "room", "alice", "a1")
			time.Sleep(time.Second)
			c.nodes[0].Exit("room", "a1")
			time.Sleep(2900 * time.Millisecond)
			enter(c.nodes[1], "room", "alice", "a2")
		}, "+alice/a1"},
		{"nor who is on another node before the first one notices", func(c *crew) {
			enter(c.nodes[0], "room", "alice", "a1")
			time.Sleep(time.Second)
			enter(c.nodes[1], "room", "alice", "a2")
			c.nodes[0].Exit("room", "a1")
		}, "+alice/a1"},
		{"who comes back later left", func(c *crew) {
			enter(c.nodes[0], "room", "alice", "a1")
			time.Sleep(time.Second)
			c.nodes[0].Exit("room", "a1")
			time.Sleep(4 * time.Second)
			enter(c.nodes[1], "room", "alice", "a2")
		}, "+alice/a1 -alice/a1 +alice/a2"},
		{"two devices at once are one join and one leave", func(c *crew) {
			enter(c.nodes[0], "room", "alice", "a1")
			enter(c.nodes[1], "room", "alice", "a2")
			enter(c.nodes[2], "room", "alice", "a3")
			time.Sleep(time.Second)
			for i, n := range c.nodes {
				n.Exit("room", fmt.Sprint("a", i+1))
			}
		}, "+alice/* -alice/*"},
		{"a node that goes away leaves its leaves to another", func(c *crew) {
			enter(c.nodes[1], "room", "alice", "a1")
			enter(c.nodes[1], "room", "bob", "b1")
			time.Sleep(time.Second)
			c.nodes[1].Exit("room", "a1")
			c.nodes[1].Exit("room", "b1")
			stop(c.t, c.nodes[1])
			c.nodes = slices.Delete(c.nodes, 1, 2)
			time.Sleep(time.Second)
			enter(c.nodes[1], "room", "bob", "b2")
		}, "+alice/a1 +bob/b1 -alice/a1"},
		{"who comes and goes at once was never there", func(c *crew) {
			enter(c.nodes[0], "room", "alice", "a1")
			c.nodes[0].Exit("room", "a1")
		}, ""},
		{"an anonymous connection is a user of its own", func(c *crew) {
			enter(c.nodes[0], "room", "", "x1")
			time.Sleep(time.Second)
			c.nodes[0].Exit("room", "x1")
			time.Sleep(time.Second)
			enter(c.nodes[1], "room", "", "x2")
		}, "+/x1 +/x2 -/x1"},
		{"without announce nobody is told", func(c *crew) {
			c.nodes[0].Enter("room", proto.MemberInfo{User: "alice", Client: "a1"}, false)
			time.Sleep(time.Second)
			c.nodes[0].Exit("room", "a1")
		}, ""},
		{"in a large room nobody is told", func(c *crew) {
			for i := range 300 {
				c.nodes[0].Enter("room", proto.MemberInfo{Client: fmt.Sprint("x", i)}, true)
			}
			time.Sleep(time.Second)
			enter(c.nodes[0], "room", "alice", "a1")
			time.Sleep(time.Second)
			c.nodes[0].Exit("room", "a1")
		}, ""},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := enlist(t, 3, PresenceOptions{})
				ears := []*listener{eventsOf(t, c.nodes[0], "room"), eventsOf(t, c.nodes[2], "room")}
				s.do(c)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				for _, l := range ears {
					got := l.heard()
					if strings.Contains(s.want, "*") {
						for _, n := range []string{"1", "2", "3"} {
							got = strings.ReplaceAll(got, "/a"+n, "/*")
						}
					}
					if got != s.want {
						t.Errorf("%s: members are told %q, but got %q", s.name, s.want, got)
					}
				}
				for i, n := range c.nodes {
					if len(n.moves.all)+len(n.moves.arrivals)+len(n.moves.leaves)+len(n.moves.again) > 0 {
						t.Errorf("node %d forgets moves that are settled, but %d are left", i, len(n.moves.all))
					}
				}
				c.stop()
			})
		})
	}
}

func TestANodeAloneTellsJoinsAndLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{
			Name: "n", Journal: memory.New(), Codecs: []channel.Codec{eventLines{}}, Writers: 1,
			OpenBroker: func(_ string, h broker.Handler) (broker.Broker, error) { return local.Open(h), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		l := eventsOf(t, n, "room")
		enter(n, "room", "alice", "a1")
		time.Sleep(200 * time.Millisecond)
		if r := rosterOf(t, n, "room"); clientsOf(r) != "a1" || !r.Exact {
			t.Errorf("a node without others has its own roster, but got %+v", r)
		}
		n.Exit("room", "a1")
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := l.heard(); got != "+alice/a1 -alice/a1" {
			t.Errorf("a join and a leave are told, but got %q", got)
		}
		stop(t, n)
	})
}

func FuzzRollAnswer(f *testing.F) {
	t := tally{limit: 1}
	t.add(1)
	t.add(2)
	_, sketch := t.encode()
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, sketch)
	f.Fuzz(func(_ *testing.T, hashes, sketch []byte) {
		u := tally{limit: 10}
		if u.merge(hashes, sketch) {
			u.count()
			u.encode()
		}
	})
}

// BenchmarkEnterExit is what each of 100,000 anonymous members of one room costs: time to enter and exit, and bytes while it is
// there.
func BenchmarkEnterExit(b *testing.B) {
	const members = 100_000
	clients := make([]string, members)
	for i := range clients {
		clients[i] = fmt.Sprintf("%016x", i)
	}
	n := &Node{}
	n.rosters.list = map[string]*roster{}
	n.moves.all = map[move]*moving{}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var entering, exiting time.Duration
	bytes := uint64(0)
	for b.Loop() {
		before := heap()
		began := time.Now()
		for _, c := range clients {
			n.Enter("room", proto.MemberInfo{Client: c}, true)
		}
		entering += time.Since(began)
		bytes = heap() - before
		began = time.Now()
		n.rosters.lookup("room").roll(1000, true)
		b.ReportMetric(float64(time.Since(began).Microseconds()), "µs/roll")
		began = time.Now()
		for _, c := range clients {
			n.Exit("room", c)
		}
		exiting += time.Since(began)
	}
	b.ReportMetric(float64(entering.Nanoseconds())/float64(b.N)/members, "ns/enter")
	b.ReportMetric(float64(exiting.Nanoseconds())/float64(b.N)/members, "ns/exit")
	b.ReportMetric(float64(bytes)/members, "bytes/member")
	runtime.KeepAlive(n)
}

// Names that JSON writes six times as long make a question about many users larger than one may be.
func TestUsersWithLongNamesWhoAreElsewhereAreNotToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 2, PresenceOptions{})
		for i := range maxMovesAsked {
			name := fmt.Sprintf("%s%d", strings.Repeat("<", 250), i/100) // small rooms
			user := fmt.Sprintf("%s%d", strings.Repeat("<", 250), i)
			enter(c.nodes[0], name, user, fmt.Sprint("c", i))
		}
		time.Sleep(time.Second)
		told := c.nodes[0].Stats().Joins.Load()
		for i := range maxMovesAsked {
			name := fmt.Sprintf("%s%d", strings.Repeat("<", 250), i/100)
			user := fmt.Sprintf("%s%d", strings.Repeat("<", 250), i)
			enter(c.nodes[1], name, user, fmt.Sprint("d", i))
		}
		time.Sleep(time.Second)
		if again := c.nodes[1].Stats().Joins.Load(); told != maxMovesAsked || again != 0 {
			t.Errorf("%d users join once, on whichever nodes they are, but %d joins were told, and %d again", maxMovesAsked, told, again)
		}
		c.stop()
	})
}

func TestANodeThatStopsHandsOverLeavesOfUsersWithMuchInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 2, PresenceOptions{})
		info := json.RawMessage(`"` + strings.Repeat("i", 8000) + `"`)
		const users = 150
		for i := range users {
			c.nodes[0].Enter("room", proto.MemberInfo{User: fmt.Sprint("u", i), Client: fmt.Sprint("c", i), Info: info}, true)
		}
		time.Sleep(time.Second)
		for i := range users {
			c.nodes[0].Exit("room", fmt.Sprint("c", i))
		}
		stop(t, c.nodes[0])
		heir := c.nodes[1]
		c.nodes = c.nodes[1:]
		time.Sleep(5 * time.Second)
		if told := heir.Stats().Leaves.Load(); told != users {
			t.Errorf("all %d leaves that were pending are told by another node, but %d were", users, told)
		}
		c.stop()
	})
}
