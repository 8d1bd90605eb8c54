package channel

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"barrage/proto"
)

// Every row of the table of joining: the channel stands at 100, memory begins at 90.
func TestPlaceDecides(t *testing.T) {
	at := func(v view) view {
		v.Position, v.memory = proto.Position{Epoch: "A", Offset: 100}, 90
		return v
	}
	for _, row := range []struct {
		what  string
		start Start
		view  view
		want  placing
		next  proto.Offset
	}{
		{"another epoch resets to the head", sinceIn(95, "B"), view{}, reset, 101},
		{"another epoch resets, also from the beginning", sinceIn(0, "B"), view{}, reset, 101},
		{"beyond the head the journal is asked for its head", since(101), view{}, askHead, 0},
		{"still beyond the head resets to it", since(101), view{verified: true}, reset, 101},
		{"the next message", Start{}, view{}, attach, 101},
		{"up to date", sinceIn(100, "A"), view{}, attach, 101},
		{"the oldest in memory", since(89), view{}, attach, 90},
		{"one older than memory is looked up", since(88), view{}, askOldest, 0},
		{"the journal has it", since(88), view{oldest: 89}, attach, 89},
		{"the journal removed it", since(88), view{oldest: 90}, reset, 90},
		{"the journal removed more than memory", since(80), view{oldest: 95}, reset, 90},
		{"from the beginning is looked up", since(0), view{}, askOldest, 0},
		{"from the beginning of what is kept", since(0), view{oldest: 70}, attach, 70},
		{"from the beginning in an epoch is a position", sinceIn(0, "A"), view{oldest: 70}, reset, 70},
		{"the last ones in memory", Start{Last: 11}, view{}, attach, 90},
		{"the last ones before memory are looked up", Start{Last: 12}, view{}, askOldest, 0},
		{"the last ones there are", Start{Last: 50}, view{oldest: 70}, attach, 70},
		{"more last ones than there ever were", Start{Last: 1000}, view{oldest: 1}, attach, 1},
	} {
		got, next, reason := place(row.start, at(row.view))
		if got != row.want || next != row.next {
			t.Errorf("%s: got %d with next %d, want %d with next %d", row.what, got, next, row.want, row.next)
		}
		if (got == reset) != (reason != "") {
			t.Errorf("%s: a reset, and only a reset, has a reason, but it was %q", row.what, reason)
		}
		if strings.Contains(reason, "%") {
			t.Errorf("%s: the reason is no sentence: %q", row.what, reason)
		}
	}
}

// Whatever a client asks for: the journal is asked at most twice, nothing that is kept is left out, a reset is only told to
// those who miss something, and nobody begins beyond what exists.
func TestPlaceOwesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := func(what string, from, to proto.Offset) proto.Offset {
			return proto.Offset(rapid.Uint64Range(uint64(from), uint64(to)).Draw(t, what))
		}
		head := offset("head of the journal", 0, 50)
		oldest := offset("oldest in the journal", 1, head+1)
		here := offset("head of the node", 0, head)
		memory := offset("memory", 1, here+1)
		start := Start{}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			since := offset("since", 0, head+5)
			start.Since = &since
			start.Epoch = rapid.SampledFrom([]proto.Epoch{"", "A", "B"}).Draw(t, "epoch")
		case 1:
			start.Last = rapid.IntRange(0, 60).Draw(t, "last")
		}
		v := view{Position: proto.Position{Epoch: "A", Offset: here}, memory: memory}
		for asks := 0; ; asks++ {
			if asks > 2 {
				t.Fatalf("the journal was asked more than twice")
			}
			what, next, _ := place(start, v)
			switch what {
			case askHead:
				v.verified, v.Offset = true, head
				continue
			case askOldest:
				v.oldest = max(start.wanted(v.Offset), oldest)
				continue
			}
			if next < 1 || next > v.Offset+1 {
				t.Fatalf("next is %d, the head is %d", next, v.Offset)
			}
			kept := min(oldest, memory)
			switch wanted := start.wanted(v.Offset); {
			case start.Since != nil && start.Epoch == "B":
				if what != reset || next != here+1 {
					t.Fatalf("another epoch must be reset to the head %d, but next is %d", here, next)
				}
			case wanted > head+1:
				if what != reset || next != head+1 {
					t.Fatalf("a position beyond the journal must be reset to its head %d, but next is %d", head, next)
				}
			case wanted >= kept:
				if what != attach || next != wanted {
					t.Fatalf("message %d is kept, but next is %d (placing %d)", wanted, next, what)
				}
			case next > kept:
				t.Fatalf("message %d is kept and owed, but next is %d", kept, next)
			case what == reset && start.lenient():
				t.Fatalf("who asks for what there is must not be reset")
			}
			return
		}
	})
}
