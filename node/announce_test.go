package node

import (
	"fmt"
	"testing"
	"time"

	"barrage/proto"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// announced runs an announcer for a time, publishing at these moments, and says when which head was announced.
func announced(until time.Duration, published ...time.Duration) (heads []string) {
	a := announcer{heads: map[string]*announcement{}}
	for now, head := time.Duration(0), 0; now <= until; now += announceEvery {
		for head < len(published) && published[head] <= now {
			a.note("room", proto.Position{Epoch: "A", Offset: proto.Offset(head + 1)}, noon.Add(published[head]))
			head++
		}
		for _, h := range a.due(noon.Add(now)) {
			heads = append(heads, fmt.Sprintf("%s=%d at %v", h.name, h.head.Offset, now))
		}
	}
	return heads
}

func TestHeadsAreAnnouncedAfterOneAndFiveSeconds(t *testing.T) {
	got := fmt.Sprint(announced(time.Minute, 0))
	if want := "[room=1 at 1s room=1 at 5s]"; got != want {
		t.Errorf("a lone publish was announced %s, want %s", got, want)
	}
	got = fmt.Sprint(announced(time.Minute, 0, 900*time.Millisecond))
	if want := "[room=2 at 1s room=2 at 5s]"; got != want {
		t.Errorf("two publishes shortly after one another were announced %s, want %s", got, want)
	}
	got = fmt.Sprint(announced(time.Minute, 0, 2*time.Second))
	if want := "[room=1 at 1s room=2 at 3s room=2 at 7s]"; got != want {
		t.Errorf("a publish between two announcements must begin anew: %s, want %s", got, want)
	}
}

// A channel that is busy all the time is announced about once a second, and its last message twice more.
func TestABusyChannelIsAnnounced(t *testing.T) {
	var published []time.Duration
	for at := time.Duration(0); at < 10*time.Second; at += 50 * time.Millisecond {
		published = append(published, at)
	}
	heads := announced(time.Minute, published...)
	if len(heads) < 9 || len(heads) > 13 {
		t.Errorf("in 10 busy seconds there were %d announcements, want about one a second: %v", len(heads), heads)
	}
	last := fmt.Sprintf("room=%d ", len(published))
	n := 0
	for _, h := range heads {
		if len(h) > len(last) && h[:len(last)] == last {
			n++
		}
	}
	if n < 2 {
		t.Errorf("the last message must be announced twice, but was %d times: %v", n, heads)
	}
}

func TestAnnouncementsAreBounded(t *testing.T) {
	a := announcer{heads: map[string]*announcement{}}
	for i := range maxAnnouncements + 100 {
		a.note(fmt.Sprint("room", i), proto.Position{Offset: 1}, noon)
	}
	if len(a.heads) != maxAnnouncements {
		t.Errorf("%d channels wait to be announced, the bound is %d", len(a.heads), maxAnnouncements)
	}
	a.note("room0", proto.Position{Offset: 2}, noon)
	if got := a.heads["room0"].head.Offset; got != 2 {
		t.Errorf("a channel that waits must be announced with its newest head 2, but it is %d", got)
	}
	a.due(noon.Add(time.Second))
	a.due(noon.Add(5 * time.Second))
	if len(a.heads) != 0 {
		t.Errorf("%d channels are kept after their last announcement", len(a.heads))
	}
}
