package fanout

import "sort"

// scratchBytes is how much of several sources goes in one write. Copying that much costs far less than another system call.
const scratchBytes = 64 << 10

// part is what one member has for a write.
type part struct {
	member *Member
	run    run
}

// gather writes what is pending and a fair share of each of w.parts at once. more says that the sources hold more than that; again
// whether there is more to send now. The outlet is locked.
func (o *Outlet) gather(w *walker, more bool) (n int, again bool) {
	if o.pending.size() > scratchBytes/2 {
		return o.writePending(w)
	}
	buf := append(w.buffer(), o.pending.bytes()...)
	cut := false
	for i := range w.parts {
		p := &w.parts[i]
		share := p.run.within((scratchBytes - len(buf)) / (len(w.parts) - i))
		if share.empty() && len(buf) == 0 {
			return o.alone(p, w)
		}
		cut = cut || len(share.ends) < len(p.run.ends)
		if p.run = share; !share.empty() {
			buf = append(buf, share.bytes()...)
		}
	}
	if cut {
		o.rotate()
	}
	n, ok := o.write(buf, w)
	o.wroteAll(n, w)
	return n, ok && (more || cut)
}

// alone writes the first frame of p, which is too large to share a write.
func (o *Outlet) alone(p *part, w *walker) (n int, again bool) {
	p.run = p.run.one()
	n, ok := o.write(p.run.bytes(), w)
	o.wrote(*p, n, w)
	o.rotate()
	return n, ok
}

// wroteAll takes note that of everything that was gathered the socket took the first n bytes.
func (o *Outlet) wroteAll(n int, w *walker) {
	n -= o.took(min(n, o.pending.size()))
	for _, p := range w.parts {
		if n <= 0 {
			return
		}
		if !p.run.empty() {
			size := len(p.run.bytes())
			o.wrote(p, min(n, size), w)
			n -= size
		}
	}
}

// rotate puts the first member last, so that another has the first choice next time.
func (o *Outlet) rotate() {
	m := o.members
	if m == nil || m.sibling == nil {
		return
	}
	o.members = m.sibling
	last := o.members
	for last.sibling != nil {
		last = last.sibling
	}
	last.sibling, m.sibling = m, nil
}

// within returns the longest prefix of r that has at most limit bytes.
func (r run) within(limit int) run {
	if r.empty() || len(r.bytes()) <= limit {
		return r
	}
	n := sort.Search(len(r.ends), func(i int) bool { return int(r.ends[i]-r.start) > limit })
	r.ends, r.senders = r.ends[:n], r.senders[:n]
	return r
}

// one returns the first entry of r.
func (r run) one() run {
	r.ends, r.senders = r.ends[:1], r.senders[:1]
	return r
}
