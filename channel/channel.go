package channel

import (
	"sync"
	"time"

	"barrage/fanout"
	"barrage/journal"
	"barrage/proto"
)

// Channel is one channel with members on this node. Its lock guards everything in it.
type Channel struct {
	hub  *Hub
	name string

	mu      sync.Mutex
	seq     Sequencer
	tail    tail
	feeds   []*fanout.Feed // by format; nil until its first member
	waiting []*joining     // members that cannot be placed yet
	timer   *time.Timer    // for Verdict.Wake
	idle    time.Time      // since when there are no members
	gone    bool           // taken out of the hub
	remote  map[string]lease
}

// lease is how many members another node last told of.
type lease struct {
	members int
	until   time.Time
}

// joining is a member on its way in.
type joining struct {
	JoinRequest
	since    time.Time
	oldest   proto.Offset // answers askOldest
	verified bool         // answers askHead
}

// entries takes committed messages.
func (c *Channel) entries(epoch proto.Epoch, messages []proto.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(c.seq.Entries(c.hub.now(), epoch, messages))
}

// headIs takes news of the head.
func (c *Channel) headIs(p proto.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(c.seq.Head(c.hub.now(), p))
}

// suspect asks for a look at the journal.
func (c *Channel) suspect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(c.seq.Suspect(c.hub.now()))
}

func (c *Channel) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(c.seq.Tick(c.hub.now()))
}

// fetched takes the answer to a Verdict's Fetch.
func (c *Channel) fetched(p journal.Page, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.apply(c.seq.FetchFailed(c.hub.now()))
		return
	}
	c.apply(c.seq.Fetched(c.hub.now(), p))
}

// open takes the newest page of the journal, whose messages ascend, and places everyone who waited for it.
func (c *Channel) open(p journal.Page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seq.IsOpen() {
		return
	}
	c.tail.clear(p.Head + 1 - proto.Offset(len(p.Messages)))
	c.tail.add(p.Messages)
	c.apply(c.seq.Open(c.hub.now(), proto.Position{Epoch: p.Epoch, Offset: p.Head}))
	waiting := c.waiting
	c.waiting = nil
	for _, j := range waiting {
		c.place(j)
	}
}

// apply carries out a verdict. The channel is locked.
func (c *Channel) apply(v Verdict) {
	stats := &c.hub.stats
	stats.Dropped.Add(int64(v.Dropped))
	stats.Overflow.Add(int64(v.Overflow))
	if v.Reset {
		stats.Resets.Add(1)
		c.restart(proto.Position{Epoch: v.Epoch, Offset: v.Next - 1})
	}
	if v.Skip {
		stats.Skips.Add(1)
		c.tail.clear(v.Next)
		for _, f := range c.feeds {
			if f != nil {
				f.Skip(fanout.Seq(v.Next))
			}
		}
	}
	if len(v.Deliver) > 0 {
		c.deliver(v.Deliver)
	}
	if v.Fetch && !c.gone {
		stats.Fetches.Add(1)
		c.hub.fetch(c, v.From)
	}
	if !v.Wake.IsZero() && !c.gone {
		c.wake(v.Wake.Sub(c.hub.now()))
	}
}

func (c *Channel) wake(after time.Duration) {
	if c.timer == nil {
		c.timer = time.AfterFunc(after, c.tick)
		return
	}
	c.timer.Reset(after)
}

// deliver appends messages to the tail and, encoded once per format, to the byte logs.
func (c *Channel) deliver(messages []proto.Message) {
	c.tail.add(messages)
	for format, f := range c.feeds {
		if f != nil {
			f.Append(c.hub.encode(format, messages)...)
		}
	}
	c.hub.stats.Delivered.Add(int64(len(messages)))
}

// restart begins again at p: what members have is void, and each is told.
func (c *Channel) restart(p proto.Position) {
	c.hub.log.Warn("the journal's epoch changed; all positions of the channel are void", "channel", c.name, "epoch", p.Epoch, "offset", p.Offset)
	c.tail.clear(p.Offset + 1)
	for format, f := range c.feeds {
		if f != nil {
			n := c.hub.codecs[format].Reset(p, "the journal was replaced: offsets of the old epoch mean nothing any more; the stream goes on with the next new message")
			f.Restart(fanout.Seq(p.Offset+1), n)
		}
	}
}

