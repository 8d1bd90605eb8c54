package channel

import (
	"sync"
	"sync/atomic"
	"time"

	"barrage/fanout"
	"barrage/journal"
	"barrage/proto"
)

// Channel is one channel with members on this node. Its lock guards everything in it.
type Channel struct {
	hub   *Hub
	name  string
	live  bool          // nothing is stored
	merge time.Duration // the merge window of its feeds
	life  atomic.Uint64 // names the channel's pages in the cache; another one after a restart

	mu      sync.Mutex
	seq     Sequencer
	tail    tail
	removed proto.Position        // what is not given from memory: the history up to it was removed
	feeds   []*fanout.Feed        // by format; nil until its first member
	waiting map[*joining]struct{} // members that cannot be placed yet
	timer   *time.Timer           // for Verdict.Wake
	idle    time.Time             // since when there are no members
	gone    bool                  // taken out of the hub
	remote  map[string]lease
	scratch scratch            // of live messages
	heard   map[string]hearing // by node; of a live channel
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
	asked    placing      // what it waits for: askHead, askOldest, or attach for the channel to open
	oldest   proto.Offset // answers askOldest
	verified bool         // answers askHead
}

// entries takes committed messages.
func (c *Channel) entries(epoch proto.Epoch, messages []proto.Message) {
	if c.live {
		c.hub.stats.Strays.Add(int64(len(messages)))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(c.seq.Entries(c.hub.now(), epoch, messages))
}

// headIs takes news of the head.
func (c *Channel) headIs(p proto.Position) {
	if c.live {
		return
	}
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
	for j := range c.waiting {
		if j.asked == askHead {
			c.hub.check(c.name) // the journal may have contradicted this channel when it was asked before
			break
		}
	}
}

// open takes the newest page of the journal, whose messages ascend, and places everyone who waited for it.
func (c *Channel) open(p journal.Page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seq.IsOpen() {
		return
	}
	if !c.removed.Epoch.Matches(p.Epoch) {
		c.removed = proto.Position{}
	}
	c.tail.clear(p.Head + 1 - proto.Offset(len(p.Messages)))
	c.tail.add(p.Messages)
	c.tail.forget(c.removed.Offset)
	c.apply(c.seq.Open(c.hub.now(), proto.Position{Epoch: p.Epoch, Offset: p.Head}))
	for _, j := range c.takeWaiting(func(*joining) bool { return true }) {
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
	c.tail.forget(c.removed.Offset)
	for format, f := range c.feeds {
		if f != nil {
			f.Append(c.hub.encode(format, c.name, c.seq.epoch, messages)...)
		}
	}
	c.hub.stats.Delivered.Add(int64(len(messages)))
}

// restart begins again at p: what members have is void, and each is told.
func (c *Channel) restart(p proto.Position) {
	c.hub.log.Warn("the journal's epoch changed; all positions of the channel are void", "channel", c.name, "epoch", p.Epoch, "offset", p.Offset)
	c.life.Store(c.hub.lives.Add(1))
	c.removed = proto.Position{}
	c.tail.clear(p.Offset + 1)
	for format, f := range c.feeds {
		if f != nil {
			n := c.hub.codecs[format].Reset(c.name, p, "the journal was replaced: offsets of the old epoch mean nothing any more; the stream goes on with the next new message")
			f.Restart(fanout.Seq(p.Offset+1), n)
		}
	}
}

// feed returns the feed of a format and makes it, filled from the tail, for its first member.
func (c *Channel) feed(format int) *fanout.Feed {
	if c.feeds[format] == nil {
		f := fanout.NewFeed(c.hub.writers, &pager{c, format}, fanout.Seq(c.tail.first()))
		f.Merge(c.merge)
		f.Append(c.hub.encode(format, c.name, c.seq.epoch, c.tail.messages)...)
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
	if c.live {
		c.attach(r)
		return true
	}
	c.place(&joining{JoinRequest: r, since: c.hub.now()})
	return true
}

// place is how every member joins, with or without history, new or resumed: find out where its cursor belongs, tell its
// connection, and set the cursor; all under the channel's lock, so that nothing is delivered in between. The channel
// is locked.
func (c *Channel) place(j *joining) {
	if !c.seq.IsOpen() {
		c.wait(j, attach)
		return
	}
	v := view{Position: c.seq.Position(), memory: c.memory(j.Format), oldest: j.oldest, verified: j.verified}
	if j.verified {
		v.Offset = max(v.Offset, c.seq.known)
	}
	what, next, reason := place(j.Start, v)
	switch what {
	case askHead:
		c.wait(j, what)
		c.hub.check(c.name)
	case askOldest:
		c.wait(j, what)
		c.hub.pages.probe(c, j, j.wanted(v.Offset))
	default:
		p := c.seq.Position()
		p.Offset = max(p.Offset, next-1) // what the journal knows and this node is about to hear
		if what == reset && j.Ahead {
			next = p.Offset + 1
		}
		if j.Ready(Joined{Position: p, Reset: what == reset, Next: next, Reason: reason}) {
			j.join(c.feed(j.Format), fanout.Seq(next))
		}
	}
}

// join makes the connection a member of its format's feed.
func (r *JoinRequest) join(f *fanout.Feed, next fanout.Seq) {
	m := f.Join(r.Outlet, next, r.Skip)
	if r.Placed != nil {
		r.Placed(m)
	}
}

// memory is the oldest offset that a format's members can be given without the journal, or the next one. The channel is
// locked.
func (c *Channel) memory(format int) proto.Offset {
	oldest := c.tail.first()
	if f := c.feeds[format]; f != nil {
		first, _ := f.Bounds()
		oldest = min(oldest, proto.Offset(first))
	}
	return max(oldest, min(c.removed.Offset+1, c.tail.next)) // what was removed counts as gone
}

// wait keeps j until asked is answered. The channel is locked.
func (c *Channel) wait(j *joining, asked placing) {
	j.asked = asked
	c.waiting[j] = struct{}{}
}

// position is what has been delivered; zero while the channel is not open.
func (c *Channel) position() (p proto.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seq.IsOpen() {
		p = c.seq.Position()
	}
	return p
}

// headChecked takes the journal's head, asked for when the channel stood at before, and places those who waited for it.
func (c *Channel) headChecked(p, before proto.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(c.seq.Head(c.hub.now(), p))
	if before.Epoch == p.Epoch && p.Offset < before.Offset {
		c.apply(c.seq.Suspect(c.hub.now())) // the journal went back
	}
	if !c.seq.IsOpen() || !p.Epoch.Matches(c.seq.epoch) {
		return // those who wait are served when the journal has told which epoch is right
	}
	for _, j := range c.takeWaiting(func(j *joining) bool { return j.asked == askHead }) {
		j.verified = true
		c.place(j)
	}
}

// oldestIs takes what the journal holds at or after the offset that j wanted.
func (c *Channel) oldestIs(j *joining, oldest proto.Offset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j.oldest = oldest
	if _, waits := c.waiting[j]; waits {
		delete(c.waiting, j)
		c.place(j)
	}
}

// isWaiting says whether j still waits for its place.
func (c *Channel) isWaiting(j *joining) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, waits := c.waiting[j]
	return waits
}

// takeWaiting removes those for which fn holds from those who wait and returns them.
func (c *Channel) takeWaiting(fn func(*joining) bool) (taken []*joining) {
	for j := range c.waiting {
		if fn(j) {
			delete(c.waiting, j)
			taken = append(taken, j)
		}
	}
	return taken
}

// brief is how long a channel without members is kept that has nothing in memory: whoever comes next finds it as quickly without.
const brief = time.Second

// sweep gives up members that waited too long, and reports whether the channel has been without members for longer than
// linger, or than brief if there is nothing in it to keep.
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
	c.forgetNodes(now)
	if c.local() > 0 {
		c.idle = time.Time{}
		return false
	}
	if c.idle.IsZero() {
		c.idle = now
	}
	if c.isEmpty() {
		linger = min(linger, brief)
	}
	return now.Sub(c.idle) >= linger
}

// isEmpty says whether there is nothing in memory: no message, no removal, and nothing heard of other nodes. The channel is locked.
func (c *Channel) isEmpty() bool {
	return len(c.tail.messages) == 0 && c.removed.Offset == 0 && len(c.heard) == 0
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
	for _, f := range c.feeds {
		if f != nil {
			f.Close()
		}
	}
}
