package load

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAccount(t *testing.T) {
	for _, tc := range []struct {
		name     string
		arrivals []int32
		sent     int64
		want     Account
	}{
		{"all in order", []int32{0, 1, 2, 3}, 4, Account{Expected: 4, Received: 4}},
		{"nothing", nil, 4, Account{Expected: 4, Lost: 4}},
		{"a hole", []int32{0, 3}, 4, Account{Expected: 4, Received: 2, Lost: 2}},
		{"the end is missing", []int32{0, 1}, 4, Account{Expected: 4, Received: 2, Lost: 2}},
		{"the start is missing", []int32{2, 3}, 4, Account{Expected: 4, Received: 2, Lost: 2}},
		{"late", []int32{0, 2, 1, 3}, 4, Account{Expected: 4, Received: 4, OutOfOrder: 1}},
		{"backwards", []int32{3, 2, 1, 0}, 4, Account{Expected: 4, Received: 4, OutOfOrder: 3}},
		{"twice", []int32{0, 0, 1, 2, 3, 1}, 4, Account{Expected: 4, Received: 4, Repeated: 2}},
		{"late, then again", []int32{0, 2, 1, 1, 3}, 4, Account{Expected: 4, Received: 4, OutOfOrder: 1, Repeated: 1}},
		{"out of the middle of a hole", []int32{0, 6, 3, 3}, 7, Account{Expected: 7, Received: 3, Lost: 4, OutOfOrder: 1, Repeated: 1}},
	} {
		l := newLedger(1)
		for _, n := range tc.arrivals {
			l.receive(0, n)
		}
		l.settle(tc.sent)
		if l.Account != tc.want {
			t.Errorf("%s: %v of %d messages give %+v, got %+v", tc.name, tc.arrivals, tc.sent, tc.want, l.Account)
		}
	}
}

// The ledger agrees with one that remembers everything.
func TestAccountCountsEveryArrivalOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const connections, sent = 3, 30
		l := newLedger(connections)
		seen := map[[2]int32]bool{}
		var want Account
		top := [connections]int32{-1, -1, -1}
		for range rapid.IntRange(0, 120).Draw(t, "arrivals") {
			c, n := rapid.Int32Range(0, connections-1).Draw(t, "connection"), rapid.Int32Range(0, sent-1).Draw(t, "number")
			first := !seen[[2]int32{c, n}]
			if l.receive(c, n) != first {
				t.Fatalf("message %d at connection %d is new: %v", n, c, first)
			}
			switch {
			case !first:
				want.Repeated++
			case n < top[c]:
				want.OutOfOrder++
			}
			if first {
				want.Received++
			}
			top[c] = max(top[c], n)
			seen[[2]int32{c, n}] = true
		}
		want.Expected = connections * sent
		want.Lost = want.Expected - want.Received
		if l.settle(want.Expected); l.Account != want {
			t.Fatalf("the account is %+v, got %+v", want, l.Account)
		}
	})
}

func TestJobsShareAllConnections(t *testing.T) {
	p := Plan{URLs: []string{"ws://127.0.0.1:1/raw/{room}?a=b", "ws://127.0.0.1:2/raw/{room}"}, Connections: 25, Rooms: 5, Rate: 1, Stall: 0.2}
	p, err := p.withDefaults()
	if err == nil {
		t.Fatal("a rate needs a duration")
	}
	p.Duration = 1
	readers, publishers, err := p.jobs(t.Context(), 10, 2)
	if err != nil || len(readers) != 3 || len(publishers) != 1 {
		t.Fatalf("25 connections at 10 a process and 5 publishers are 3 and 1 processes, got %d and %d, %v", len(readers), len(publishers), err)
	}
	if path := readers[0].Targets[0].Path; path != "/raw/{room}?a=b" {
		t.Errorf("the path and query of the URL are kept, got %s", path)
	}
	members, stalled := map[[2]int]int{}, 0
	for _, j := range readers {
		for i := range j.Count {
			members[[2]int{j.room(i), j.target(i)}]++
			if j.stalled(i) {
				stalled++
			}
		}
	}
	for room := range 5 {
		if a, b := members[[2]int{room, 0}], members[[2]int{room, 1}]; a != 3 || b != 2 {
			t.Errorf("the 5 members of room %d are spread over both servers, got %d and %d", room, a, b)
		}
	}
	if stalled != 5 {
		t.Errorf("a fifth of 25 readers stalls, got %d", stalled)
	}
}

func TestScheduleIsOpenLoop(t *testing.T) {
	s := Schedule{Streams: 3, Rate: 10, Size: 50, Length: 500e6}
	var streams []int32
	for i := 0; ; i++ {
		m, ok := s.message(i)
		if !ok {
			break
		}
		if m.at.Milliseconds() != int64(100*i) || m.size != 50 {
			t.Errorf("message %d is due at %d ms with 50 bytes, got %+v", i, 100*i, m)
		}
		streams = append(streams, m.stream)
	}
	if !slices.Equal(streams, []int32{0, 1, 2, 0, 1}) {
		t.Errorf("the publishers take turns, got %v", streams)
	}
}
