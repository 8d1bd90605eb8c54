package gateway

import (
	"errors"
	"strings"
	"testing"
	"time"

	"barrage/ws"
)

// Ticks may come late on a machine that has much to do: a client that is silent is told why it must go, and has time to read that.
func TestASilentClientIsToldBeforeItIsCutHoweverLateTicksAre(t *testing.T) {
	w := start(t, Options{Ping: 10 * time.Second, Pong: 10 * time.Second, Write: time.Hour})
	refusal, open := w.gateway.Upgrade(upgradeRequest("/ws/room"))
	if refusal != nil {
		t.Fatalf("the request must be accepted, not refused with %s", refusal)
	}
	socket := &notedSocket{}
	h := open(socket)
	defer h.Closed(nil)
	eventually(t, "the client is welcomed", func() bool { return strings.Contains(socket.written(), `"welcome"`) })
	closing := string(ws.AppendClose(nil, 3012, "")[2:])
	began := time.Now()
	for i, tick := range []struct {
		after time.Duration
		cut   bool
		must  string
	}{
		{11 * time.Second, false, "it is pinged when it has been silent for 10 s"},
		{40 * time.Second, false, "it is told, not cut, when the tick after that comes much too late"},
		{45 * time.Second, false, "it is not cut before another 10 s are over"},
		{51 * time.Second, true, "it is cut when it has not gone in 10 s"},
	} {
		h.Tick(began.Add(tick.after))
		if cut := errors.Is(socket.cut(), errSilent); cut != tick.cut {
			t.Errorf("after %s: %s", tick.after, tick.must)
		}
		if i == 1 {
			eventually(t, "it is told", func() bool { return strings.Contains(socket.written(), closing) })
		}
	}
	if n := w.gateway.Stats().NoPong.Load(); n != 1 {
		t.Errorf("it is counted once, not %d times", n)
	}
}
