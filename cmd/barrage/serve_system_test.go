//go:build system

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"barrage/internal/testserver"
)

// Without the journal a client waits, for 10 s, and is then asked to come back.
func TestAJoinWithoutTheJournalEndsWith3013(t *testing.T) {
	t.Parallel()
	s := serve(t, "--journal", "postgres://"+nobody(t)+"/x")
	started := time.Now()
	c := s.dial("/ws/room") // the handshake is answered when the wait is over
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"publish":{"data":1}}`)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.ReadMessage(); !websocket.IsCloseError(err, 3013) {
		t.Errorf("a channel that cannot be opened closes with 3013, not %s, %v", b, err)
	}
	if d := time.Since(started); d < 8*time.Second {
		t.Errorf("a client waits for the journal for a while, not for %v", d)
	}
	s.stop()
}

// A client that has joined is told error 120, to be retried, while PostgreSQL is away.
func TestRedisAwayAndPostgreSQLGoing(t *testing.T) {
	t.Parallel()
	pg, err := testserver.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Close() })
	s := serve(t, "--journal", pg.URL(), "--broker", "redis://"+nobody(t))
	s.ready(200, "following the journal")
	c := s.dial("/ws/room")
	if got := read(t, c); !strings.HasPrefix(got, `{"welcome"`) {
		t.Fatalf("without Redis everything works: %s", got)
	}
	if err := pg.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"publish":{"data":1,"id":"k"}}`)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); !strings.Contains(got, `"code":120`) || !strings.Contains(got, `"id":"k","retry":true`) {
		t.Errorf("a publish without the journal is error 120, to be retried, not %s", got)
	}
	s.stop(c)
}
