package channel

import (
	"container/list"
	"context"
	"sync"
	"time"

	"barrage/fanout"
	"barrage/journal"
	"barrage/proto"
)

// Bounds of pages.
const (
	pageMessages  = 256      // a page begins at a multiple of this, so that members that are near share it
	pageCacheSize = 32 << 20 // bytes of pages kept for the next member
	pageReaders   = 4
)

// pager answers the wants of one feed.
type pager struct {
	c      *Channel
	format int
}

// Want takes note; see fanout.Pager.
func (p *pager) Want(w fanout.Want) {
	p.c.hub.pages.ask(pageKey{p.c, p.format, pageIndex(proto.Offset(w.Seq))}, want{member: w, offset: proto.Offset(w.Seq)})
}

func pageIndex(o proto.Offset) uint64 { return uint64(o-1) / pageMessages }

// pageKey names a page: a stretch of one channel in one wire format.
type pageKey struct {
	c      *Channel
	format int
	index  uint64
}

// cached is the name of the page in the cache, which must not hold on to a channel that is out of use.
func (k pageKey) cached() cacheKey { return cacheKey{k.c.life.Load(), k.format, k.index} }

// want is one member that needs a page, or one that is joining and needs to know whether there is one.
type want struct {
	offset proto.Offset
	member fanout.Want
	join   *joining // nil for a member
}

// stands says whether anyone still waits for the answer.
func (w want) stands(c *Channel) bool {
	if w.join != nil {
		return c.isWaiting(w.join)
	}
	return w.member.Stands()
}

// pages reads pages for members that are behind memory. However many members want a page, it is read once; a page that was read
// is kept for those who come next, as far as the cache's bound allows.
type pages struct {
	hub *Hub

	mu    sync.Mutex
	wake  sync.Cond
	wants map[pageKey][]want // owner: mu; bounded by the number of members
	queue []pageKey          // owner: mu; the keys of wants that nobody works on, nor will after a pause
	ended bool               // owner: mu
	cache pageCache          // owner: mu
	wg    sync.WaitGroup
}

func newPages(h *Hub) *pages {
	p := &pages{hub: h, wants: map[pageKey][]want{}, cache: newPageCache(pageCacheSize)}
	p.wake.L = &p.mu
	for range pageReaders {
		p.wg.Go(p.work)
	}
	return p
}

func (p *pages) close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.wake.Broadcast()
	p.wg.Wait()
}

// probe asks whether the journal still holds offset for a member that is joining.
func (p *pages) probe(c *Channel, j *joining, offset proto.Offset) {
	p.ask(pageKey{c, j.Format, pageIndex(offset)}, want{offset: offset, join: j})
}

// ask takes note of w. Whoever asks while a page is being read is answered by it too.
func (p *pages) ask(k pageKey, w want) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.wants[k]; !known {
		p.queue = append(p.queue, k)
		p.wake.Signal()
	}
	p.wants[k] = append(p.wants[k], w)
}

// take waits for a page that is wanted. Until finish or again is called for it nobody else works on it.
func (p *pages) take() (k pageKey, kept *keptPage, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) == 0 {
		if p.ended {
			return pageKey{}, nil, false
		}
		p.wake.Wait()
	}
	k = p.queue[0]
	p.queue = p.queue[1:]
	return k, p.cache.get(k.cached()), !p.ended
}

// standing is the first of those who want k and still wait; the others are forgotten, and k with them if there is none.
func (p *pages) standing(k pageKey) (first want, ok bool) {
	p.mu.Lock()
	ws := p.wants[k]
	p.mu.Unlock()
	gone := 0 // looked at without the lock: wants lock their member
	for gone < len(ws) && !ws[gone].stands(k.c) {
		gone++
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ws = p.wants[k][gone:]
	if len(ws) == 0 {
		delete(p.wants, k)
		return want{}, false
	}
	p.wants[k] = ws
	return ws[0], true
}

// finish returns everyone who wants k by now, and keeps the page for others.
func (p *pages) finish(k pageKey, kept *keptPage) []want {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cache.put(k.cached(), kept)
	ws := p.wants[k]
	delete(p.wants, k)
	return ws
}

// again works on k once more after a pause.
func (p *pages) again(k pageKey) {
	time.AfterFunc(p.hub.retryPages, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.queue = append(p.queue, k)
		p.wake.Signal()
	})
}

