package node

import (
	"context"
	"sync"
	"time"

	"barrage/internal/every"
	"barrage/proto"
)

// announceAfter is when a head is told again after a publish: a message that was lost on its way to another node, with none after
// it to reveal the gap, is found then.
var announceAfter = [...]time.Duration{time.Second, 5 * time.Second}

const (
	announceEvery = 250 * time.Millisecond
	// maxAnnouncements bounds the channels whose heads wait to be announced; others are found by the next comparison
	// with the journal.
	maxAnnouncements = 65_536
)

// announcer remembers the heads of the channels published into lately.
type announcer struct {
	mu    sync.Mutex
	heads map[string]*announcement // owner: mu
}

type announcement struct {
	head  proto.Position
	since time.Time // of the last publish
	step  int       // of announceAfter, the next to do
}

// note takes the head after a publish; announcing begins anew. An announcement that is due soon stays due, so that a channel
// that is busy all the time is announced all the same.
func (a *announcer) note(name string, head proto.Position, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.heads[name]
	if e == nil {
		if len(a.heads) >= maxAnnouncements {
			return
		}
		e = &announcement{since: now}
		a.heads[name] = e
	}
	e.head = head
	if e.step > 0 {
		e.since, e.step = now, 0
	}
}

// named is a head to announce.
type named struct {
	name string
	head proto.Position
}

// due returns the heads to announce now.
func (a *announcer) due(now time.Time) (heads []named) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, e := range a.heads {
		if now.Sub(e.since) < announceAfter[e.step] {
			continue
		}
		heads = append(heads, named{name, e.head})
		if e.step++; e.step == len(announceAfter) {
			delete(a.heads, name)
		}
	}
	return heads
}

func (n *Node) announceLoop(ctx context.Context) {
	every.Interval(ctx, announceEvery, func() {
		for _, h := range n.announcer.due(time.Now()) {
			n.tell(h.name, &proto.Envelope{Kind: proto.EnvelopeHead, Epoch: h.head.Epoch, Head: h.head.Offset})
		}
	})
}

// membersEvery is how often the numbers of members are told to other nodes: when they changed, and every other time anyway.
const membersEvery = 5 * time.Second

func (n *Node) membersLoop(ctx context.Context) {
	told := map[string]int{}
	for turn := 0; ; turn++ {
		if !pause(ctx, membersEvery) {
			return
		}
		counts := n.hub.Local()
		for name, members := range counts {
			if turn%2 == 0 || told[name] != members {
				n.tell(name, &proto.Envelope{Kind: proto.EnvelopeMembers, Members: uint32(members)})
			}
		}
		for name := range told {
			if _, still := counts[name]; !still {
				n.tell(name, &proto.Envelope{Kind: proto.EnvelopeMembers})
			}
		}
		told = counts
	}
}

// pause reports false when ctx ends before d is over.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
