package client

import (
	"testing"

	"pgregory.net/rapid"

	"barrage/proto"
)

// Whatever offsets arrive, those handed over ascend, none twice, and every offset from the start to the last one was
// either handed over or reported as missing.
func TestTrackerAccountsForEveryOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := proto.Offset(rapid.Uint64Range(0, 20).Draw(t, "start"))
		tr := tracker{gaps: true}
		tr.welcome(&proto.Welcome{Epoch: "e", Offset: start}, false)
		last, handed, missed := start, proto.Offset(0), proto.Offset(0)
		for _, n := range rapid.SliceOf(rapid.Uint64Range(1, 40)).Draw(t, "offsets") {
			o := proto.Offset(n)
			deliver, missing := tr.message(o)
			if deliver != (o > last) {
				t.Fatalf("after offset %d, %d is handed over: %v", last, o, deliver)
			}
			if deliver {
				last = o
				handed++
				missed += missing
			}
			if tr.at.Offset != last {
				t.Fatalf("the position is the last offset handed over, %d, got %d", last, tr.at.Offset)
			}
		}
		if start+handed+missed != last {
			t.Fatalf("from %d to %d, %d were handed over and %d reported missing", start, last, handed, missed)
		}
	})
}

func TestTrackerWithoutEcho(t *testing.T) {
	tr := tracker{}
	tr.welcome(&proto.Welcome{Epoch: "e", Offset: 5}, false)
	tr.stored(6)
	if tr.at.Offset != 6 {
		t.Errorf("an own message that follows the position moves it, got %d", tr.at.Offset)
	}
	tr.stored(9)
	if tr.at.Offset != 6 {
		t.Errorf("an own message after others that are still to come does not move it, got %d", tr.at.Offset)
	}
	if deliver, missing := tr.message(8); !deliver || missing != 0 {
		t.Errorf("holes are own messages, got deliver %v, missing %d", deliver, missing)
	}
}
