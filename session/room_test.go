package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/fanout"
	"barrage/proto"
)

// queried is how often a page of history was asked for.
func (b *backend) queried() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queries)
}

// large is a page of history of about a megabyte.
func large() proto.History {
	return proto.History{Epoch: "e", Offset: 1, Messages: []proto.Message{{Offset: 1, Data: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)}}}
}

func TestAClientThatLetsAnswersPileUpIsNotReadOn(t *testing.T) {
	c := open(t, JSON, "")
	unstick := c.stick()
	c.join()
	pings := strings.Repeat(`{"ping":{"id":"`+strings.Repeat("x", 100)+`"}}`+"\n", 100)
	taken := 0
	for ; !c.Full(); taken++ {
		if rest := c.says(pings); rest != "" {
			break
		}
		if taken > 1000 {
			t.Fatal("a client that does not read is not read on")
		}
	}
	if n := c.out.Pending(); n > fanout.DefaultPending/2+1000 {
		t.Errorf("what waits for a client that does not read is bounded, not %d bytes", n)
	}
	before := c.resumed()
	unstick()
	eventually(t, "a client that has read its answers is read on", func() bool { return c.resumed() > before && !c.Full() })
}

func TestLargeAnswersWaitForRoom(t *testing.T) {
	c := open(t, JSON, "").join()
	c.expect(welcome)
	unstick := c.stick()
	const asked = maxHistories
	for id := range asked {
		c.says(fmt.Sprintf(`{"history":{"id":"%d"}}`, id))
	}
	if !c.Full() {
		t.Error("as many reads as there may be are under way")
	}
	for range asked {
		c.backend.page(large(), nil)
	}
	if n := c.out.Pending(); n > fanout.DefaultPending/2+1<<20+1000 {
		t.Errorf("one large answer waits to be read, and nothing is kept of the others; not %d bytes", n)
	}
	if n := c.backend.queried(); n != asked {
		t.Errorf("while there is no room nothing is asked for again; %d times it was", n-asked)
	}
	unstick()
	got := map[string]bool{}
	for n := range asked {
		if n > 0 {
			eventually(t, "what found no room is asked for again, one at a time", func() bool { return c.backend.queried() == asked+n })
			c.backend.page(large(), nil)
		}
		line := c.next(1)[0]
		_, after, _ := strings.Cut(line[:30], `"id":"`)
		id, _, _ := strings.Cut(after, `"`)
		got[id] = true
	}
	if len(got) != asked {
		t.Errorf("each question has its answer, not %v", got)
	}
	eventually(t, "the client is read on", func() bool { return !c.Full() })
	eventually(t, "what waited is forgotten", func() bool {
		c.Session.mu.Lock()
		defer c.Session.mu.Unlock()
		return c.edge == nil
	})
}

func TestAnAnswerThatWaitsCanFail(t *testing.T) {
	c := open(t, JSON, "").join()
	c.expect(welcome)
	unstick := c.stick()
	c.says(`{"history":{"id":"1"}}` + "\n" + `{"history":{"id":"2"}}`)
	c.backend.page(large(), nil)
	c.backend.page(large(), nil)
	c.Leave(proto.CloseShutdown)
	unstick()
	c.next(1)
	eventually(t, "what found no room is asked for again", func() bool { return c.backend.queried() == 3 })
	c.backend.page(proto.History{}, proto.ErrUnavailable)
	c.expect(`{"error":{"code":120,"message":"storage is unavailable; try again later","id":"2","retry":true}}`, "close 3001 shutdown")
}

func TestWhoIsToGoAndReadsSlowlyDoesNotStay(t *testing.T) {
	c := open(t, JSON, "").join()
	c.expect(welcome)
	_ = c.stick()
	c.says(`{"history":{"id":"1"}}` + "\n" + `{"history":{"id":"2"}}`)
	c.backend.page(large(), nil)
	c.backend.page(large(), nil)
	now := time.Now()
	c.Expire(now)
	c.Leave(proto.CloseForced)
	for _, wait := range []time.Duration{time.Hour, time.Hour + Grace - 1} {
		if c.Expire(now.Add(wait)); c.ended.Load() {
			t.Fatal("who has answers to read is given some time")
		}
	}
	if c.Expire(now.Add(time.Hour + Grace)); !c.ended.Load() {
		t.Error("who is to go does not stay by reading slowly")
	}
}
