package node

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"barrage/cluster"
	"barrage/proto"
)

const kindMoves = "moves"

const (
	// movesEvery is how long a join waits for others, and how exact the time of a leave is.
	movesEvery = 100 * time.Millisecond
	// maxMoves bounds the joins and leaves that wait; those beyond are not told.
	maxMoves = 65_536
	// maxMovesAsked bounds those that go into one question.
	maxMovesAsked = 1024
)

// moves are users on their way into and out of channels of this node: whether that is told, the others are asked.
//
// A user joins a channel when the first of its connections enters it on any node, and leaves when the last has exited and none has
// come back for some seconds; an anonymous connection is a user of its own. So a join asks the other nodes whether they have the
// user, and a leave asks again at its end. Whoever has a leave pending gives it up to the node where the user came back. Of two
// nodes that see a user come the one that asks first tells it, of two that ask at once the one with the lower id; of two that see it
// go, the one whose leave is due later.
type moves struct {
	limit int           // members of a channel whose moves are told
	after time.Duration // that a user may be away
	wake  chan struct{} // one token: something waits
	stats *Stats

	mu       sync.Mutex
	all      map[move]*moving // owner: mu
	arrivals []*moving        // owner: mu; in the order of their coming; some were settled meanwhile
	leaves   []*moving        // owner: mu; likewise, and so by due
}

// move is who moves where.
type move struct{ channel, user, client string } // client is empty unless user is

func moveOf(channel string, m *proto.MemberInfo) move {
	if m.User != "" {
		return move{channel: channel, user: m.User}
	}
	return move{channel: channel, client: m.Client}
}

// moving is one move that was not told yet. Owner: moves.mu.
type moving struct {
	move
	info  proto.MemberInfo
	leave bool
	asked bool      // the other nodes are being asked
	left  bool      // an arrival that was asked, and has left since
	due   time.Time // of a leave
}

// arrive notes that a user has come.
func (s *moves) arrive(key move, info proto.MemberInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.all[key]
	switch {
	case m == nil && max(len(s.all), len(s.arrivals)) >= maxMoves:
		s.stats.MovesDropped.Add(1)
	case m == nil:
		m = &moving{move: key, info: info}
		s.all[key] = m
		s.arrivals = append(s.arrivals, m)
		s.stir()
	case m.leave:
		s.stats.MovesUntold.Add(2)
		delete(s.all, key) // it was never away
	default:
		m.left, m.info = false, info
	}
}

// depart notes that a user has gone.
func (s *moves) depart(key move, info proto.MemberInfo, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.all[key]
	switch {
	case m == nil && max(len(s.all), len(s.leaves)) >= maxMoves:
		s.stats.MovesDropped.Add(1)
	case m == nil:
		s.leaveLater(key, info, now)
	case m.leave:
	case m.asked:
		m.left = true
	default:
		delete(s.all, key) // nobody was told that it came
	}
}

// leaveLater makes a leave. The caller holds mu.
func (s *moves) leaveLater(key move, info proto.MemberInfo, now time.Time) {
	m := &moving{move: key, info: info, leave: true, due: now.Add(s.after)}
	s.all[key] = m
	s.leaves = append(s.leaves, m)
	s.stir()
}

func (s *moves) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns the moves to ask about now, and whether more will come.
func (s *moves) take(now time.Time) (due []*moving, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.arrivals) > 0 && len(due) < maxMovesAsked {
		due = s.askNow(due, s.arrivals[0])
		s.arrivals = s.arrivals[1:]
	}
	for len(s.leaves) > 0 && len(due) < maxMovesAsked && !now.Before(s.leaves[0].due) {
		due = s.askNow(due, s.leaves[0])
		s.leaves = s.leaves[1:]
	}
	return due, len(s.arrivals)+len(s.leaves) > 0
}

// askNow adds m to due unless it was settled. The caller holds mu.
func (s *moves) askNow(due []*moving, m *moving) []*moving {
	if s.all[m.move] != m {
		return due
	}
	m.asked = true
	return append(due, m)
}