func (p *pages) work() {
	for {
		k, kept, ok := p.take()
		if !ok {
			return
		}
		for more := true; more; {
			kept, more = p.serve(k, kept)
		}
	}
}

// serve answers those who want k with one page, kept if it serves. It reports whether others are left who need another page.
func (p *pages) serve(k pageKey, kept *keptPage) (used *keptPage, more bool) {
	first, ok := p.standing(k)
	if !ok {
		return nil, false
	}
	if !kept.serves(k, first.offset) {
		var err error
		if kept, err = p.load(k, first.offset, kept); err != nil {
			p.hub.log.Debug("reading a page failed", "channel", k.c.name, "error", err)
			p.again(k)
			return nil, false
		}
	}
	var rest []want
	ws := p.finish(k, kept)
	for _, w := range ws {
		if !kept.answer(p.hub, k, w) {
			rest = append(rest, w)
		}
	}
	if len(rest) == 0 {
		return nil, false
	}
	if others := p.putBack(k, rest); others {
		return nil, false
	}
	if len(rest) == len(ws) {
		// The journal changed its epoch: the channel will find out and void these wants; look again in case it does not.
		p.again(k)
		return nil, false
	}
	return kept, true
}

// putBack notes those whom the page did not answer. It reports whether k was asked for again meanwhile, and is queued.
func (p *pages) putBack(k pageKey, rest []want) (queued bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ws, queued := p.wants[k]
	p.wants[k] = append(ws, rest...)
	return queued
}

// load makes the page of k that holds offset: from the tail in memory, or from the journal. before is a page of k that does
// not hold it, or nil.
func (p *pages) load(k pageKey, offset proto.Offset, before *keptPage) (*keptPage, error) {
	first := proto.Offset(k.index*pageMessages + 1)
	k.c.mu.Lock()
	pos := k.c.seq.Position()
	messages, ok := k.c.tail.from(max(first, k.c.tail.first()))
	if ok = ok && offset >= k.c.tail.first(); ok {
		messages = append([]proto.Message(nil), messages[:min(len(messages), pageMessages)]...)
	}
	k.c.mu.Unlock()
	if ok {
		return p.encode(k, messages[0].Offset, journal.Page{Epoch: pos.Epoch, Head: pos.Offset, Messages: messages}), nil
	}
	if before != nil && before.page != nil && (before.short || offset >= proto.Offset(before.page.Next())) {
		first = offset // large messages: the aligned page is likely to end too early
	}
	page, err := p.read(k, first)
	if err != nil {
		return nil, err
	}
	if n := len(page.Messages); n > 0 && page.Messages[n-1].Offset < offset && page.Head >= offset {
		first = offset
		if page, err = p.read(k, first); err != nil {
			return nil, err
		}
	}
	return p.encode(k, first, page), nil
}

func (p *pages) read(k pageKey, from proto.Offset) (journal.Page, error) {
	ctx, cancel := context.WithTimeout(p.hub.ctx, p.hub.readTimeout)
	defer cancel()
	p.hub.stats.PageReads.Add(1)
	return p.hub.store.Read(ctx, k.c.name, journal.Range{From: from, Limit: pageMessages})
}

// encode makes a page of messages that were read from offset asked on.
func (p *pages) encode(k pageKey, asked proto.Offset, page journal.Page) *keptPage {
	kept := &keptPage{epoch: page.Epoch, head: page.Head, asked: asked, oldest: page.Head + 1}
	if len(page.Messages) == 0 {
		return kept
	}
	kept.oldest = page.Messages[0].Offset
	kept.short = len(page.Messages) < pageMessages && page.Messages[len(page.Messages)-1].Offset < page.Head
	entries := p.hub.encode(k.format, k.c.name, page.Epoch, page.Messages)
	size := 0
	for _, e := range entries {
		size += len(e.Frame)
	}
	kept.page = fanout.NewPage(fanout.Seq(kept.oldest), size, len(entries))
	for _, e := range entries {
		kept.page.Add(e.Frame, e.Sender)
	}
	return kept
}

