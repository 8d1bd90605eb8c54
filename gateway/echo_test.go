package gateway

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"barrage/proto"
	"barrage/ws"
)

func TestEchoIsClosedByDefault(t *testing.T) {
	if g := New(Options{}); g.Echo {
		t.Error("nobody gets an echo who did not ask for one")
	} else {
		g.Shutdown(context.Background())
	}
}

func TestEchoGivesBackWhatItIsSent(t *testing.T) {
	w := start(t, Options{Echo: true})
	c := w.dial("/echo?since=these+are+for+channels")
	for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
		for _, text := range []string{"", "hello", strings.Repeat("弹幕", 500), strings.Repeat("x", 64<<10)} {
			if err := c.WriteMessage(kind, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if k, b, err := c.ReadMessage(); k != kind || string(b) != text || err != nil {
				t.Fatalf("a message of kind %d and %d bytes comes back as it was, not as %d with %d bytes, %v", kind, len(text), k, len(b), err)
			}
		}
	}
	if n := w.gateway.Count(); n != 1 {
		t.Errorf("an echo is a connection like others: 1, not %d", n)
	}
	if err := c.WriteMessage(websocket.BinaryMessage, make([]byte, 64<<10+1)); err != nil {
		t.Fatal(err)
	}
	if e := c.closed(); e.Code != websocket.CloseMessageTooBig {
		t.Errorf("an echo has the limits of other connections: 1009, not %v", e)
	}
	eventually(t, "an echo whose client went is released", func() bool {
		w.gateway.mu.Lock()
		defer w.gateway.mu.Unlock()
		return w.gateway.pending == 0 && len(w.gateway.perAddr) == 0 && w.gateway.guests.count() == 0
	})
}

// the echo of the only connection.
func (w *world) theEcho() *echo {
	w.gateway.guests.mu.Lock()
	defer w.gateway.guests.mu.Unlock()
	for e := range w.gateway.guests.all {
		return e
	}
	return nil
}

func TestAnEchoThatIsNotReadIsNotReadFrom(t *testing.T) {
	for name, message := range map[string][]byte{
		"binary": frame(true, ws.OpBinary, strings.Repeat("b", 60<<10)),
		"pings":  frame(true, ws.OpPing, strings.Repeat("p", 100)),
		"text":   append(frame(false, ws.OpText, strings.Repeat("t", 10<<10)), frame(true, ws.OpContinuation, "t")...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, Options{Echo: true})
			c := w.wild("/echo")
			sent := 0
			for {
				pause := patience // until some messages are through, on a machine that has much to do
				if sent > 128<<10 {
					pause = 200 * time.Millisecond
				}
				_ = c.SetWriteDeadline(time.Now().Add(pause))
				n, err := c.Write(message)
				sent += n
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil || sent > 256<<20 {
					t.Fatalf("%s: a client that reads no echoes is not read from after a while: %d bytes, %v", name, sent, err)
				}
			}
			e := w.theEcho()
			if n := e.out.Pending(); n > 4*echoWindow {
				t.Errorf("%s: what an echo keeps is bounded by its window, not %d bytes", name, n)
			}
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if n, err := io.CopyN(io.Discard, c.br, int64(sent/2)); err != nil { // but for the last message, which is not complete
				t.Errorf("%s: when the client reads again, all comes back: %d of %d bytes, %v", name, n, sent, err)
			}
		})
	}
}

func TestAnEchoThatIsNeverReadIsCut(t *testing.T) {
	w := start(t, Options{Echo: true, Write: 100 * time.Millisecond})
	c := w.wild("/echo")
	_ = c.tcp().SetReadBuffer(4 << 10)
	message := frame(true, ws.OpBinary, strings.Repeat("b", 60<<10))
	for {
		if _, err := c.Write(message); err != nil {
			break
		}
	}
	eventually(t, "who reads no echoes is cut in the end", func() bool { return w.gateway.Count() == 0 })
	if n := w.gateway.Stats().Slow.Load(); n != 1 {
		t.Errorf("that is counted once as slow, not %d times", n)
	}
}

func TestASilentEchoIsPingedAndClosed(t *testing.T) {
	w := start(t, Options{Echo: true, Ping: 100 * time.Millisecond, Pong: 100 * time.Millisecond})
	c := w.wild("/echo")
	if ev := c.event(); ev.Op != ws.OpPing {
		t.Errorf("a silent client is pinged, not sent %+v", ev)
	}
	if ev := c.closing(); ev.Code != proto.CloseNoPong.Code {
		t.Errorf("a client that answers no ping is closed with 3012, not %d", ev.Code)
	}
	eventually(t, "and cut", func() bool { return w.gateway.Count() == 0 })
}

func TestEchoesAreSentAwayByAShutdown(t *testing.T) {
	w := start(t, Options{Echo: true})
	c := w.wild("/echo")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); w.gateway.Shutdown(ctx) }()
	if ev := c.closing(); ev.Code != proto.CloseShutdown.Code {
		t.Errorf("a shutdown closes echoes with 3001, not %d", ev.Code)
	}
	c.Close()
	<-done
	if ctx.Err() != nil {
		t.Error("a shutdown waits for echoes only as long as it takes them to go")
	}
}
