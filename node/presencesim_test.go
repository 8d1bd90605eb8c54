package node

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"barrage/broker/brokertest"
)

// present is who a member of the simulation is, and where.
type present struct {
	node         int
	channel      string
	client, user string
}

// Members enter, exit and move in a cluster whose broker loses, repeats, delays and reorders, and whose nodes are cut off and
// die. Meanwhile a roster names nobody who was never there; when it is quiet the roster on every node is the truth.
func TestRostersAreTheTruthWhenItIsQuiet(t *testing.T) {
	from, to := uint64(1), uint64(31)
	if s := os.Getenv("BARRAGE_TEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		from, to = seed, seed+1
	} else if s := os.Getenv("BARRAGE_TEST_SEEDS"); s != "" {
		seeds, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		to = from + seeds
	}
	for seed := from; seed < to && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { simulatePresence(t, seed) })
	}
}

// presenceWorld is a cluster and the truth about it.
type presenceWorld struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	crew   *crew
	dead   map[int]bool
	truth  map[string]present // by client
	born   map[string]bool    // clients that were ever there
}

func simulatePresence(t *testing.T, seed uint64) {
	w := &presenceWorld{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 9)), crew: enlist(t, 4, PresenceOptions{}),
		dead: map[int]bool{}, truth: map[string]present{}, born: map[string]bool{},
	}
	for range 150 {
		w.step()
	}
	w.crew.hub.SetFaults(brokertest.Faults{})
	for _, n := range w.crew.nodes {
		w.crew.hub.SetDown(n.ID(), false)
	}
	time.Sleep(15 * time.Second) // a lease fits in
	for _, channel := range []string{"a", "b"} {
		for i := range w.crew.nodes {
			if !w.dead[i] {
				w.check(i, channel)
			}
		}
	}
	for i, n := range w.crew.nodes {
		if len(n.moves.all)+len(n.cluster.Nodes()) > len(w.crew.nodes)-len(w.dead) && !w.dead[i] {
			t.Errorf("seed %d: nothing is left over on node %d, but %d moves and %d nodes are", seed, i, len(n.moves.all), len(n.cluster.Nodes()))
		}
	}
	w.crew.stop()
}

// step lets something happen.
func (w *presenceWorld) step() {
	i := w.random.IntN(len(w.crew.nodes))
	switch w.random.IntN(12) {
	case 0:
		w.crew.hub.SetFaults(brokertest.Faults{
			Lose: float64(w.random.IntN(4)) / 4, Repeat: float64(w.random.IntN(3)) / 4,
			Delay: time.Duration(w.random.IntN(300)) * time.Millisecond, Reorder: float64(w.random.IntN(3)) / 2,
		})
	case 1:
		w.crew.hub.SetDown(w.crew.nodes[i].ID(), w.random.IntN(2) == 0)
	case 2:
		if len(w.dead) < 2 && w.random.IntN(5) == 0 {
			w.dead[i] = true
			w.crew.hub.Crash(w.crew.nodes[i].ID())
			maps.DeleteFunc(w.truth, func(_ string, p present) bool { return p.node == i })
		}
	case 3, 4:
		time.Sleep(time.Duration(w.random.IntN(4000)) * time.Millisecond)
	case 5:
		w.look(i)
	case 6, 7, 8:
		if clients := slices.Sorted(maps.Keys(w.truth)); len(clients) > 0 {
			client := clients[w.random.IntN(len(clients))]
			w.crew.nodes[w.truth[client].node].Exit(w.truth[client].channel, client)
			delete(w.truth, client)
		}
	default:
		if w.dead[i] {
			return
		}
		client := fmt.Sprint("c", len(w.born))
		p := present{node: i, channel: []string{"a", "b"}[w.random.IntN(2)], client: client, user: []string{"", "u1", "u2", "u3"}[w.random.IntN(4)]}
		enter(w.crew.nodes[i], p.channel, p.user, client)
		w.truth[client] = p
		w.born[client] = true
	}
}

// look asks in the middle of trouble.
func (w *presenceWorld) look(i int) {
	if w.dead[i] {
		return
	}
	for _, m := range rosterOf(w.t, w.crew.nodes[i], "a").Members {
		if !w.born[m.Client] {
			w.t.Errorf("seed %d: %s was never there", w.seed, m.Client)
		}
	}
}

func (w *presenceWorld) check(i int, channel string) {
	want, users, anonymous := []string{}, map[string]bool{}, 0
	for client, p := range w.truth {
		if p.channel == channel {
			want = append(want, client)
			if users[p.user] = true; p.user == "" {
				anonymous++
			}
		}
	}
	delete(users, "")
	slices.Sort(want)
	r := rosterOf(w.t, w.crew.nodes[i], channel)
	c := countsOf(w.t, w.crew.nodes[i], channel)
	if got := clientsOf(r); got != strings.Join(want, " ") || len(r.Missing) > 0 || !r.Exact || r.Users != len(users)+anonymous {
		w.t.Errorf("seed %d: on node %d the roster of %s is %v of %d users, but got %+v", w.seed, i, channel, want, len(users)+anonymous, r)
	}
	if c.Clients != len(want) || c.Users != r.Users || len(c.Missing) > 0 {
		w.t.Errorf("seed %d: on node %d the counts of %s are those of the roster, but got %+v and %+v", w.seed, i, channel, c, r.Counts)
	}
}
