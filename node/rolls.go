package node

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/axiomhq/hyperloglog"

	"barrage/cluster"
	"barrage/proto"
)

const kindRoll = "roll"

// maxRolls bounds the answers that are kept; others are asked for anew each time.
const maxRolls = 16_384

// rollEvery is the shortest time between two questions about a room that changes: those who ask meanwhile wait for the next. So a room
// that many enter, each of whom wants to find itself, costs so many questions and no more.
const rollEvery = 100 * time.Millisecond

const (
	// maxRollsUnderWay bounds the questions under way, and with them the goroutines that give answers; those beyond are refused.
	maxRollsUnderWay = 1024
	// rollPlaces is how many answers are put together and given at once: encoding them takes long where many ask.
	rollPlaces = 2
	// maxRosterBytes bounds the members of a roster, as JSON: with more they are a sample.
	maxRosterBytes = 512 << 10
)

// rolls are the rosters asked for of late.
type rolls struct {
	limit int
	fresh time.Duration

	wg     sync.WaitGroup // of the goroutines that give answers: none begins once the Cluster is closed
	places chan struct{}  // a place for each of them that works

	mu       sync.Mutex
	calls    map[rollQuestion]*roll // owner: mu; swept while there are any
	underWay int                    // owner: mu; questions whose answers were not given to all yet
}

// rollQuestion asks who is in a channel; without List only how many.
type rollQuestion struct {
	Channel string `json:"channel"`
	List    bool   `json:"list,omitempty"`
}

// roll is an answer, or the wait for it.
type roll struct {
	began   time.Time                          // owner: rolls.mu; when the nodes were asked, zero while its turn has not come
	of      uint64                             // owner: rolls.mu; the id of this node's roster then, 0 for none: the roster itself may be gone
	changes uint64                             // owner: rolls.mu; likewise
	waiting []func(proto.Roster, *proto.Error) // owner: rolls.mu
	done    bool                               // owner: rolls.mu
	at      time.Time                          // owner: rolls.mu; when it was done
	roster  proto.Roster                       // immutable once done
}

// rollAnswer is what one node has.
type rollAnswer struct {
	Members []proto.MemberInfo `json:"members,omitempty"`
	Clients int                `json:"clients"`
	// Anonymous is how many of them have no user id.
	Anonymous int `json:"anonymous,omitempty"`
	// Hashes are the 64-bit hashes of all distinct users, 8 bytes each; or Sketch is a HyperLogLog of them.
	Hashes []byte `json:"hashes,omitempty"`
	Sketch []byte `json:"sketch,omitempty"`
}

// Presence lists who is in a channel on all nodes; see PresenceOptions. The roster is shared and must not be changed. done
// hears once, from another goroutine or at once; it never blocks.
func (n *Node) Presence(name string, done func(proto.Roster, *proto.Error)) {
	n.call(rollQuestion{Channel: name, List: true}, done)
}

// Counts counts who is in a channel on all nodes. done hears once, from another goroutine or at once; it never blocks.
func (n *Node) Counts(name string, done func(proto.Counts, *proto.Error)) {
	n.call(rollQuestion{Channel: name}, func(r proto.Roster, err *proto.Error) { done(r.Counts, err) })
}

// call asks all nodes, unless that was done just now, or is being done.
func (n *Node) call(q rollQuestion, done func(proto.Roster, *proto.Error)) {
	of, changes, size := n.rosters.version(q.Channel)
	s := &n.rolls
	s.mu.Lock()
	r := s.calls[q]
	// Who has just entered a small room here must find itself in its roster.
	if r != nil && (r.began.IsZero() || size > s.limit || r.of == of && r.changes == changes) {
		switch {
		case !r.done:
			r.waiting = append(r.waiting, done)
			s.mu.Unlock()
			n.stats.RostersShared.Add(1)
			return
		case time.Since(r.at) < s.fresh:
			s.mu.Unlock()
			n.stats.RostersShared.Add(1)
			done(r.roster, nil)
			return
		}
	}
	if s.underWay >= maxRollsUnderWay {
		s.mu.Unlock()
		done(proto.Roster{}, proto.ErrTooMany)
		return
	}
	s.underWay++
	wait := time.Duration(0)
	if r != nil {
		wait = rollEvery - time.Since(r.began)
	}
	next := &roll{waiting: []func(proto.Roster, *proto.Error){done}}
	s.keep(q, next)
	s.mu.Unlock()
	if wait > 0 {
		time.AfterFunc(wait, func() { n.askRoll(q, next) })
		return
	}
	n.askRoll(q, next)
}