// settle ends a move; tell says whether the members are to be told.
func (s *moves) settle(m *moving, present bool) (tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[m.move] != m {
		return false // the user came back meanwhile, or another node has it now
	}
	delete(s.all, m.move)
	if present {
		s.stats.MovesUntold.Add(1)
	}
	if !m.leave && m.left {
		s.leaveLater(m.move, m.info, time.Now())
	}
	return !present
}

// yield answers another node that has a move of the same user: whether the user is here, or this node will tell of it. here is
// whether the user is a member of this node.
func (s *moves) yield(o moveItem, other, own string, leave, here bool) (present bool) {
	key := move{channel: o.Channel, user: o.User}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.all[key]
	switch {
	case m == nil:
		return here
	case !leave && m.leave:
		s.drop(m) // it came back, there
		return true
	case !leave:
		if m.asked && own < other {
			return true
		}
		s.drop(m) // the other node tells
		return false
	case m.leave:
		// Of two leaves the later one is told. Their clocks may differ: what counts is that both see the same order.
		if due := m.due.UnixMilli(); due > o.Due || due == o.Due && own > other {
			return true
		}
		s.drop(m)
		return false
	default:
		s.drop(m) // it was gone there and is here: no leave, no join
		if m.left {
			s.leaveLater(key, m.info, time.Now())
		}
		return true
	}
}

// drop forgets a move that another node knows better. The caller holds mu.
func (s *moves) drop(m *moving) {
	delete(s.all, m.move)
	s.stats.MovesUntold.Add(1)
}

// movesQuestion asks whether users are present.
type movesQuestion struct {
	Arrivals []moveItem `json:"arrivals,omitempty"`
	Leaves   []moveItem `json:"leaves,omitempty"`
}

// moveItem is a move of a user; Due is when a leave is due, in Unix milliseconds.
type moveItem struct {
	Channel string `json:"c"`
	User    string `json:"u"`
	Due     int64  `json:"due,omitempty"`
}

// movesAnswer has the positions of those that are.
type movesAnswer struct {
	Arrivals []int `json:"arrivals,omitempty"`
	Leaves   []int `json:"leaves,omitempty"`
}

// movesLoop settles moves until ctx ends.
func (n *Node) movesLoop(ctx context.Context) {
	for more := false; ; {
		if !more {
			select {
			case <-n.moves.wake:
			case <-ctx.Done():
				return
			}
		}
		if !pause(ctx, movesEvery) {
			return
		}
		var due []*moving
		due, more = n.moves.take(time.Now())
		n.askMoves(due)
	}
}

// askMoves asks the other nodes about moves, and tells the members of those that are news.
func (n *Node) askMoves(due []*moving) {
	var q movesQuestion
	var arrivals, leaves []*moving
	for _, m := range due {
		switch {
		case n.crowd(m.channel) > n.moves.limit:
			n.settle(m, true)
		case m.user == "":
			n.settle(m, false) // an anonymous connection is nowhere else
		case m.leave:
			q.Leaves = append(q.Leaves, moveItem{m.channel, m.user, m.due.UnixMilli()})
			leaves = append(leaves, m)
		default:
			q.Arrivals = append(q.Arrivals, moveItem{Channel: m.channel, User: m.user})
			arrivals = append(arrivals, m)
		}
	}
	if len(arrivals)+len(leaves) == 0 {
		return
	}
	payload, err := json.Marshal(q)
	if err == nil {
		err = n.cluster.Ask(cluster.Query{Kind: kindMoves, Payload: payload, Others: true, Done: func(answers cluster.Answers) {
			n.settleMoves(arrivals, leaves, answers)
		}})
	}
	if err != nil {
		n.settleMoves(arrivals, leaves, cluster.Answers{})
	}
}

// crowd is how many members a channel has on all nodes, as far as is known here.
func (n *Node) crowd(name string) int {
	_, _, size := n.rosters.version(name)
	return max(size, n.hub.Members(name).Members)
}

