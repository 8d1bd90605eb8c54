package journaltest

import (
	"bytes"
	"fmt"
	"sync/atomic"

	"barrage/journal"
	"barrage/proto"

	"pgregory.net/rapid"
)

// modelled is what one channel must hold, written down in the simplest way.
type modelled struct {
	head     proto.Offset
	messages map[proto.Offset]journal.Draft
}

// model runs random appends, reads, heads and trims against a map. All runs share one journal, each with channels of
// its own; trimming therefore keeps at least what any run has written.
func (s *suite) model() {
	var runs atomic.Int64
	rapid.Check(s.T, func(t *rapid.T) {
		m := &machine{s: s, t: t, channels: map[string]*modelled{}, run: runs.Add(1)}
		t.Repeat(map[string]func(*rapid.T){"append": m.append, "read": m.read, "heads": m.heads, "trim": m.trim, "remove": m.remove})
	})
}

type machine struct {
	s        *suite
	t        *rapid.T
	run      int64
	channels map[string]*modelled
}

func (m *machine) name(t *rapid.T) string {
	return fmt.Sprintf("%d %s", m.run, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "channel"))
}

func (m *machine) channel(name string) *modelled {
	c := m.channels[name]
	if c == nil {
		c = &modelled{messages: map[proto.Offset]journal.Draft{}}
		m.channels[name] = c
	}
	return c
}

func (m *machine) append(t *rapid.T) {
	var batch []journal.Draft
	for range rapid.IntRange(0, 12).Draw(t, "drafts") {
		batch = append(batch, journal.Draft{
			Channel: m.name(t), Key: rapid.SampledFrom([]string{"", "", "k", "l", "m", "ö"}).Draw(t, "key"),
			User:       rapid.SampledFrom([]string{"", "ann"}).Draw(t, "user"),
			Data:       rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "data"),
			Attributes: rapid.SampledFrom([][]byte{nil, nil, []byte(`{"info":1}`), {}}).Draw(t, "attributes"),
		})
	}
	a, err := m.s.j.Append(m.s.ctx(), batch)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	for i, d := range batch {
		offset, repeated := m.channel(d.Channel).append(d)
		if got := a.Stored[i]; got.Offset != offset || got.Repeated != repeated {
			t.Fatalf("draft %d must be offset %d, repeated %v, not %+v", i, offset, repeated, got)
		}
	}
}

func (c *modelled) append(d journal.Draft) (proto.Offset, bool) {
	for offset, m := range c.messages {
		if d.Key != "" && m.Key == d.Key {
			return offset, true
		}
	}
	c.head++
	c.messages[c.head] = d
	return c.head, false
}

func (m *machine) read(t *rapid.T) {
	name := m.name(t)
	c := m.channel(name)
	r := journal.Range{
		From:     proto.Offset(rapid.Uint64Range(0, uint64(c.head)+2).Draw(t, "from")),
		Backward: rapid.Bool().Draw(t, "backward"),
		Limit:    rapid.IntRange(0, 10).Draw(t, "limit"),
		MaxBytes: rapid.SampledFrom([]int{0, 1, 100, 500}).Draw(t, "bytes"),
	}
	p, err := m.s.j.Read(m.s.ctx(), name, r)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	want := c.page(r.Bounded())
	if p.Head != c.head || len(p.Messages) != len(want) {
		t.Fatalf("read %+v must give %d messages with head %d, not %d with head %d", r, len(want), c.head, len(p.Messages), p.Head)
	}
	for i, offset := range want {
		d, got := c.messages[offset], p.Messages[i]
		if got.Offset != offset || got.User != d.User || !bytes.Equal(got.Data, d.Data) || !bytes.Equal(got.Attributes, d.Attributes) {
			t.Fatalf("read %+v must give %d: %+v at place %d, not %+v", r, offset, d, i, got)
		}
	}
}

// page lists the offsets that a read gives, by looking at every one there is.
func (c *modelled) page(r journal.Range) (offsets []proto.Offset) {
	size := 0
	for i := range c.head {
		at := i + 1
		if r.Backward {
			at = c.head - i
		}
		d, kept := c.messages[at]
		wanted := r.From == 0 || (r.Backward && at <= r.From) || (!r.Backward && at >= r.From)
		if !kept || !wanted || len(offsets) == r.Limit || size >= r.MaxBytes {
			continue
		}
		offsets = append(offsets, at)
		size += (&proto.Message{User: d.User, Client: d.Client, Data: d.Data, Attributes: d.Attributes}).Size()
	}
	return offsets
}

func (m *machine) heads(t *rapid.T) {
	var names []string
	for range rapid.IntRange(0, 5).Draw(t, "names") {
		names = append(names, m.name(t))
	}
	heads, err := m.s.j.Heads(m.s.ctx(), names)
	if err != nil {
		t.Fatalf("heads: %v", err)
	}
	for i, name := range names {
		if heads.Offsets[i] != m.channel(name).head {
			t.Fatalf("the head of %s must be %d, not %d", name, m.channel(name).head, heads.Offsets[i])
		}
	}
}

func (m *machine) trim(t *rapid.T) {
	keep := rapid.Int64Range(1, 20).Draw(t, "keep")
	if _, err := m.s.j.Trim(m.s.ctx(), journal.Policy{Default: journal.Retention{Count: keep}}); err != nil {
		t.Fatalf("trim: %v", err)
	}
	for _, c := range m.channels {
		for offset := range c.messages {
			if int64(offset) <= int64(c.head)-keep {
				delete(c.messages, offset)
			}
		}
	}
}

func (m *machine) remove(t *rapid.T) {
	name := m.name(t)
	if err := m.s.j.Remove(m.s.ctx(), name); err != nil {
		t.Fatalf("remove: %v", err)
	}
	clear(m.channel(name).messages)
}