// keep notes what others who ask the same are to share, in place of what was noted before, if there is room. The caller holds mu.
func (s *rolls) keep(q rollQuestion, r *roll) {
	if _, kept := s.calls[q]; !kept && len(s.calls) >= maxRolls {
		return
	}
	if len(s.calls) == 0 {
		time.AfterFunc(s.fresh, s.sweep)
	}
	s.calls[q] = r
}

// askRoll asks all nodes.
func (n *Node) askRoll(q rollQuestion, r *roll) {
	of, changes, _ := n.rosters.version(q.Channel)
	n.rolls.mu.Lock()
	r.began, r.of, r.changes = time.Now(), of, changes // who enters from now on does not share it
	n.rolls.mu.Unlock()
	n.stats.Rosters.Add(1)
	question, err := json.Marshal(q)
	if err == nil {
		err = n.cluster.Ask(cluster.Query{Kind: kindRoll, Payload: question, Done: func(a cluster.Answers) {
			n.rolls.wg.Go(func() { // the Cluster's goroutine has heartbeats to send
				n.rolls.places <- struct{}{}
				defer func() { <-n.rolls.places }()
				n.called(q, r, n.merge(a, q.List), nil)
			})
		}})
	}
	if err != nil {
		n.called(q, r, proto.Roster{}, proto.ErrTooMany)
	}
}

// version tells in which state a channel's roster is here.
func (s *rosters) version(name string) (id, changes uint64, size int) {
	r := s.lookup(name)
	if r == nil {
		return 0, 0, 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id, r.changes, r.size()
}

// sweep drops the answers that are not given any more, until none are left.
func (s *rolls) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for q, r := range s.calls {
		if r.done && now.Sub(r.at) >= s.fresh {
			delete(s.calls, q)
		}
	}
	if len(s.calls) > 0 {
		time.AfterFunc(s.fresh, s.sweep)
	}
}

// called gives an answer to all who wait for it.
func (n *Node) called(q rollQuestion, r *roll, roster proto.Roster, err *proto.Error) {
	s := &n.rolls
	s.mu.Lock()
	r.done, r.at, r.roster = true, time.Now(), roster
	waiting := r.waiting
	r.waiting = nil
	if err != nil {
		r.at = time.Time{} // it is not given again
	}
	s.mu.Unlock()
	for _, done := range waiting {
		done(roster, err)
	}
	s.mu.Lock()
	s.underWay--
	s.mu.Unlock()
}

// said is an answer that was given.
type said struct {
	at      time.Time
	payload []byte
}

// answerRoll tells a node who is here. To count a large roster takes long, so the answer is given again to other nodes for half
// as long as they give it to their clients.
func (n *Node) answerRoll(q cluster.Request) ([]byte, error) {
	var question rollQuestion
	if err := json.Unmarshal(q.Payload, &question); err != nil {
		return nil, err
	}
	r := n.rosters.lookup(question.Channel)
	if r == nil {
		return json.Marshal(rollAnswer{})
	}
	list := 0
	if question.List {
		list = 1
	}
	r.mu.Lock()
	if last := r.said[list]; r.size() > n.rolls.limit && time.Since(last.at) < n.rolls.fresh/2 {
		r.mu.Unlock()
		return last.payload, nil
	}
	a := r.roll(n.rolls.limit, question.List)
	r.mu.Unlock()
	b, err := a.encode()
	if err == nil && a.Clients > n.rolls.limit {
		r.mu.Lock()
		r.said[list] = said{time.Now(), b}
		r.mu.Unlock()
	}
	return b, err
}

// encode writes an answer, with fewer members when it is too large: the count says that they are not all.
func (a *rollAnswer) encode() ([]byte, error) {
	for {
		b, err := json.Marshal(a)
		if err != nil || len(b) <= cluster.MaxAnswer || len(a.Members) == 0 {
			return b, err
		}
		a.Members = a.Members[:len(a.Members)/2]
	}
}

// roll counts the members, and lists them, or a sample. The roster is locked.
func (r *roster) roll(limit int, list bool) (a rollAnswer) {
	a.Clients = r.size()
	users := tally{limit: limit}
	pick := newSampler(a.Clients, limit)
	r.each(func(k clientKey, odd string, m member) bool {
		if user := m.user.Value(); user == "" {
			a.Anonymous++
		} else {
			users.add(hashUser(user))
		}
		if list && pick.next() {
			client := odd
			if client == "" {
				client = k.String()
			}
			a.Members = append(a.Members, m.info(client))
		}
		return true
	})
	a.Hashes, a.Sketch = users.encode()
	return a
}

