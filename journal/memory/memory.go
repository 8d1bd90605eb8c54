// Package memory is a journal in RAM, for tests and for channels that nobody needs after a restart.
//
// It keeps every promise of package journal for as long as the process lives; nothing is written anywhere. What bounds
// it is retention alone: without Trim it grows for ever. Names of channels and their heads are never forgotten.
package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"barrage/journal"
	"barrage/proto"
)

// Journal is a journal in RAM. Make one with New.
type Journal struct {
	epoch proto.Epoch

	mu       sync.RWMutex
	closed   bool                // guarded by mu
	channels map[string]*channel // guarded by mu, as are the channels
}

// channel holds the messages head-len(messages)+1..head.
type channel struct {
	head     proto.Offset
	time     int64 // of the last message; the next one is not older
	messages []proto.Message
	keys     map[string]proto.Offset // of the messages kept
	keyOf    map[proto.Offset]string // the same the other way round
}

// New returns an empty journal with an epoch of its own.
func New() *Journal {
	return &Journal{epoch: journal.NewEpoch(), channels: make(map[string]*channel)}
}

// Append implements journal.Journal.
func (j *Journal) Append(ctx context.Context, drafts []journal.Draft) (journal.Appended, error) {
	if err := journal.CheckBatch(drafts); err != nil {
		return journal.Appended{}, fmt.Errorf("memory: append: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refuse(ctx); err != nil {
		return journal.Appended{}, fmt.Errorf("memory: append: %w", err)
	}
	now := time.Now().UnixMilli()
	stored := make([]journal.Stored, len(drafts))
	for i, d := range drafts {
		c := j.channels[d.Channel]
		if c == nil {
			c = &channel{}
			j.channels[d.Channel] = c
		}
		stored[i] = c.append(d, now)
	}
	return journal.Appended{Epoch: j.epoch, Stored: stored}, nil
}

// Read implements journal.Journal.
func (j *Journal) Read(ctx context.Context, name string, r journal.Range) (journal.Page, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.refuse(ctx); err != nil {
		return journal.Page{}, fmt.Errorf("memory: read: %w", err)
	}
	page := journal.Page{Epoch: j.epoch}
	if c := j.channels[name]; c != nil {
		page.Head = c.head
		page.Messages = c.read(r.Bounded())
	}
	return page, nil
}

// Heads implements journal.Journal.
func (j *Journal) Heads(ctx context.Context, names []string) (journal.Heads, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.refuse(ctx); err != nil {
		return journal.Heads{}, fmt.Errorf("memory: heads: %w", err)
	}
	heads := journal.Heads{Epoch: j.epoch, Offsets: make([]proto.Offset, len(names))}
	for i, name := range names {
		if c := j.channels[name]; c != nil {
			heads.Offsets[i] = c.head
		}
	}
	return heads, nil
}

// Trim implements journal.Journal. Each step holds up appends for one channel's part of at most 1,000 messages.
func (j *Journal) Trim(ctx context.Context, p journal.Policy) (removed int64, err error) {
	if p.Everything() {
		return 0, nil
	}
	names, err := j.names(ctx)
	if err != nil {
		return 0, fmt.Errorf("memory: trim: %w", err)
	}
	for _, name := range names {
		r := p.Of(name)
		for more := true; more; {
			n, err := j.step(ctx, name, func(c *channel) int { return c.due(r, time.Now()) })
			if err != nil {
				return removed, fmt.Errorf("memory: trim: %w", err)
			}
			removed += int64(n)
			more = n == trimStep
		}
	}
	return removed, nil
}

// Remove implements journal.Journal, in steps like Trim.
func (j *Journal) Remove(ctx context.Context, name string) error {
	var last proto.Offset
	for first := true; ; first = false {
		n, err := j.step(ctx, name, func(c *channel) int {
			if first {
				last = c.head
			}
			return max(0, c.index(last)+1)
		})
		if err != nil {
			return fmt.Errorf("memory: remove: %w", err)
		}
		if n < trimStep {
			return nil
		}
	}
}

func (j *Journal) names(ctx context.Context) ([]string, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return slices.Collect(maps.Keys(j.channels)), j.refuse(ctx)
}

// trimStep is how many messages are removed at a time.
const trimStep = 1000

// step removes what is due from the front of a channel, at most trimStep messages.
func (j *Journal) step(ctx context.Context, name string, due func(*channel) int) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refuse(ctx); err != nil {
		return 0, err
	}
	c := j.channels[name]
	if c == nil {
		return 0, nil
	}
	n := min(due(c), trimStep)
	c.drop(n)
	return n, nil
}

// Shared implements journal.Journal: it is not.
func (j *Journal) Shared() bool { return false }

// Close forgets everything.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed, j.channels = true, nil
	return nil
}

// refuse returns the reason why a call cannot be served.
func (j *Journal) refuse(ctx context.Context) error {
	if j.closed {
		return journal.ErrClosed
	}
	return ctx.Err()
}

func (c *channel) append(d journal.Draft, now int64) journal.Stored {
	if at, ok := c.keys[d.Key]; ok {
		return journal.Stored{Offset: at, Time: c.messages[c.index(at)].Time, Repeated: true}
	}
	c.head++
	c.time = max(c.time, now)
	if d.Key != "" {
		if c.keys == nil {
			c.keys, c.keyOf = make(map[string]proto.Offset), make(map[proto.Offset]string)
		}
		c.keys[d.Key], c.keyOf[c.head] = c.head, d.Key
	}
	c.messages = append(c.messages, proto.Message{
		Offset: c.head, Time: c.time, User: d.User, Client: d.Client, Data: d.Data, Attributes: d.Attributes,
	})
	return journal.Stored{Offset: c.head, Time: c.time}
}

// index is where the message at offset is, or would be, in messages: less than 0 when it was removed.
func (c *channel) index(offset proto.Offset) int {
	return len(c.messages) - 1 - int(c.head-offset)
}

func (c *channel) read(r journal.Range) []proto.Message {
	var run []proto.Message
	size := 0
	take := func(m *proto.Message) (more bool) {
		run = append(run, *m)
		size += m.Size()
		return len(run) < r.Limit && size < r.MaxBytes
	}
	if r.Backward {
		last := len(c.messages) - 1
		if r.From > 0 && r.From < c.head {
			last = c.index(r.From)
		}
		for i := last; i >= 0 && take(&c.messages[i]); i-- {
		}
		return run
	}
	if r.From > c.head {
		return nil
	}
	for i := max(0, c.index(r.From)); i < len(c.messages) && take(&c.messages[i]); i++ {
	}
	return run
}

// due is how many messages at the front a retention removes.
func (c *channel) due(p journal.Retention, now time.Time) int {
	n := 0
	if p.Count > 0 {
		n = max(0, int(int64(len(c.messages))-p.Count))
	}
	if p.Age > 0 {
		cutoff := now.Add(-p.Age).UnixMilli()
		n = max(n, sort.Search(len(c.messages), func(i int) bool { return c.messages[i].Time >= cutoff }))
	}
	return n
}

// drop removes the first n messages.
func (c *channel) drop(n int) {
	for i := range c.messages[:n] {
		offset := c.messages[i].Offset
		if key, ok := c.keyOf[offset]; ok {
			delete(c.keys, key)
			delete(c.keyOf, offset)
		}
	}
	clear(c.messages[:n])
	c.messages = c.messages[n:]
	if cap(c.messages) > 2*len(c.messages)+trimStep { // give back what a busier time needed
		c.messages = slices.Clone(c.messages)
	}
}
