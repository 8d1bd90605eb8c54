package gateway

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"barrage/ws"
)

// fill publishes as many messages of 60 KB into a channel as a page of history holds.
func (w *world) fill(name string) {
	w.t.Helper()
	for range 18 {
		w.publish(name, `"`+strings.Repeat("x", 60_000)+`"`)
	}
}

// questions are commands whose answers are eight large ones and some small ones, by path, and what the answers begin with.
func questions() map[string][2]string {
	var plain, centrifuge strings.Builder
	for id := range 8 {
		fmt.Fprintf(&plain, `{"history":{"id":"h%d","limit":100}}`+"\n"+`{"ping":{"id":"p%d"}}`+"\n", id, id)
		fmt.Fprintf(&centrifuge, `{"id":%d,"history":{"channel":"room","limit":100}}`+"\n"+`{"id":%d,"ping":{}}`+"\n", 10+id, 20+id)
	}
	return map[string][2]string{
		"/ws/room":              {plain.String(), `{"history":`},
		"/connection/websocket": {`{"id":1,"connect":{}}` + "\n" + centrifuge.String(), `"history":{"publications":`},
	}
}

// steady reads with pauses, at most so many bytes at a time.
type steady struct{ io.Reader }

func (s steady) Read(b []byte) (int, error) {
	time.Sleep(200 * time.Microsecond)
	return s.Reader.Read(b[:min(len(b), 64<<10)])
}

func TestWhoReadsSlowlyButSteadilyIsGivenAllItAskedFor(t *testing.T) {
	w := start(t, Options{Write: 2 * time.Second})
	w.fill("room")
	for path, q := range questions() {
		c := w.knock(path, text(q[0])...)
		c.br.Reset(steady{c.Conn})
		c.answer()
		large := 0
		for pongs := 0; large < 8 || pongs < 8; {
			switch ev := c.event(); {
			case ev.Op == ws.OpClose:
				t.Fatalf("%s: who reads steadily is not closed with %d after %d large answers", path, ev.Code, large)
			case len(ev.Payload) > 1<<20 && strings.Contains(string(ev.Payload[:60]), q[1]):
				large++
			case strings.Contains(string(ev.Payload), `"pong":{"id"`), strings.Contains(string(ev.Payload), `"ping":{}`):
				pongs++
			}
		}
	}
	if n := w.gateway.Stats().Slow.Load(); n != 0 {
		t.Errorf("nobody was too slow, not %d", n)
	}
}

func TestWhoAsksForMuchAndDoesNotReadIsClosed(t *testing.T) {
	w := start(t, Options{Write: 300 * time.Millisecond})
	w.fill("room")
	most := 0
	for path, q := range questions() {
		closed := w.gateway.Stats().Slow.Load()
		_ = w.wild(path, text(q[0])...)
		eventually(t, "who takes no bytes for too long is closed", func() bool {
			w.gateway.mu.Lock()
			for _, c := range w.gateway.conns {
				most = max(most, c.out.Pending())
			}
			w.gateway.mu.Unlock()
			return w.gateway.Stats().Slow.Load() > closed
		})
	}
	if most > 2<<20 || most < 1<<19 {
		t.Errorf("of eight answers of 1 MiB little more than one waits to be read, not %d bytes", most)
	}
}
