package cluster

import "time"

// windowIDs is how far behind the newest request of a node another one may be. One that is further behind counts as repeated.
const windowIDs = 1024

// forgetAfter is longer than any payload is under way.
const forgetAfter = 5 * time.Minute

// sender remembers which requests of a node were done, so that a broker may repeat them.
type sender struct {
	last uint64                 // the highest id
	done [windowIDs / 64]uint64 // bit id%windowIDs, for the ids in (last-windowIDs, last]
	at   time.Time
}

// add reports whether id is new.
func (s *sender) add(id uint64) bool {
	if s.last >= windowIDs && id <= s.last-windowIDs {
		return false
	}
	if id > s.last {
		if id-s.last >= windowIDs {
			clear(s.done[:])
		} else {
			for n := range id - s.last {
				i := s.last + 1 + n
				s.done[i%windowIDs/64] &^= 1 << (i % 64)
			}
		}
		s.last = id
	}
	word, bit := &s.done[id%windowIDs/64], uint64(1)<<(id%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// isNew says whether a request of a node was not heard before. The caller holds mu.
func (c *Cluster) isNew(node string, id uint64) bool {
	s := c.senders[node]
	if s == nil {
		if len(c.senders) >= 4*maxPeers {
			return false
		}
		s = &sender{}
		c.senders[node] = s
	}
	s.at = time.Now()
	return s.add(id)
}

// forgetSenders forgets the nodes that asked nothing for long. The caller holds mu.
func (c *Cluster) forgetSenders(now time.Time) {
	for node, s := range c.senders {
		if now.Sub(s.at) > forgetAfter {
			delete(c.senders, node)
		}
	}
}
