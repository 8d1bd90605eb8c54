//go:build system

package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
)

const liveSpace = "BARRAGE_NAMESPACES=live:class=live"

// Live messages reach every node through Redis, in order, while there is no database.
func TestLiveChannelsNeedNoDatabase(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{Nodes: 2, Env: []string{liveSpace}})
	if err := c.Postgres.Kill(); err != nil {
		t.Fatal(err)
	}
	publisher, w := join(t, c.Nodes[0].URL(), "live:room", "echo=0")
	here, _ := join(t, c.Nodes[0].URL(), "live:room")
	there, _ := join(t, c.Nodes[1].URL(), "live:room", "since=3")
	if !w.Welcome.Live {
		t.Errorf("the welcome of a live channel says that it is live: got %s", w.Text)
	}
	// The subscription of the second node comes into force some time after its first member has joined.
	heard := make(chan Line, 1)
	go func() {
		l, _ := there.Next(20 * time.Second)
		heard <- l
	}()
	warm := 0
	for first := true; first; {
		publish(t, publisher, "0")
		warm++
		select {
		case l := <-heard:
			if first = false; l.Message == nil || string(l.Message.Data) != "0" {
				t.Fatalf("the first message comes: got %s", l.Text)
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
	const count = 500
	for i := 1; i <= count; i++ {
		l := ask(t, publisher, fmt.Sprintf(`{"publish":{"data":%d}}`, i))
		if l.Ack == nil || !l.Ack.Live || l.Ack.Offset != 0 {
			t.Fatalf("a live publish is acknowledged without an offset while the database is away: got %s", l.Text)
		}
	}
	for where, m := range map[string]*Client{"the same node": here, "the other node": there} {
		for due := 1; due <= count; {
			got := nextMessage(t, m)
			if string(got.Data) == "0" {
				continue
			}
			if string(got.Data) != fmt.Sprint(due) || got.Offset != 0 {
				t.Fatalf("on %s message %d comes next, without an offset: got %+v", where, due, got)
			}
			due++
		}
	}
	if l := ask(t, publisher, `{"history":{}}`); l.Error == nil || l.Error.Code != 108 || l.Error.Retry {
		t.Errorf("a live channel has no history: got %s", l.Text)
	}
}

// A reader of a live channel that does not read skips ahead when it reads again, and is told exactly how much it missed.
func TestASlowReaderOfALiveChannelSkipsAhead(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Env: []string{liveSpace}})
	slow, _ := join(t, n.URL(), "live:room")
	publisher, _ := join(t, n.URL(), "live:room", "echo=0")
	text := strings.Repeat("x", 20_000)
	const count = 1500 // 30 MB
	for i := 1; i <= count; i++ {
		data, _ := json.Marshal(fmt.Sprint(i, " ", text))
		publish(t, publisher, string(data))
	}
	due, skipped := 1, 0
	for due <= count {
		l, err := slow.Next(20 * time.Second)
		switch {
		case err != nil:
			t.Fatalf("a slow reader of a live channel stays: %v", err)
		case l.Skipped != nil:
			skipped += int(l.Skipped.Count)
			due += int(l.Skipped.Count)
		case l.Message != nil:
			if !strings.HasPrefix(string(l.Message.Data), fmt.Sprintf(`"%d `, due)) {
				t.Fatalf("message %d comes next: got %.20s", due, l.Message.Data)
			}
			due++
		}
	}
	if skipped == 0 {
		t.Error("30 MB do not fit into the sockets and the channel's memory, so something must have been skipped")
	}
}