// feed returns the feed of a format and makes it, filled from the tail, for its first member.
func (c *Channel) feed(format int) *fanout.Feed {
	if c.feeds[format] == nil {
		f := fanout.NewFeed(c.hub.writers, &pager{c, format}, fanout.Seq(c.tail.first()))
		f.Append(c.hub.encode(format, c.tail.messages)...)
		c.feeds[format] = f
	}
	return c.feeds[format]
}

// join places a member, at once or when the journal has answered. It reports false when the channel was taken out of
// the hub meanwhile.
func (c *Channel) join(r JoinRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return false
	}
	c.idle = time.Time{}
	c.place(&joining{JoinRequest: r, since: c.hub.now()})
	return true
}

// place is how every member joins, with or without history, new or resumed: find out where its cursor belongs, tell its
// connection, and set the cursor; all under the channel's lock, so that nothing is delivered in between. The channel
// is locked.
func (c *Channel) place(j *joining) {
	if !c.seq.IsOpen() {
		c.waiting = append(c.waiting, j)
		return
	}
	memory := c.tail.first()
	if f := c.feeds[j.Format]; f != nil {
		first, _ := f.Bounds()
		memory = min(memory, proto.Offset(first))
	}
	v := view{Position: c.seq.Position(), memory: memory, oldest: j.oldest, verified: j.verified}
	if j.verified {
		v.Offset = max(v.Offset, c.seq.known)
	}
	what, next, reason := place(j.Start, v)
	switch what {
	case askHead:
		c.waiting = append(c.waiting, j)
		c.hub.check(c.name)
	case askOldest:
		c.waiting = append(c.waiting, j)
		c.hub.pages.probe(c, j, j.wanted(v.Offset))
	default:
		j.Ready(Joined{Position: c.seq.Position(), Reset: what == reset, Next: next, Reason: reason})
		c.feed(j.Format).Join(j.Outlet, fanout.Seq(next), j.Skip)
	}
}

// headChecked takes the journal's head, asked for by a check, and places those who waited for it.
func (c *Channel) headChecked(p proto.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(c.seq.Head(c.hub.now(), p))
	if !c.seq.IsOpen() {
		return
	}
	for _, j := range c.takeWaiting(func(j *joining) bool { return j.oldest == 0 && !j.verified }) {
		j.verified = p.Epoch.Matches(c.seq.epoch)
		c.place(j)
	}
}

// oldestIs takes what the journal holds at or after the offset that j wanted.
func (c *Channel) oldestIs(j *joining, oldest proto.Offset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j.oldest = oldest
	if taken := c.takeWaiting(func(w *joining) bool { return w == j }); len(taken) > 0 {
		c.place(j)
	}
}

// takeWaiting removes those for which fn holds from the waiting list and returns them.
func (c *Channel) takeWaiting(fn func(*joining) bool) (taken []*joining) {
	kept := c.waiting[:0]
	for _, j := range c.waiting {
		if fn(j) {
			taken = append(taken, j)
		} else {
			kept = append(kept, j)
		}
	}
	clear(c.waiting[len(kept):])
	c.waiting = kept
	return taken
}

// sweep gives up members that waited too long, and reports whether the channel has been without members for longer than
// linger.
func (c *Channel) sweep(now time.Time, patience, linger time.Duration) (idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.takeWaiting(func(j *joining) bool { return now.Sub(j.since) >= patience }) {
		j.Ready(Joined{Err: ErrNotOpen})
	}
	for node, l := range c.remote {
		if now.After(l.until) {
			delete(c.remote, node)
		}
	}
	if c.local() > 0 {
		c.idle = time.Time{}
		return false
	}
	if c.idle.IsZero() {
		c.idle = now
	}
	return now.Sub(c.idle) >= linger
}

// local is the number of members on this node. The channel is locked.
func (c *Channel) local() int {
	n := len(c.waiting)
	for _, f := range c.feeds {
		if f != nil {
			n += f.Members()
		}
	}
	return n
}

// retire takes the channel out of use, unless someone joined meanwhile.
func (c *Channel) retire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local() > 0 {
		return false
	}
	c.stop()
	return true
}

func (c *Channel) stop() {
	c.gone = true
	if c.timer != nil {
		c.timer.Stop()
	}
}
