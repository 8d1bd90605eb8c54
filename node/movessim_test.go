package node

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// On a broker without faults, joins and leaves of each user take turns, and the last one tells the truth, whichever nodes its
// devices come and go on.
func TestJoinsAndLeavesTakeTurns(t *testing.T) {
	for seed := uint64(1); seed <= 60; seed++ {
		synctest.Test(t, func(t *testing.T) {
			if what := simulateMoves(t, seed); what != "" {
				t.Errorf("joins and leaves take turns and tell the truth, but with seed %d they did not: %s", seed, what)
			}
		})
	}
}

func simulateMoves(t *testing.T, seed uint64) (wrong string) {
	random := rand.New(rand.NewPCG(seed, 3))
	c := enlist(t, 3, PresenceOptions{})
	ear := eventsOf(t, c.nodes[0], "room")
	truth := map[string]present{}
	for i := range 80 {
		switch random.IntN(3) {
		case 0:
			time.Sleep(time.Duration(random.IntN(5000)) * time.Millisecond)
		case 1:
			p := present{node: random.IntN(3), client: fmt.Sprint("c", i), user: fmt.Sprint("u", random.IntN(3))}
			enter(c.nodes[p.node], "room", p.user, p.client)
			truth[p.client] = p
		default:
			if clients := slices.Sorted(maps.Keys(truth)); len(clients) > 0 {
				client := clients[random.IntN(len(clients))]
				c.nodes[truth[client].node].Exit("room", client)
				delete(truth, client)
			}
		}
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()
	last := map[string]byte{}
	for event := range strings.FieldsSeq(ear.heard()) {
		user, _, _ := strings.Cut(event[1:], "/")
		if last[user] == event[0] || last[user] == 0 && event[0] == '-' {
			wrong = fmt.Sprintf("of %s members were told %s", user, ear.heard())
		}
		last[user] = event[0]
	}
	there := map[string]bool{}
	for _, p := range truth {
		there[p.user] = true
	}
	for _, user := range []string{"u0", "u1", "u2"} {
		if there[user] != (last[user] == '+') {
			wrong = fmt.Sprintf("%s is there: %v, but members were told %s", user, there[user], ear.heard())
		}
	}
	c.stop()
	return wrong
}
