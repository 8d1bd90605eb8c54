package channel

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"barrage/fanout"
	"barrage/journal"
	"barrage/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a journal of one channel that can go away, go back, be slow and be replaced, and that counts.
type store struct {
	mu       sync.Mutex
	epoch    proto.Epoch
	oldest   proto.Offset
	messages []proto.Message // 1, 2, 3, …; those before oldest cannot be read
	latency  time.Duration
	away     bool
	reads    int
	heads    int
}

func (s *store) call(ctx context.Context, count *int) error {
	s.mu.Lock()
	*count++
	latency, away := s.latency, s.away
	s.mu.Unlock()
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if away {
		return journal.ErrUnavailable
	}
	return nil
}

func (s *store) Read(ctx context.Context, _ string, r journal.Range) (journal.Page, error) {
	if err := s.call(ctx, &s.reads); err != nil {
		return journal.Page{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r = r.Bounded()
	p := journal.Page{Epoch: s.epoch, Head: proto.Offset(len(s.messages))}
	from, step := max(r.From, s.oldest), proto.Offset(1)
	if r.Backward {
		step = ^proto.Offset(0)
		if from = r.From; from == 0 || from > p.Head {
			from = p.Head
		}
	}
	size := 0
	for o := from; o >= s.oldest && o <= p.Head && len(p.Messages) < r.Limit && size < r.MaxBytes; o += step {
		p.Messages = append(p.Messages, s.messages[o-1])
		size += s.messages[o-1].Size()
	}
	return p, nil
}

func (s *store) Heads(ctx context.Context, names []string) (journal.Heads, error) {
	if err := s.call(ctx, &s.heads); err != nil {
		return journal.Heads{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := journal.Heads{Epoch: s.epoch}
	for range names {
		h.Offsets = append(h.Offsets, proto.Offset(len(s.messages)))
	}
	return h, nil
}

// set changes the store.
func (s *store) set(change func(s *store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// counts returns the numbers of reads and of comparisons of heads.
func (s *store) counts() (reads, heads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads, s.heads
}

// add stores n messages of size bytes and returns them.
func (s *store) add(n, size int) []proto.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.messages = append(s.messages, proto.Message{Offset: proto.Offset(len(s.messages) + 1), Data: bytes.Repeat([]byte{'x'}, size)})
	}
	return slices.Clone(s.messages[len(s.messages)-n:])
}

// topics is a Subscriber that remembers.
type topics struct {
	mu    sync.Mutex
	calls []string
}

func (s *topics) note(what string, names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what+" "+strings.Join(names, " "))
}
func (s *topics) Subscribe(names ...string)   { s.note("subscribe", names) }
func (s *topics) Unsubscribe(names ...string) { s.note("unsubscribe", names) }

// plain is a Codec whose frames are lines.
type plain struct{}

func (plain) AppendFrame(dst []byte, _ string, m *proto.Message) []byte {
	return fmt.Appendf(dst, "%d %s\n", m.Offset, m.Data)
}

func (plain) Skipped(_ string, n uint64) fanout.Notice {
	return fanout.Notice{Frames: fmt.Appendf(nil, "skipped %d\n", n)}
}

func (plain) Reset(_ string, p proto.Position, _ string) fanout.Notice {
	return fanout.Notice{Frames: fmt.Appendf(nil, "reset %s/%d\n", p.Epoch, p.Offset)}
}

// stage is a hub with a store, in fake time.
type stage struct {
	t     *testing.T
	store *store
	subs  *topics
	hub   *Hub
	outs  []*member
}

const room = "room"

// onStage runs a story in fake time with a hub whose journal holds head messages in epoch A. The broker works.
func onStage(t *testing.T, head int, story func(t *testing.T, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, store: &store{epoch: "A", oldest: 1}, subs: &topics{}}
		s.store.add(head, 1)
		writers := fanout.NewWriters(2)
		s.hub = NewHub(Options{
			Store: s.store, Subscriber: s.subs, Writers: writers, Codecs: []Codec{plain{}, plain{}},
			Namespaces: Namespaces{Named: map[string]Namespace{
				"live": {Live: true}, "busy": {Live: true, Merge: 100 * time.Millisecond}, "merged": {Merge: 100 * time.Millisecond},
			}},
			Log: slog.New(slog.DiscardHandler),
		})
		s.hub.SetBrokerUp(true)
		defer func() {
			for _, m := range s.outs {
				m.out.Close()
			}
			s.hub.Close()
			writers.Close()
		}()
		story(t, s)
	})
}

// member is a connection with what it was told.
type member struct {
	out    *fanout.Outlet
	mu     sync.Mutex
	full   bool // the socket takes nothing
	armed  bool
	taken  []byte
	joined []Joined
}

func (m *member) TryWrite(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return 0, nil
	}
	m.taken = append(m.taken, b...)
	return len(b), nil
}
func (m *member) ArmWrite()   { m.mu.Lock(); m.armed = true; m.mu.Unlock() }
func (m *member) Finish()     {}
func (m *member) Abort(error) {}

// stop makes the socket take nothing more, until goOn.
func (m *member) stop() { m.mu.Lock(); m.full = true; m.mu.Unlock() }

func (m *member) goOn() {
	m.mu.Lock()
	m.full = false
	armed := m.armed
	m.armed = false
	m.mu.Unlock()
	if armed {
		m.out.Writable()
	}
}

// join makes a member and returns at once.
func (s *stage) join(start Start) *member { return s.joinTo(room, start) }

func (s *stage) joinTo(name string, start Start) *member {
	m := &member{}
	m.out = fanout.NewOutlet(s.hub.writers, m, 0)
	s.outs = append(s.outs, m)
	s.hub.Join(name, JoinRequest{Start: start, Outlet: m.out, Ready: func(j Joined) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.joined = append(m.joined, j)
		return true
	}})
	return m
}

// publish stores n messages and delivers them here, as a node does.
func (s *stage) publish(n int) { s.hub.Deliver(room, s.store.epoch, s.store.add(n, 1)) }

// rest lets d pass, and then everything that is under way at that moment.
func rest(d time.Duration) { time.Sleep(d); synctest.Wait() }

// place is how the member was joined: the position, what is next, and whether it was a reset.
func (m *member) place(t *testing.T) Joined {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.joined) != 1 {
		t.Fatalf("a member must be joined once, but Ready was called %d times", len(m.joined))
	}
	return m.joined[0]
}

// got is what the member was given, such as "1..5 reset B/7 8".
func (m *member) got() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var parts []string
	var offsets []proto.Offset
	flush := func() {
		if len(offsets) > 0 {
			parts = append(parts, ranges(offsets))
			offsets = nil
		}
	}
	for line := range strings.Lines(string(m.taken)) {
		if strings.HasPrefix(line, "reset") {
			flush()
			parts = append(parts, strings.TrimSpace(line))
			continue
		}
		number, _, _ := strings.Cut(line, " ")
		o, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			parts = append(parts, "broken line "+line)
		}
		offsets = append(offsets, proto.Offset(o))
	}
	flush()
	return strings.Join(parts, " ")
}

func (m *member) expect(t *testing.T, want string) {
	t.Helper()
	if got := m.got(); got != want {
		t.Errorf("the member was given %q, want %q", got, want)
	}
}

func since(o proto.Offset) Start { return Start{Since: &o} }

func sinceIn(o proto.Offset, epoch proto.Epoch) Start { return Start{Since: &o, Epoch: epoch} }
