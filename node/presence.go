package node

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"
	"unique"

	"barrage/proto"
)

// PresenceOptions say how rosters are made. The zero value of each field means its default. All nodes need about the same.
type PresenceOptions struct {
	// Limit is how many members a roster lists, and up to how many distinct users on a node are counted exactly; 1,000 by default.
	Limit int
	// Fresh is how long an answer is given again; 1 s by default.
	Fresh time.Duration
	// Announce is up to how many members of a channel joins and leaves are told; 200 by default, never when it is negative.
	Announce int
	// Return is how long a user may be away without a leave being told; 3 s by default.
	Return time.Duration
}

func (o *PresenceOptions) complete() {
	if o.Limit <= 0 {
		o.Limit = 1000
	}
	if o.Fresh <= 0 {
		o.Fresh = time.Second
	}
	if o.Announce == 0 {
		o.Announce = 200
	}
	if o.Return <= 0 {
		o.Return = 3 * time.Second
	}
}

// rosters are the members of this node by channel.
type rosters struct {
	mu   sync.RWMutex
	list map[string]*roster // owner: mu; none of them is empty for long
	last uint64             // owner: mu; the id of the newest
}

// roster is who is in one channel here.
type roster struct {
	id       uint64 // unique on this node; never 0
	mu       sync.Mutex
	gone     bool                 // owner: mu; it was empty, and is not in rosters any more
	announce bool                 // owner: mu; as the last Enter said
	changes  uint64               // owner: mu
	members  map[clientKey]member // owner: mu
	odd      map[string]member    // owner: mu; those whose client id does not fit into a clientKey
	said     [2]said              // owner: mu; of a large roster, what nodes were told without and with a list
}

// clientKey is a client id of at most 16 bytes, filled up with zeros: it needs no memory besides.
type clientKey [16]byte

// fitClient makes the key of a client id; ok is false when it does not fit.
func fitClient(id string) (k clientKey, ok bool) {
	if len(id) > len(k) || strings.HasSuffix(id, "\x00") {
		return k, false
	}
	copy(k[:], id)
	return k, true
}

func (k clientKey) String() string { return string(bytes.TrimRight(k[:], "\x00")) }

// member is a connection. The user's name is kept once for all that have the same.
type member struct {
	user  unique.Handle[string]
	about *about // nil for nothing
}

// about is what tokens say of a member.
type about struct{ info, chanInfo json.RawMessage }

// anonymous is the user of those who have no user id.
var anonymous = unique.Make("")

func newMember(m proto.MemberInfo) member {
	made := member{user: anonymous}
	if m.User != "" {
		made.user = unique.Make(m.User)
	}
	if len(m.Info)+len(m.ChanInfo) > 0 {
		made.about = &about{keepJSON(m.Info), keepJSON(m.ChanInfo)}
	}
	return made
}

// keepJSON copies what is JSON.
func keepJSON(b json.RawMessage) json.RawMessage {
	if !json.Valid(b) {
		return nil
	}
	return bytes.Clone(b)
}

func (m member) info(client string) proto.MemberInfo {
	i := proto.MemberInfo{User: m.user.Value(), Client: client}
	if m.about != nil {
		i.Info, i.ChanInfo = m.about.info, m.about.chanInfo
	}
	return i
}

// lookup returns the roster of a channel; nil when there is none.
func (s *rosters) lookup(name string) *roster {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.list[name]
}

// open returns the roster of a channel, locked, and makes it when there is none.
func (s *rosters) open(name string) *roster {
	for {
		r := s.lookup(name)
		if r == nil {
			s.mu.Lock()
			if r = s.list[name]; r == nil {
				s.last++
				r = &roster{id: s.last, members: map[clientKey]member{}}
				s.list[strings.Clone(name)] = r
			}
			s.mu.Unlock()
		}
		r.mu.Lock()
		if !r.gone {
			return r
		}
		r.mu.Unlock()
	}
}

// close takes an empty roster out.
func (s *rosters) close(name string, r *roster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list[name] == r {
		delete(s.list, name)
	}
}

// The rest of roster's methods need it to be locked.

func (r *roster) size() int { return len(r.members) + len(r.odd) }

// put adds a member, and reports whether its client was not there before.
func (r *roster) put(client string, m member) bool {
	before := r.size()
	r.changes++
	if k, ok := fitClient(client); ok {
		r.members[k] = m
	} else {
		if r.odd == nil {
			r.odd = map[string]member{}
		}
		r.odd[strings.Clone(client)] = m
	}
	return r.size() > before
}

// take removes a member.
func (r *roster) take(client string) (m member, ok bool) {
	if k, fits := fitClient(client); fits {
		m, ok = r.members[k]
		delete(r.members, k)
	} else {
		m, ok = r.odd[client]
		delete(r.odd, client)
	}
	if ok {
		r.changes++
	}
	return m, ok
}

// each calls fn with all members until it returns false: with a key, or an odd client id.
func (r *roster) each(fn func(k clientKey, odd string, m member) bool) {
	for k, m := range r.members {
		if !fn(k, "", m) {
			return
		}
	}
	for odd, m := range r.odd {
		if !fn(clientKey{}, odd, m) {
			return
		}
	}
}

// connections counts those of a user, up to limit.
func (r *roster) connections(user string, limit int) (n int) {
	handle := unique.Make(user)
	r.each(func(_ clientKey, _ string, m member) bool {
		if m.user == handle {
			n++
		}
		return n < limit
	})
	return n
}

// Enter tells that a connection of this node is a member of a channel, as m describes it. With announce the other members are
// told too, where the channel is small. It may be called with locks held: it only notes what it is told.
func (n *Node) Enter(name string, m proto.MemberInfo, announce bool) {
	r := n.rosters.open(name)
	defer r.mu.Unlock()
	r.announce = announce
	if r.put(m.Client, newMember(m)) && announce && r.size() <= n.moves.limit &&
		(m.User == "" || r.connections(m.User, 2) == 1) {
		n.moves.arrive(moveOf(name, &m), m)
	}
}

// Exit ends what Enter began. It may be called with locks held, and for a client that never entered.
func (n *Node) Exit(name, client string) {
	r := n.rosters.lookup(name)
	if r == nil {
		return
	}
	r.mu.Lock()
	m, was := r.take(client)
	if was && r.announce && r.size() < n.moves.limit {
		info := m.info(client)
		if info.User == "" || r.connections(info.User, 1) == 0 {
			n.moves.depart(moveOf(name, &info), info, time.Now())
		}
	}
	empty := r.size() == 0 && !r.gone
	if empty {
		r.gone = true
	}
	r.mu.Unlock()
	if empty {
		n.rosters.close(name, r)
	}
}
