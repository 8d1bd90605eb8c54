package cluster

import (
	"slices"
	"time"
)

// A node that was killed and started again has its old name and a new id. Nobody is to wait for the old id until its lease ends, so
// the others take it for replaced. Two live nodes that were given one name by mistake must not be taken for that, and nobody's clock
// is as another's; so this is how a node decides, for itself, with nothing but its own clock and what heartbeats say of uptimes:
//
//   - Only a node that started later replaces another one.
//   - A node that hears a new one with its own name says at once, to all, that it is alive. A node that was not heard of since
//     proofTime before the new one started (that word may arrive before any of the new one), and for proofTime after that was first
//     heard of, is replaced.
//   - A node that was heard of about when the new one started, or after that, may be alive, or what it said was late: it is replaced
//     when it is silent for more than a heartbeat. When it was heard of more than a heartbeat after the new one started, it is alive: both are, it is said in
//     the log, and from then on each has its own lease and nothing else. So two nodes with one name never take turns.
//   - A replaced node that is heard of again is back: it was cut off, and somebody started another one in its place.

// proofTime is how long a live node has to say that it is not the one that is replaced. Should that be lost, its next heartbeat says
// so.
const proofTime = 250 * time.Millisecond

// patience is how long after its last heartbeat another one should have been heard.
func (c *Cluster) patience() time.Duration { return c.o.Heartbeat + c.o.Heartbeat/4 }

// introduce finds out who has the same name as a node that is new here. The caller holds mu.
func (c *Cluster) introduce(p *peer) {
	if p.Name == c.o.Name {
		p.meet(c.self)
	}
	for _, q := range c.peers {
		if q != p && q.Name == p.Name {
			p.meet(q)
			q.meet(p)
		}
	}
}

// meet notes q, which has the same name, when it is the one that may replace p.
func (p *peer) meet(q *peer) {
	if !q.gone && q.begun.After(p.begun) && (p.heir == nil || p.heir.gone || q.begun.After(p.heir.begun)) {
		p.heir = q
	}
}

// replacedAt is when a live node is to be taken for replaced unless it is heard of before; ok is false when it is not. The
// caller holds mu.
func (c *Cluster) replacedAt(p *peer) (at time.Time, ok bool) {
	h := p.heir
	switch {
	case h == nil || h.gone || !h.begun.After(p.begun):
		return at, false
	case p.spoke.Before(h.begun.Add(-proofTime)):
		return later(h.since, p.heard).Add(proofTime), true
	case p.spoke.Before(h.begun.Add(c.patience())):
		return p.heard.Add(c.patience()), true // nobody could be heard of while the broker was down
	}
	return at, false
}

// replace takes a node for replaced: what its heir answers counts for both. The caller holds mu.
func (c *Cluster) replace(p *peer, now time.Time) {
	p.gone, p.replaced, p.heard = true, true, now
	for _, a := range c.asks {
		if p.heir == c.self || a.includes(p.heir) {
			c.pass(a, p.id)
		} else {
			c.miss(a, p.id)
		}
	}
}

// includes says whether a question is put to a node, or its name is missing already.
func (a *ask) includes(p *peer) bool {
	if _, waits := a.waiting[p.id]; waits {
		return true
	}
	for _, answer := range a.answers.List {
		if answer.Node == p.id {
			return true
		}
	}
	return slices.Contains(a.answers.Missing, p.Name)
}

// pass waits for a node no longer, and does not miss it. The caller holds mu.
func (c *Cluster) pass(a *ask, node string) {
	delete(a.waiting, node)
	c.endIfAnswered(a)
}

// namesake returns the id of a live node with the name of p, which has just been heard of, when both are certainly alive and it was
// not said yet. The caller holds mu.
func (c *Cluster) namesake(p *peer, now time.Time) (other string, found bool) {
	var begun time.Time
	switch {
	case p.told:
		return "", false
	case p.Name == c.o.Name:
		other, begun = c.o.ID, later(c.started, p.begun)
	case p.heir != nil && !p.heir.gone:
		other, begun = p.heir.id, p.heir.begun
	default:
		return "", false
	}
	if now.Before(begun.Add(c.patience())) {
		return "", false
	}
	p.told = true
	return other, true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