// keptPage is a page with what else was true when it was read.
type keptPage struct {
	epoch  proto.Epoch
	head   proto.Offset
	asked  proto.Offset // where reading began: nothing is known about what is before
	oldest proto.Offset // the first offset from there on that exists
	page   *fanout.Page // nil when nothing does
	short  bool         // its size ended it, not its number of messages
}

// serves says whether the page, which may be nil, settles what is at offset.
func (kp *keptPage) serves(k pageKey, offset proto.Offset) bool {
	if kp == nil || kp.page == nil || offset < kp.asked || offset >= proto.Offset(kp.page.Next()) {
		return false
	}
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	return kp.epoch == k.c.seq.epoch && offset > k.c.removed.Offset && (offset >= kp.oldest || offset < k.c.memory(k.format))
}

// answer tells w what the page says. It reports false when the page cannot answer w.
func (kp *keptPage) answer(h *Hub, k pageKey, w want) bool {
	k.c.mu.Lock()
	epoch, memory := k.c.seq.epoch, k.c.memory(k.format)
	k.c.mu.Unlock()
	if kp.epoch != epoch {
		k.c.suspect()
		return false
	}
	if w.offset < kp.asked || kp.page != nil && w.offset >= proto.Offset(kp.page.Next()) {
		return false
	}
	if w.offset > kp.head && w.join == nil {
		k.c.suspect() // behind our log and beyond the journal's head: the journal went back
		return false
	}
	if w.join != nil {
		k.c.oldestIs(w.join, max(kp.oldest, 1))
		return true
	}
	if w.offset >= kp.oldest {
		w.member.Supply(kp.page)
		return true
	}
	if w.offset >= memory {
		return false // memory holds what the journal does not any more
	}
	h.stats.Missed.Add(1)
	next := min(kp.oldest, memory)
	p := proto.Position{Epoch: kp.epoch, Offset: next - 1}
	w.member.Gone(fanout.Seq(next), h.codecs[k.format].Reset(k.c.name, p, "you were so far behind that the messages before this offset are no longer kept"))
	return true
}

// forget drops the pages of channels that were taken out of use, by their lives.
func (p *pages) forget(lives map[uint64]bool) {
	if len(lives) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cache.forget(lives)
}

// pageCache keeps the pages used last, up to a number of bytes. Its owner locks.
type pageCache struct {
	limit, size int
	order       *list.List // of *cacheEntry, the one used last in front
	byKey       map[cacheKey]*list.Element
}

// cacheKey names a page without holding on to its channel.
type cacheKey struct {
	life   uint64 // see Channel
	format int
	index  uint64
}

type cacheEntry struct {
	key  cacheKey
	page *keptPage
}

func newPageCache(limit int) pageCache {
	return pageCache{limit: limit, order: list.New(), byKey: map[cacheKey]*list.Element{}}
}

func (c *pageCache) get(k cacheKey) *keptPage {
	e := c.byKey[k]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cacheEntry).page
}

func (c *pageCache) put(k cacheKey, p *keptPage) {
	if p.page == nil {
		return
	}
	if e := c.byKey[k]; e != nil {
		c.remove(e)
	}
	c.byKey[k] = c.order.PushFront(&cacheEntry{k, p})
	c.size += p.page.Size()
	for c.size > c.limit {
		c.remove(c.order.Back())
	}
}

// forget drops the pages of these lives of channels.
func (c *pageCache) forget(lives map[uint64]bool) {
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if lives[e.Value.(*cacheEntry).key.life] {
			c.remove(e)
		}
		e = next
	}
}

func (c *pageCache) remove(e *list.Element) {
	old := c.order.Remove(e).(*cacheEntry)
	delete(c.byKey, old.key)
	c.size -= old.page.page.Size()
}
