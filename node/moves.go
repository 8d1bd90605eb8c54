package node

import (
	"context"
	"encoding/json"
	"errors"
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
// come back for some seconds; an anonymous connection is a user of its own.
//
// What members were told of a user last is known by the nodes where the user is, and by those that have a leave of it pending: it
// joined. If there are none, it did not, or has left. So a node asks the others before it tells anything, and the nodes decide about
// one user one after the other (by the algorithm of Ricart and Agrawala): each question has a number that is higher than all that
// its node has heard of. While a node asks it lets those wait whose question is later, and they ask again.
type moves struct {
	limit int           // members of a channel whose moves are told
	after time.Duration // that a user may be away
	wake  chan struct{} // one token: something waits
	stats *Stats

	mu       sync.Mutex
	clock    uint64           // owner: mu; the highest number of a question that was asked here or heard of
	all      map[move]*moving // owner: mu
	arrivals []*moving        // owner: mu; in the order of their coming; some were settled meanwhile
	leaves   []*moving        // owner: mu; likewise, and so by due
	again    []*moving        // owner: mu; those that wait for the question of another node; likewise
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
	asked uint64    // the number of the question; 0 while the other nodes are not asked yet
	known bool      // an arrival of which members were told already
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
	case m.asked > 0:
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
	for len(s.again) > 0 && len(due) < maxMovesAsked {
		due = s.askNow(due, s.again[0])
		s.again = s.again[1:]
	}
	for len(s.arrivals) > 0 && len(due) < maxMovesAsked {
		due = s.askNow(due, s.arrivals[0])
		s.arrivals = s.arrivals[1:]
	}
	for len(s.leaves) > 0 && len(due) < maxMovesAsked && !now.Before(s.leaves[0].due) {
		due = s.askNow(due, s.leaves[0])
		s.leaves = s.leaves[1:]
	}
	return due, len(s.arrivals)+len(s.leaves)+len(s.again) > 0
}

// askNow adds m to due unless it was settled. The caller holds mu.
func (s *moves) askNow(due []*moving, m *moving) []*moving {
	if s.all[m.move] != m {
		return due
	}
	if m.asked == 0 {
		s.clock++
		m.asked = s.clock
	}
	return append(due, m)
}

// askAgain lets a move wait for the question of another node.
func (s *moves) askAgain(m *moving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[m.move] == m {
		s.again = append(s.again, m)
		s.stir()
	}
}

// settle ends a move about which all have been asked, or that is not told whatever they say: then there is true. tell says whether the members are to be told.
func (s *moves) settle(m *moving, there bool) (tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[m.move] != m {
		return false // the user came back meanwhile, or another node has it now
	}
	delete(s.all, m.move)
	if there = there || m.known; there {
		s.stats.MovesUntold.Add(1)
	}
	if !m.leave && m.left {
		s.leaveLater(m.move, m.info, time.Now())
	}
	return !there
}

// verdict is what a node says to a move of another one.
type verdict int

const (
	isAbsent  verdict = iota // nothing is known of the user
	isPresent                // members take the user for present, and this node sees to it that they are told when it leaves
	mustWait                 // this node has asked earlier: ask again
)

// answer says to a move of another node what is known of its user. here is whether the user is a member of this node, whose roster of
// the channel is locked, if there is one.
func (s *moves) answer(o moveItem, other, own string, leave, here bool) verdict {
	key := move{channel: o.Channel, user: o.User}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = max(s.clock, o.Asked)
	m := s.all[key]
	switch {
	case m == nil && here:
		return isPresent
	case m == nil:
		return isAbsent
	case m.asked > 0 && (m.asked < o.Asked || m.asked == o.Asked && own < other):
		return mustWait
	case m.leave || m.known:
		return isPresent
	case leave && m.asked > 0:
		m.known = true // it was gone there and is here: no leave, no join
		return isPresent
	case leave:
		delete(s.all, key)
		s.stats.MovesUntold.Add(1)
		return isPresent
	}
	return isAbsent // it asks later, and finds the user there
}

// movesQuestion asks whether users are present.
type movesQuestion struct {
	Arrivals []moveItem `json:"arrivals,omitempty"`
	Leaves   []moveItem `json:"leaves,omitempty"`
}

// moveItem is a move of a user; Asked is the number of the question about it.
type moveItem struct {
	Channel string `json:"c"`
	User    string `json:"u"`
	Asked   uint64 `json:"n"`
}

// movesAnswer has the positions of those that are, and of those about which this node has asked earlier and does not know yet.
type movesAnswer struct {
	Arrivals      []int `json:"arrivals,omitempty"`
	Leaves        []int `json:"leaves,omitempty"`
	ArrivalsAgain []int `json:"arrivals_again,omitempty"`
	LeavesAgain   []int `json:"leaves_again,omitempty"`
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
			q.Leaves = append(q.Leaves, moveItem{m.channel, m.user, m.asked})
			leaves = append(leaves, m)
		default:
			q.Arrivals = append(q.Arrivals, moveItem{m.channel, m.user, m.asked})
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
	if asked := len(arrivals) + len(leaves); errors.Is(err, cluster.ErrTooLarge) && asked > 1 {
		all := slices.Concat(arrivals, leaves)
		n.askMoves(all[:asked/2])
		n.askMoves(all[asked/2:])
		return
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
	came, left := make([]verdict, len(arrivals)), make([]verdict, len(leaves))
	for _, answer := range answers.List {
		var a movesAnswer
		if json.Unmarshal(answer.Payload, &a) != nil {
			continue
		}
		mark(came, a.Arrivals, isPresent)
		mark(left, a.Leaves, isPresent)
		mark(came, a.ArrivalsAgain, mustWait)
		mark(left, a.LeavesAgain, mustWait)
	}
	for i, m := range arrivals {
		n.conclude(m, came[i])
	}
	for i, m := range leaves {
		n.conclude(m, left[i])
	}
}

// mark notes what a node said of those at some positions: of several verdicts the highest counts.
func mark(list []verdict, at []int, v verdict) {
	for _, i := range at {
		if i >= 0 && i < len(list) {
			list[i] = max(list[i], v)
		}
	}
}

func (n *Node) conclude(m *moving, v verdict) {
	if v == mustWait {
		n.moves.askAgain(m)
		return
	}
	n.settle(m, v == isPresent)
}

// settle ends a move and tells the members of it, unless the user is present elsewhere or the move is none any more.
func (n *Node) settle(m *moving, there bool) {
	if !n.moves.settle(m, there) {
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
		switch n.answerMove(o, r.From, false) {
		case isPresent:
			a.Arrivals = append(a.Arrivals, i)
		case mustWait:
			a.ArrivalsAgain = append(a.ArrivalsAgain, i)
		}
	}
	for i, o := range q.Leaves {
		switch n.answerMove(o, r.From, true) {
		case isPresent:
			a.Leaves = append(a.Leaves, i)
		case mustWait:
			a.LeavesAgain = append(a.LeavesAgain, i)
		}
	}
	return json.Marshal(a)
}

// answerMove answers one of them. A channel that is too large for joins and leaves to be told has everyone.
func (n *Node) answerMove(o moveItem, other string, leave bool) verdict {
	here := false
	if r := n.rosters.lookup(o.Channel); r != nil {
		r.mu.Lock() // nobody comes or goes meanwhile
		defer r.mu.Unlock()
		here = r.size() > n.moves.limit || r.connections(o.User, 1) > 0
	}
	return n.moves.answer(o, other, n.id, leave, here)
}

// has says whether a user is a member of a channel here.
func (n *Node) has(name, user string) bool {
	r := n.rosters.lookup(name)
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.connections(user, 1) > 0
}

// kindHandOver is telling a node of the leaves that another one, which goes away, has pending.
const kindHandOver = "leaves"

// maxHandOver is how many go into one payload, fewer when they would be too large.
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
	for size := maxHandOver; len(leaves) > 0; {
		size = min(size, len(leaves))
		payload, err := json.Marshal(leaves[:size])
		if err == nil {
			err = n.cluster.Tell(kindHandOver, heir, payload)
		}
		if errors.Is(err, cluster.ErrTooLarge) && size > 1 {
			size /= 2
			continue
		}
		if err != nil {
			n.stats.MovesDropped.Add(int64(size))
		}
		leaves = leaves[size:]
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
	s.arrivals, s.leaves, s.again = nil, nil, nil
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
