package postgres

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"

	"barrage/journal"
)

// What is sent must be what pgx's own decoder reads: every draft once, in order, with its channel and number.
func TestParametersAreArraysOfTheDrafts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drafts := make([]journal.Draft, rapid.IntRange(1, 20).Draw(t, "drafts"))
		for i := range drafts {
			drafts[i] = journal.Draft{
				Channel: rapid.SampledFrom([]string{"b", "a", "弹幕", "a/b"}).Draw(t, "channel"),
				Key:     rapid.SampledFrom([]string{"", "", "x", "y"}).Draw(t, "key"),
				User:    rapid.SampledFrom([]string{"", "ann"}).Draw(t, "user"), Client: fmt.Sprint("c", i),
				Data:       rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data"),
				Attributes: rapid.SampledFrom([][]byte{nil, nil, nil, []byte(`{"info":1}`)}).Draw(t, "attributes"),
			}
		}
		checkParameters(t, drafts, columns(drafts))
	})
}

func checkParameters(t *rapid.T, drafts []journal.Draft, b *batch) {
	types, raw := pgtype.NewMap(), b.parameters()
	var names, users, clients []string
	var keys []*string
	var counts []int64
	var place, seq []int32
	var data, attributes [][]byte
	for i, to := range []any{&names, &counts, &place, &seq, &users, &clients, &keys, &data, &attributes} {
		if err := types.Scan(parameterTypes[i], pgtype.BinaryFormatCode, raw[i], to); err != nil {
			t.Fatalf("parameter %d is an array of its type: %v", i+1, err)
		}
	}
	seen := map[string]int32{}
	known := map[channelKey]bool{}
	at := 0
	for i, d := range drafts {
		k := channelKey{d.Channel, d.Key}
		if d.Key != "" && known[k] {
			if !b.folded[i] || b.drafts[b.from[i]].Key != d.Key {
				t.Fatalf("draft %d repeats a key of its batch and shares its place", i)
			}
			continue
		}
		known[k] = true
		seen[d.Channel]++
		key := ""
		if keys != nil && keys[at] != nil {
			key = *keys[at]
		}
		if users[at] != d.User || clients[at] != d.Client || key != d.Key || string(data[at]) != string(d.Data) || int(b.from[i]) != at {
			t.Fatalf("draft %d is row %d, got user %q, client %q, key %q", i, at, users[at], clients[at], key)
		}
		if attributes != nil && string(attributes[at]) != string(d.Attributes) || attributes == nil && len(d.Attributes) > 0 {
			t.Fatalf("draft %d has the attributes %q, got %q", i, d.Attributes, attributes)
		}
		if place != nil && (names[place[at]-1] != d.Channel || seq[at] != seen[d.Channel]) {
			t.Fatalf("draft %d is number %d of %s, got %d of %s", i, seen[d.Channel], d.Channel, seq[at], names[place[at]-1])
		}
		at++
	}
	for i, name := range names {
		if counts[i] != int64(seen[name]) || i > 0 && names[i-1] >= name {
			t.Fatalf("channels are sorted, with their numbers of drafts, got %q, %d, want %v", names, counts, seen)
		}
	}
	if len(names) != len(seen) || len(users) != at || (place == nil) != (len(seen) == 1 && keys == nil) {
		t.Fatalf("places are left out for one channel without keys alone, got %d channels, %v", len(names), place)
	}
}

func TestOffsetsFollowFromHeads(t *testing.T) {
	b := columns([]journal.Draft{{Channel: "b"}, {Channel: "a", Key: "k"}, {Channel: "b"}, {Channel: "a", Key: "k"}})
	where := located{heads: []int64{7, 12}, time: []int64{70, 120}}
	want := []journal.Stored{{Offset: 11, Time: 120}, {Offset: 7, Time: 70}, {Offset: 12, Time: 120}, {Offset: 7, Time: 70, Repeated: true}}
	if got := where.stored(b); !reflect.DeepEqual(got, want) {
		t.Errorf("the last drafts of a channel end at its head, got %v, want %v", got, want)
	}
	where.offsets, where.firstTimes, where.repeated = []int64{11, 3, 12}, []int64{120, 30, 120}, []bool{false, true, false}
	want[1], want[3] = journal.Stored{Offset: 3, Time: 30, Repeated: true}, journal.Stored{Offset: 3, Time: 30, Repeated: true}
	if got := where.stored(b); !reflect.DeepEqual(got, want) {
		t.Errorf("where a key was known, offsets are as told, got %v, want %v", got, want)
	}
}