func (n *Node) settleMoves(arrivals, leaves []*moving, answers cluster.Answers) {
	came, left := make([]bool, len(arrivals)), make([]bool, len(leaves))
	for _, answer := range answers.List {
		var a movesAnswer
		if json.Unmarshal(answer.Payload, &a) != nil {
			continue
		}
		mark(came, a.Arrivals)
		mark(left, a.Leaves)
	}
	for i, m := range arrivals {
		n.settle(m, came[i])
	}
	for i, m := range leaves {
		n.settle(m, left[i])
	}
}

func mark(list []bool, at []int) {
	for _, i := range at {
		if i >= 0 && i < len(list) {
			list[i] = true
		}
	}
}

// settle ends a move and tells the members of it, unless the user is present elsewhere or the move is none any more.
func (n *Node) settle(m *moving, present bool) {
	if !n.moves.settle(m, present) {
		return
	}
	event := proto.MemberEvent{Join: &m.info}
	count := &n.stats.Joins
	if m.leave {
		event, count = proto.MemberEvent{Leave: &m.info}, &n.stats.Leaves
	}
	data, err := json.Marshal(event)
	if err != nil {
		n.log.Error("a join or leave cannot be told", "channel", m.channel, "error", err)
		return
	}
	count.Add(1)
	n.publishLive(Publication{Channel: proto.EventsOf(m.channel), Data: data})
}

// answerMoves tells another node which of its users are here.
func (n *Node) answerMoves(r cluster.Request) ([]byte, error) {
	var q movesQuestion
	if err := json.Unmarshal(r.Payload, &q); err != nil {
		return nil, err
	}
	var a movesAnswer
	for i, o := range q.Arrivals {
		if n.moves.yield(o, r.From, n.id, false, n.has(o.Channel, o.User)) {
			a.Arrivals = append(a.Arrivals, i)
		}
	}
	for i, o := range q.Leaves {
		if n.moves.yield(o, r.From, n.id, true, n.has(o.Channel, o.User)) {
			a.Leaves = append(a.Leaves, i)
		}
	}
	return json.Marshal(a)
}

// has says whether a user is a member of a channel here. A channel that is too large for joins and leaves to be told has everyone.
func (n *Node) has(name, user string) bool {
	r := n.rosters.lookup(name)
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size() > n.moves.limit || r.connections(user, 1) > 0
}

// kindHandOver is telling a node of the leaves that another one, which goes away, has pending.
const kindHandOver = "leaves"

// maxHandOver is how many go into one payload.
const maxHandOver = 256

// handedLeave is a leave that another node is to tell.
type handedLeave struct {
	Channel string           `json:"channel"`
	Member  proto.MemberInfo `json:"member"`
}

// handOver gives the leaves that are pending to another node, if there is one.
func (n *Node) handOver() {
	heir := ""
	for _, other := range n.cluster.Nodes() {
		if other.ID != n.id {
			heir = other.ID
		}
	}
	leaves := n.moves.surrender()
	if heir == "" {
		return
	}
	for some := range slices.Chunk(leaves, maxHandOver) {
		payload, err := json.Marshal(some)
		if err == nil {
			err = n.cluster.Tell(kindHandOver, heir, payload)
		}
		if err != nil {
			n.stats.MovesDropped.Add(int64(len(some)))
		}
	}
}

// surrender takes out all leaves.
func (s *moves) surrender() (leaves []handedLeave) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.all {
		if m.leave || m.left {
			leaves = append(leaves, handedLeave{m.channel, m.info})
		}
	}
	clear(s.all)
	s.arrivals, s.leaves = nil, nil
	return leaves
}

// inherit takes the leaves of a node that goes away: their time begins anew.
func (n *Node) inherit(r cluster.Request) ([]byte, error) {
	var leaves []handedLeave
	if err := json.Unmarshal(r.Payload, &leaves); err != nil {
		return nil, err
	}
	for _, l := range leaves {
		if l.Member.User == "" || !n.has(l.Channel, l.Member.User) {
			n.moves.depart(moveOf(l.Channel, &l.Member), l.Member, time.Now())
		}
	}
	return nil, nil
}
