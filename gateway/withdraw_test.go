package gateway

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestManyConnectionsOfAUserEnd has one user whose many connections go in any order: each knows its place, so that none is looked for.
func TestManyConnectionsOfAUserEnd(t *testing.T) {
	const many = 5_000
	g := &Gateway{users: map[string]*personal{}}
	conns := make([]conn, many)
	for i := range conns {
		if err := g.reserve("ann"); err != nil {
			t.Fatal(err)
		}
		if i%10 > 0 {
			g.enroll(&conns[i], "ann")
		}
	}
	seed := uint64(time.Now().UnixNano())
	order := rand.New(rand.NewPCG(seed, 0)).Perm(many)
	for _, i := range order[:many/2] {
		g.withdraw(&conns[i], "ann")
	}
	p := g.users["ann"]
	for _, i := range order[many/2:] {
		if there := int(conns[i].mine) < len(p.conns) && p.conns[conns[i].mine] == &conns[i]; there != (i%10 > 0) {
			t.Fatalf("seed %d: connection %d is found: %t", seed, i, there)
		}
	}
	if slices.Contains(p.conns, nil) || p.count != many/2 {
		t.Errorf("seed %d: only connections that are there are found, and %d are counted, not %d", seed, many/2, p.count)
	}
	for _, i := range order[many/2:] {
		g.withdraw(&conns[i], "ann")
	}
	if len(g.users) != 0 {
		t.Error("a user without connections is forgotten")
	}
}
