package channel

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/proto"
)

func text(format string, args ...any) proto.Message {
	return proto.Message{Data: fmt.Appendf(nil, format, args...)}
}

// heard is what a member was given, in words.
func (m *member) heard() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(strings.Fields(string(m.taken)), " ")
}

func TestChannelsBelongToNamespaces(t *testing.T) {
	n := Namespaces{Default: Namespace{Merge: time.Second}, Named: map[string]Namespace{"live": {Live: true}}}
	for name, live := range map[string]bool{"live:x": true, "live:": true, "live:a:b": true, "live": false, "alive:x": false, "x:live:y": false, ":live": false} {
		if got := n.Of(name); got.Live != live || live != (got.Merge == 0) {
			t.Errorf("%q is in a live namespace: %v, want %v", name, got.Live, live)
		}
	}
}

// A live channel is joined at once, whatever the journal does and whatever position is asked for, and never looked up there.
func TestALiveChannelNeedsNoJournal(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		s.store.set(func(s *store) { s.away = true })
		var members []*member
		for _, start := range []Start{{}, since(7), {Last: 5}} {
			m := s.joinTo("live:x", start)
			if j := m.place(t); !j.Live || j.Reset || j.Err != nil || j.Offset != 0 {
				t.Errorf("a member of a live channel must be placed at once and without an offset, but got %+v", j)
			}
			members = append(members, m)
		}
		s.hub.DeliverLive("live:x", []proto.Message{text("a"), text("b")})
		s.hub.DeliverLive("live:other", []proto.Message{text("nobody hears this")})
		s.hub.Check("live:x")
		rest(30 * time.Second)
		for _, m := range members {
			if got := m.heard(); got != "0 a 0 b" {
				t.Errorf("a member heard %q, want both messages", got)
			}
		}
		if reads, heads := s.store.counts(); reads+heads != 0 {
			t.Errorf("the journal was asked %d times about a live channel, want never", reads+heads)
		}
	})
}

func TestMessagesOfTheOtherClassAreDropped(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		durable, live := s.join(Start{}), s.joinTo("live:x", Start{})
		rest(time.Second)
		s.hub.DeliverLive(room, []proto.Message{text("a")})
		s.hub.Deliver("live:x", "A", []proto.Message{{Offset: 1, Data: []byte("b")}})
		s.hub.Announced("live:x", proto.Position{Epoch: "A", Offset: 9})
		rest(time.Minute)
		if durable.heard() != "" || live.heard() != "" || s.hub.stats.Strays.Load() != 2 {
			t.Errorf("members heard %q and %q, and %d strays were counted, want none and 2", durable.heard(), live.heard(), s.hub.stats.Strays.Load())
		}
	})
}

// What another node sends is delivered at most once and in its order, whatever the broker does to it.
func TestLivePayloadsAreHeardAtMostOnce(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		m := s.joinTo("live:x", Start{})
		for _, p := range []struct {
			node   string
			number uint64
		}{{"b", 1}, {"b", 1}, {"b", 3}, {"c", 1}, {"b", 2}, {"b", 3}, {"b", 4}, {"c", 2}} {
			s.hub.HearLive("live:x", p.node, p.number, []proto.Message{text("%s%d", p.node, p.number)})
		}
		rest(time.Second)
		if got := m.heard(); got != "0 b1 0 b3 0 c1 0 b4 0 c2" {
			t.Errorf("a member heard %q", got)
		}
		rest(forgetAfter + time.Minute)
		if n := len(s.hub.lookup("live:x").heard); n != 0 {
			t.Errorf("nodes that were not heard of for long are forgotten, but %d are remembered", n)
		}
	})
}

// A reader that is too slow skips ahead to the newest message and is told how many it missed; the others miss nothing.
func TestASlowMemberOfALiveChannelSkipsAhead(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		slow, quick := s.joinTo("live:x", Start{}), s.joinTo("live:x", Start{})
		s.hub.DeliverLive("live:x", []proto.Message{text("first")})
		rest(time.Second)
		slow.stop()
		const n = 1000
		for i := range n {
			s.hub.DeliverLive("live:x", []proto.Message{text("%d%s", i, bytes.Repeat([]byte{'.'}, 1000))})
			rest(time.Millisecond)
		}
		slow.goOn()
		rest(time.Second)
		s.hub.DeliverLive("live:x", []proto.Message{text("last")})
		rest(time.Second)
		if got, want := slow.heard(), fmt.Sprintf("0 first skipped %d 0 %d%s 0 last", n-1, n-1, strings.Repeat(".", 1000)); got != want {
			t.Errorf("the slow member heard %.100q, want %.100q", got, want)
		}
		if got := strings.Count(quick.heard(), "0 "); got < n+2 {
			t.Errorf("the quick member heard %d messages, want all %d", got, n+2)
		}
		if st := s.hub.Stats(); st.SkippedMembers.Load() != 1 || st.SkippedMessages.Load() != n-1 {
			t.Errorf("%d skips of %d messages were counted, want 1 of %d", st.SkippedMembers.Load(), st.SkippedMessages.Load(), n-1)
		}
	})
}

// A live channel that nobody is left in goes out of use like any other.
func TestAnIdleLiveChannelIsRetired(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		m := s.joinTo("live:x", Start{})
		m.out.Close()
		rest(time.Minute)
		if n := s.hub.Channels(); n != 0 {
			t.Errorf("%d channels are in use, want none", n)
		}
		if got := strings.Join(s.subs.calls, ", "); got != "subscribe live:x, unsubscribe live:x" {
			t.Errorf("the broker was told %q", got)
		}
	})
}

// Both classes have merge windows; a channel that goes out of use while one is open leaves nothing behind.
func TestBusyChannelsMerge(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		live, durable := s.joinTo("busy:x", Start{}), s.joinTo("merged:x", Start{})
		rest(time.Second)
		before := s.hub.writers.Stats.Writes.Load()
		const n = 500
		for range n {
			s.hub.DeliverLive("busy:x", []proto.Message{text("a")})
			s.hub.Deliver("merged:x", "A", s.store.add(1, 1))
			rest(time.Millisecond)
		}
		rest(100 * time.Millisecond)
		if got := strings.Count(live.heard(), "a"); got != n {
			t.Errorf("the member of the live channel heard %d messages, want all %d", got, n)
		}
		durable.expect(t, "1..500")
		if writes := s.hub.writers.Stats.Writes.Load() - before; writes > 30 {
			t.Errorf("%d messages took %d writes, want about 20", 2*n, writes)
		}
		for range 5 {
			s.hub.DeliverLive("busy:x", []proto.Message{text("a")})
		}
		live.out.Close()
		durable.out.Close()
		rest(2 * time.Minute)
		if n := s.hub.Channels(); n != 0 {
			t.Errorf("%d channels are in use, want none", n)
		}
	})
}
