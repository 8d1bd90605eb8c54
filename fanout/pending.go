package fanout

// pending are bytes that go before anything else: whole frames, or the rest of one and whole frames. An outlet has them only while
// there are some. Nil is empty.
type pending struct {
	buf     []byte
	taken   int    // of them
	answers int    // of the bytes not taken, those of Answer and Offer, or fewer
	room    Waiter // for the outlet not to be crowded any more; nil for nobody
}

// maxKept bounds the buffers that are kept for the next one who needs one, in bytes.
const maxKept = 4 << 10

func (p *pending) bytes() []byte {
	if p == nil {
		return nil
	}
	return p.buf[p.taken:]
}

func (p *pending) size() int { return len(p.bytes()) }

// push appends a copy of b to what is pending. The outlet is locked.
func (o *Outlet) push(b []byte) {
	if len(b) == 0 {
		return
	}
	if o.pending == nil {
		o.pending, _ = o.writers.spare.Get().(*pending)
		if o.pending == nil {
			o.pending = &pending{}
		}
	}
	p := o.pending
	p.compact()
	p.buf = append(p.buf, b...)
}

// compact makes room where bytes were taken, once they are half of the buffer: what the socket took is not kept for as long as
// something is pending.
func (p *pending) compact() {
	if p.taken == 0 || p.taken < len(p.buf)-p.taken {
		return
	}
	rest := p.buf[p.taken:]
	if len(rest) <= maxKept && cap(p.buf) > maxKept {
		p.buf = append([]byte(nil), rest...)
	} else {
		p.buf = p.buf[:copy(p.buf, rest)]
	}
	p.taken = 0
}

// took removes the first n pending bytes and returns n. The outlet is locked.
func (o *Outlet) took(n int) int {
	if o.pending == nil {
		return 0
	}
	p := o.pending
	p.taken += n
	p.answers -= min(n, p.answers)
	if p.room != nil && !o.crowded() {
		go p.room.Room() // not with the outlet locked
		p.room = nil
	}
	if p.taken == len(p.buf) {
		o.drop()
	}
	return n
}

// drop removes all that is pending. The outlet is locked.
func (o *Outlet) drop() {
	p := o.pending
	o.pending = nil
	if p == nil || cap(p.buf) > maxKept {
		return
	}
	p.buf, p.taken, p.answers, p.room = p.buf[:0], 0, 0, nil
	o.writers.spare.Put(p)
}

// writePending writes what is pending, if anything, and reports whether the socket took all of it. The outlet is locked.
func (o *Outlet) writePending(w *walker) (n int, ok bool) {
	if o.pending == nil {
		return 0, true
	}
	n, ok = o.write(o.pending.bytes(), w)
	o.took(n)
	return n, ok
}