// merge makes one roster of what all nodes said.
func (n *Node) merge(answers cluster.Answers, list bool) (out proto.Roster) {
	out.Missing = answers.Missing
	users := tally{limit: int(^uint(0) >> 1)}
	var parts []rollAnswer
	anonymous := 0
	for _, answer := range answers.List {
		var a rollAnswer
		if json.Unmarshal(answer.Payload, &a) != nil || a.Clients < 0 || a.Anonymous < 0 || !users.merge(a.Hashes, a.Sketch) {
			out.Missing = append(out.Missing, answer.Name)
			continue
		}
		out.Clients += a.Clients
		anonymous += a.Anonymous
		parts = append(parts, a)
	}
	slices.Sort(out.Missing)
	out.Users, out.Exact = users.count()
	out.Users += anonymous
	if !list {
		return out
	}
	for _, a := range parts {
		out.Members = append(out.Members, share(a, out.Clients, n.rolls.limit)...)
	}
	out.Members = fit(out.Members[:min(len(out.Members), n.rolls.limit)])
	out.Sampled = len(out.Members) < out.Clients
	out.Share()
	return out
}

// fit leaves as many members, evenly, as have room in a roster.
func fit(members []proto.MemberInfo) []proto.MemberInfo {
	for {
		size := 0
		for i := range members {
			b, _ := json.Marshal(&members[i]) // they have just been read
			size += len(b) + 1
		}
		if size <= maxRosterBytes {
			return members
		}
		pick := newSampler(len(members), len(members)*maxRosterBytes/size)
		members = slices.DeleteFunc(members, func(proto.MemberInfo) bool { return !pick.next() })
	}
}

// share is the part of a sample of limit members that belongs to one node of a channel with total members.
func share(a rollAnswer, total, limit int) []proto.MemberInfo {
	if total <= limit {
		return a.Members
	}
	want := (a.Clients*limit + total - 1) / total
	pick := newSampler(len(a.Members), want)
	return slices.DeleteFunc(a.Members, func(proto.MemberInfo) bool { return !pick.next() })
}

// sampler picks want of total, evenly.
type sampler struct{ total, want, sum int }

func newSampler(total, want int) sampler {
	s := sampler{total: total, want: min(total, want)}
	if total > 0 {
		s.sum = rand.IntN(total)
	}
	return s
}

func (s *sampler) next() bool {
	if s.sum += s.want; s.sum < s.total {
		return false
	}
	s.sum -= s.total
	return true
}

// tally counts distinct users: exactly up to limit, then by a HyperLogLog of 16,384 registers, whose standard error is 0.81 %.
type tally struct {
	limit  int
	exact  map[uint64]struct{}
	sketch *hyperloglog.Sketch // not nil: exact is not used any more
}

func (t *tally) add(hash uint64) {
	if t.sketch != nil {
		t.sketch.InsertHash(hash)
		return
	}
	if t.exact == nil {
		t.exact = map[uint64]struct{}{}
	}
	if t.exact[hash] = struct{}{}; len(t.exact) > t.limit {
		t.estimate()
	}
}

// estimate counts no longer exactly.
func (t *tally) estimate() {
	if t.sketch == nil {
		t.sketch = hyperloglog.New()
		for hash := range t.exact {
			t.sketch.InsertHash(hash)
		}
		t.exact = nil
	}
}

// merge adds what encode wrote, and reports false when that cannot be read.
func (t *tally) merge(hashes, sketch []byte) bool {
	if len(hashes)%8 != 0 {
		return false
	}
	if len(sketch) > 0 {
		other := hyperloglog.New()
		if other.UnmarshalBinary(sketch) != nil {
			return false
		}
		t.estimate()
		if t.sketch.Merge(other) != nil {
			return false
		}
	}
	for ; len(hashes) > 0; hashes = hashes[8:] {
		t.add(binary.LittleEndian.Uint64(hashes))
	}
	return true
}

func (t *tally) encode() (hashes, sketch []byte) {
	if t.sketch != nil {
		sketch, _ = t.sketch.MarshalBinary() // it has no errors
		return nil, sketch
	}
	for hash := range t.exact {
		hashes = binary.LittleEndian.AppendUint64(hashes, hash)
	}
	return hashes, nil
}

func (t *tally) count() (n int, exact bool) {
	if t.sketch != nil {
		return int(t.sketch.Estimate()), false
	}
	return len(t.exact), true
}

// hashUser is the same on all nodes: FNV-1a, with its bits mixed well enough for a HyperLogLog.
func hashUser(user string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(user) {
		h = (h ^ uint64(user[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
