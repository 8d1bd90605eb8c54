package fanout

// Member is the place of one connection in one feed: a cursor. There may be very many: a test bounds its size.
type Member struct {
	out     *Outlet
	feed    *Feed // owner: out.mu; nil once it has left, so that a place that is kept does not keep the log
	skip    Sender
	sibling *Member // owner: out.mu; the outlet's next member

	next Seq    // owner: out.mu; the next entry to give,
	page *Page  // owner: out.mu; holds next when the log does not
	life life   // owner: out.mu; in this life of the log
	left bool   // owner: out.mu
	asks bool   // owner: out.mu; the pager was asked for next
	at   uint16 // owner: shard.mu; the place in shard
	home *shard // owner: feed.mu
}

// Join makes out a member of f that is given the entries from next on, without those of skip (0 skips none). What
// was sent on the outlet before goes out before.
func (f *Feed) Join(out *Outlet, next Seq, skip Sender) *Member {
	f.log.mu.Lock()
	present := f.log.life
	f.log.mu.Unlock()
	out.mu.Lock()
	m := &out.first
	if out.used {
		m = &Member{}
	}
	out.used = true
	m.out, m.feed, m.next, m.skip, m.life = out, f, next, skip, present
	if out.ended {
		m.left, m.feed = true, nil
		out.mu.Unlock()
		return m
	}
	m.sibling, out.members = out.members, m
	f.add(m)
	out.mu.Unlock()
	out.writers.schedule(out)
	return m
}

// Leave ends the membership. Nothing of the feed is given to the outlet after Leave returned, except the rest of a frame
// that was begun.
func (m *Member) Leave() {
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	m.unlink()
	m.part()
}

// Left says whether the membership has ended: by Leave, by a Notice, or with the outlet.
func (m *Member) Left() bool {
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	return m.left
}

// unlink takes m out of its outlet's list. Who walks the list can go on from m. The outlet is locked.
func (m *Member) unlink() {
	for at := &m.out.members; *at != nil; at = &(*at).sibling {
		if *at == m {
			*at = m.sibling
			return
		}
	}
}

func (m *Member) leave() {
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	m.part()
}

// part takes m out of its feed, once. The outlet is locked.
func (m *Member) part() {
	m.page = nil
	if m.left {
		return
	}
	m.left = true
	m.home.remove(m)
	m.feed.count.Add(-1)
	m.feed, m.home = nil, nil
}

// Outlet is the connection that m belongs to.
func (m *Member) Outlet() *Outlet { return m.out }

// Next is the number of the next entry that m will be given.
func (m *Member) Next() Seq {
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	return m.next
}

// Want is a member's request for a page.
type Want struct {
	Member *Member
	Seq    Seq
	life   life
}

// Supply answers with a page that holds the entry wanted.
func (w Want) Supply(p *Page) {
	w.answer(func(m *Member) { m.page = p })
}

// Gone answers that the entries from the one wanted to next-1 do not exist any more: notice is sent, then the entries
// from next on.
func (w Want) Gone(next Seq, notice Notice) {
	w.answer(func(m *Member) { m.place(next, notice) })
}

// Stands says whether the member still waits for this answer.
func (w Want) Stands() bool {
	w.Member.out.mu.Lock()
	defer w.Member.out.mu.Unlock()
	return w.stands()
}

// stands is Stands with the outlet locked.
func (w Want) stands() bool {
	m := w.Member
	return !m.left && m.asks && m.life == w.life && m.next == w.Seq
}

// answer runs fn if the member still waits for this answer.
func (w Want) answer(fn func(*Member)) {
	m := w.Member
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	if !w.stands() {
		return
	}
	m.asks = false
	fn(m)
	m.out.writers.schedule(m.out)
}

// jump moves m, a member of f, to entry next of the log's present life.
func (m *Member) jump(f *Feed, next Seq, notice Notice) {
	f.log.mu.Lock()
	present := f.log.life
	f.log.mu.Unlock()
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	if m.left || m.life == present {
		return
	}
	m.life = present
	m.place(next, notice)
	m.out.writers.schedule(m.out)
}

// place moves the cursor. The outlet is locked.
func (m *Member) place(next Seq, notice Notice) {
	m.page, m.asks, m.next = nil, false, next
	if !m.out.ending && !m.out.ended {
		m.out.push(notice.Frames)
		m.out.ending = notice.End
	}
	if notice.Leave {
		m.unlink()
		m.part()
	}
}

// skipAhead moves the cursor of a member that is behind the log to the newest entry, and tells it. The outlet is locked.
func (m *Member) skipAhead(s Skipper) {
	m.feed.log.mu.Lock()
	newest := m.feed.log.next() - 1
	m.feed.log.mu.Unlock()
	m.place(newest, s.Skipped(uint64(newest-m.next)))
}

// isIdle says, without the log's lock, that its feed has nothing for m: an outlet may be a member of many quiet feeds. The outlet is
// locked.
func (m *Member) isIdle() bool { return m.next >= Seq(m.feed.log.end.Load()) }

// ready returns the entries to give m next, without its own, and whether more may follow them at once. The outlet is locked.
func (m *Member) ready(w *walker) (r run, more bool) {
	for !m.asks {
		if r, more = m.source(w); r.empty() || m.skip == 0 {
			return r, more
		}
		whole := len(r.ends)
		own, others := r.without(m.skip)
		m.next += Seq(own)
		w.local.skipped += int64(own)
		more = more || own+len(others.ends) < whole
		if !others.empty() || !more {
			return others, more
		}
	}
	return run{}, false
}

// source returns the entries from the cursor on, from the log or the page, and whether more follow them at once. When neither
// holds them it asks the pager, or skips ahead; more is then true, and what the member is told must go out first. The outlet is
// locked.
func (m *Member) source(w *walker) (r run, more bool) {
	if c := w.find(m); c != nil {
		return c.run, c.more
	}
	if m.page.holds(m.next) {
		return m.page.seg.from(m.next), true
	}
	m.page = nil
	if m.isIdle() {
		return run{}, false
	}
	r, more, old := m.feed.log.from(m.next, m.life)
	if !old {
		w.keep(m, r, more)
		return r, more
	}
	if s := m.feed.skipper; s != nil {
		m.skipAhead(s)
		return run{}, true
	}
	m.asks = true
	w.stats.PageWants.Add(1)
	m.feed.pager.Want(Want{Member: m, Seq: m.next, life: m.life})
	return run{}, false
}
