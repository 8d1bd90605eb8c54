package node

import (
	"context"
	"errors"
	"maps"
	"time"

	"barrage/channel"
	"barrage/journal"
	"barrage/proto"
)

// Bounds of removing history.
const (
	maxRemovals        = 2    // at a time
	maxRemovalsWaiting = 1024 // that wait or run, or are told again; one more is refused
	removeTimeout      = 10 * time.Minute
)

// RemoveHistory removes all messages that a channel has stored by now, on all nodes; the head stays, and what is published
// meanwhile may stay too. done hears once: at once when it is refused, otherwise from another goroutine when the journal has
// removed them, and this node gives none of them from memory any more. Other nodes are told then, and again after 1 s and 6 s; one
// that the broker does not reach in that time may give what it has in memory until newer messages take its place. When it fails a
// part may be removed; doing it again is safe. It never blocks.
func (n *Node) RemoveHistory(name string, done func(*proto.Error)) {
	if n.hub.IsLive(name) {
		done(proto.ErrNotAvailable.With("the channel is live: none of its messages are stored"))
		return
	}
	if n.removing.Add(1) > maxRemovalsWaiting {
		n.removing.Add(-1)
		done(proto.ErrTooMany)
		return
	}
	go func() {
		defer n.removing.Add(-1)
		p, err := n.removeHistory(name)
		if err != nil {
			n.log.Warn("removing history failed", "channel", name, "error", err)
			done(refusedRemoval(err))
			return
		}
		n.tellRemoved(name, p)
		done(nil)
		for i := 0; i < len(announceAfter) && n.broker.Shared() && pause(n.ctx, announceAfter[i]); i++ {
			n.tellRemoved(name, p)
		}
	}()
}

// removeHistory removes what the journal has, and then what this node has in memory. It returns the head up to which nothing is
// to be given from memory.
func (n *Node) removeHistory(name string) (p proto.Position, err error) {
	select {
	case n.removals <- struct{}{}:
		defer func() { <-n.removals }()
	case <-n.ctx.Done():
		return p, journal.ErrClosed
	}
	ctx, cancel := context.WithTimeout(n.ctx, removeTimeout)
	defer cancel()
	if err := n.journal.Remove(ctx, name); err != nil {
		return p, err
	}
	// Messages that came since are at most read from the journal once more.
	heads, err := n.journal.Heads(ctx, []string{name})
	if err != nil {
		return p, err
	}
	p = proto.Position{Epoch: heads.Epoch, Offset: heads.Offsets[0]}
	n.hub.Removed(name, p)
	return p, nil
}

func (n *Node) tellRemoved(name string, p proto.Position) {
	if n.broker.Shared() {
		n.tell(name, &proto.Envelope{Kind: proto.EnvelopeRemoved, Epoch: p.Epoch, Head: p.Offset})
	}
}

func refusedRemoval(err error) *proto.Error {
	for _, passing := range []error{journal.ErrUnavailable, journal.ErrUncertain, journal.ErrClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, passing) {
			return proto.ErrUnavailable
		}
	}
	return proto.ErrInternal
}

// stored is p with live namespaces left out: nothing of theirs is trimmed.
func stored(p journal.Policy, namespaces channel.Namespaces) journal.Policy {
	out := journal.Policy{Default: p.Default, Named: map[string]journal.Retention{}}
	if namespaces.Default.Live {
		out.Default = journal.Retention{}
	}
	maps.Copy(out.Named, p.Named)
	for name, ns := range namespaces.Named {
		if _, own := p.Named[name]; ns.Live {
			out.Named[name] = journal.Retention{}
		} else if !own {
			out.Named[name] = p.Default
		}
	}
	return out
}
