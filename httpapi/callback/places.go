package callback

import (
	"sync"
	"time"

	"barrage/proto"
	"barrage/session/centrifuge"
)

// maxCalls is how many calls are under way at most.
const maxCalls = 256

// holder is who holds places: a user with all its connections, or a connection of nobody.
type holder struct{ user, client string }

func holderOf(c *centrifuge.Call) holder {
	if c.Identity != nil && c.Identity.User != "" {
		return holder{user: c.Identity.User}
	}
	return holder{client: c.Client}
}

// places are what calls under way hold. The zero value has all places free.
type places struct {
	mu     sync.Mutex
	closed bool           // owner: mu; no place is given any more
	taken  int            // owner: mu
	held   map[holder]int // owner: mu; no more than taken
	wg     sync.WaitGroup // of calls that got a place, until they are answered; added to under mu, while not closed
}

// take takes a place, which must be given back; afterwards wg is told when the call was answered. A holder gets another one as long as
// it has less than a third of what is free: a quarter of all when it is alone, as many as a connection may have commands under way, and
// the less the more others have. So a few never take everything, and who has none gets one while there is one.
func (p *places) take(h holder) *proto.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errEnding
	case p.held[h]*3 >= maxCalls-p.taken:
		return proto.ErrTooMany.After(time.Second)
	}
	if p.held == nil {
		p.held = map[holder]int{}
	}
	p.held[h]++
	p.taken++
	p.wg.Add(1)
	return nil
}

func (p *places) give(h holder) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[h]--; p.held[h] == 0 {
		delete(p.held, h)
	}
	p.taken--
}

// close ends the giving of places. wg may be waited for afterwards.
func (p *places) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}
