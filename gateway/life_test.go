package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/channel"
	"barrage/fanout"
	"barrage/session"
	"barrage/ws"
)

// brisk are settings under which a silent client is closed soon.
var brisk = Options{Ping: 100 * time.Millisecond, Pong: 500 * time.Millisecond}

func TestAClientThatDoesNotAnswerPings(t *testing.T) {
	w := start(t, brisk)
	lively := w.dial("/ws/room") // answers pings while it reads
	lively.welcome()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = lively.ReadMessage()
	}()
	opened := time.Now()
	c := w.wild("/ws/room")
	c.text() // the welcome
	if ev := c.event(); ev.Op != ws.OpPing {
		t.Errorf("a silent client is pinged, not sent opcode %d", ev.Op)
	}
	c.write(frame(true, ws.OpPong, ""))
	if ev := c.event(); ev.Op != ws.OpPing {
		t.Errorf("a client that answers is pinged again, not sent opcode %d, %d", ev.Op, ev.Code)
	}
	if ev := c.closing(); ev.Code != 3012 {
		t.Errorf("a client that does not answer is closed with 3012, not %d", ev.Code)
	}
	if d := time.Since(opened); d < brisk.Ping+brisk.Pong {
		t.Errorf("a client has time to answer: it was closed after %v", d)
	}
	// It does not go: it is cut, and counted once.
	eventually(t, "a client that does not end its side is cut", func() bool { return w.gateway.Count() == 1 })
	if n := w.gateway.Stats().NoPong.Load(); n != 1 {
		t.Errorf("a client that does not answer is counted once, not %d times", n)
	}
	lively.Close()
	<-done
}

// A client that dies after it was full once is found out like any other.
func TestAClientThatWasFullIsPingedAgain(t *testing.T) {
	w := start(t, brisk)
	c := w.wild("/ws/room")
	c.text()
	open := w.journal.appends.close()
	var flood []byte
	for range 200 {
		flood = append(flood, text(`{"publish":{"data":1}}`)...)
	}
	c.write(flood)
	w.gateway.mu.Lock()
	there := w.gateway.conns[0]
	w.gateway.mu.Unlock()
	eventually(t, "a session is full, and its client is not read", func() bool { return there.client.Full() && there.deaf.Load() })
	if after := there.Tick(time.Now().Add(time.Hour)); after != 0 || w.gateway.Stats().NoPong.Load() != 0 {
		t.Error("a client whose pongs are not read is not closed for want of them")
	}
	open()
	if ev := c.closing(); ev.Code != 3012 {
		t.Errorf("a client that was full and does not answer pings is closed with 3012, not %d", ev.Code)
	}
}

// A client that never reads is closed; the others are not delayed by it.
func TestAClientThatNeverReads(t *testing.T) {
	w := start(t, Options{Write: 300 * time.Millisecond})
	stuck := w.wild("/ws/room")
	stuck.text() // the welcome, and nothing more
	reader, writer := w.dial("/raw/room"), w.dial("/ws/room?echo=0")
	writer.welcome()
	text := strings.Repeat("x", 60_000)
	for i := range 40 {
		sent := time.Now()
		writer.publish(fmt.Sprintf(`"%d%s"`, i, text))
		if got := reader.line(); got != fmt.Sprint(i)+text {
			t.Fatalf("message %d must reach those who read", i)
		}
		if d := time.Since(sent); d > 5*time.Second {
			t.Fatalf("a client that does not read must not delay others: %v", d)
		}
	}
	eventually(t, "a client that accepts no bytes for too long is closed", func() bool { return w.gateway.Count() == 2 })
	if n := w.gateway.Stats().Slow.Load(); n != 1 {
		t.Errorf("a client that was too slow is counted once, not %d times", n)
	}
}

// A client that sends pings and never reads the pongs: what waits for it is bounded, then it is closed.
func TestAFloodOfPingsIsBounded(t *testing.T) {
	w := start(t, Options{Write: 300 * time.Millisecond})
	c := w.wild("/ws/room")
	var pings []byte
	for range 1000 {
		pings = append(pings, frame(true, ws.OpPing, strings.Repeat("x", 125))...)
	}
	most := 0
	for range 1000 {
		if _, err := c.Write(pings); err != nil {
			break // it was cut
		}
		w.gateway.mu.Lock()
		for _, open := range w.gateway.conns {
			most = max(most, open.out.Pending())
		}
		w.gateway.mu.Unlock()
		if w.gateway.Stats().Slow.Load() > 0 {
			break
		}
	}
	if most > 1<<20+200 {
		t.Errorf("pongs that wait are bounded by 1 MiB, not %d bytes", most)
	}
	eventually(t, "a client that floods with pings and does not read is closed", func() bool { return w.gateway.Count() == 0 })
	if n := w.gateway.Stats().Slow.Load(); n != 1 {
		t.Errorf("a client that lets pongs pile up is counted once, not %d times", n)
	}
}

func TestAClientThatIsCutLeavesNothingBehind(t *testing.T) {
	w := start(t, Options{})
	for range 20 {
		c := w.wild("/ws/room?last=1000")
		c.write(text(`{"publish":{"data":1}}`))
		c.reset()
	}
	eventually(t, "connections that broke are released", func() bool { return w.gateway.Stats().Closed.Load() == 20 })
	s := w.gateway.Stats()
	if s.Accepted.Load() != 20 || s.Closed.Load() != 20 || s.Slow.Load() != 0 || s.Violation.Load() != 0 {
		t.Errorf("20 were accepted and closed, none slow or wrong: %d, %d, %d, %d", s.Accepted.Load(), s.Closed.Load(), s.Slow.Load(), s.Violation.Load())
	}
}

func TestShutdown(t *testing.T) {
	w := start(t, Options{})
	c, raw, idle := w.dial("/ws/room"), w.dial("/raw/room"), w.dial("/ws/other")
	c.welcome()
	idle.welcome()
	open := w.journal.appends.close()
	c.send(`{"publish":{"data":1,"id":"k"}}`)
	w.journal.appends.await(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		w.gateway.Shutdown(ctx)
	}()
	if e := idle.closed(); e.Code != 3001 || e.Text == "" {
		t.Errorf("everyone is sent away with 3001 and a reason, not %v", e)
	}
	if e := raw.closed(); e.Code != 3001 {
		t.Errorf("everyone is sent away with 3001, not %v", e)
	}
	status, header, sentence := w.refused(handshake(w.addr, "/ws/room"))
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(sentence, "shutting down") {
		t.Errorf("a node that shuts down refuses handshakes with 503, Retry-After and a sentence, not with %d %v %q", status, header, sentence)
	}
	select {
	case <-done:
		t.Fatal("Shutdown waits for publishes under way")
	default:
	}
	open()
	acked := false
	for !acked {
		if r := c.reply(); r.Ack != nil {
			acked = r.Ack.ID == "k" && r.Ack.Offset == 1
		}
	}
	if e := c.closed(); e.Code != 3001 {
		t.Errorf("a publish under way is acknowledged before its client is sent away with 3001, not %v", e)
	}
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("Shutdown ends when everyone has gone")
	}
	if n := w.gateway.Count(); n != 0 {
		t.Errorf("after Shutdown no connection is left, not %d", n)
	}
}

// A client that waits for its channel to be opened is sent away at once.
func TestShutdownWhileJoining(t *testing.T) {
	w := start(t, Options{})
	open := w.journal.reads.close()
	defer open()
	c := w.knock("/ws/room", text(`{"publish":{"data":1}}`)...)
	w.journal.reads.await(t)
	eventually(t, "the connection must be there", func() bool { return w.gateway.Count() == 1 })
	done := make(chan struct{})
	started := time.Now()
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		w.gateway.Shutdown(ctx)
	}()
	c.answer()
	if ev := c.closing(); ev.Code != 3001 {
		t.Errorf("a client that is joining is sent away with 3001, not %d", ev.Code)
	}
	c.Close()
	<-done
	if d := time.Since(started); d > patience/2 {
		t.Errorf("a client that goes when it is told to does not hold up the end: %v", d)
	}
}

// Those who do not go are cut when the time is over.
func TestShutdownIsBounded(t *testing.T) {
	w := start(t, Options{})
	c := w.wild("/ws/room")
	c.text()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	w.gateway.Shutdown(ctx)
	if n := w.gateway.Count(); n != 0 {
		t.Errorf("after Shutdown no connection is left, not %d", n)
	}
}

// Clients are sent away a part at a time, so that they do not arrive elsewhere all at once.
func TestShutdownIsPaced(t *testing.T) {
	w := start(t, Options{})
	const clients = drainBurst + 50
	var mu sync.Mutex
	var ends []time.Time
	var wg sync.WaitGroup
	for range clients {
		c := w.wild("/raw/room")
		wg.Go(func() {
			if ev := c.closing(); ev.Code != 3001 {
				t.Errorf("everyone is sent away with 3001, not %d", ev.Code)
			}
			mu.Lock()
			ends = append(ends, time.Now())
			mu.Unlock()
			c.Close()
		})
	}
	eventually(t, "all must be connected", func() bool { return w.gateway.Count() == clients })
	started := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.gateway.Shutdown(ctx)
	wg.Wait()
	late := 0
	for _, end := range ends {
		if end.Sub(started) >= drainPace {
			late++
		}
	}
	if late < clients-drainBurst {
		t.Errorf("of %d clients at most %d are sent away at once, not %d", clients, drainBurst, clients-late)
	}
}

// Clients come and go while the node shuts down: all are sent away or refused, none is forgotten. One whose publish is under way holds up
// the end until others were refused.
func TestShutdownWhileClientsArrive(t *testing.T) {
	w := start(t, Options{})
	last := w.wild("/ws/room")
	last.text()
	open := w.journal.appends.close()
	defer open()
	last.write(text(`{"publish":{"data":1}}`))
	w.journal.appends.await(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := w.connect()
				if err != nil {
					return // the node has ended
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, _ = c.Write([]byte(handshake(w.addr, "/ws/room")))
				_, _ = c.Read(make([]byte, 4096))
				c.Close()
			}
		})
	}
	eventually(t, "clients must come", func() bool { return w.gateway.Stats().Accepted.Load() > 10 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var stopping sync.WaitGroup
	stopping.Go(func() { w.gateway.Shutdown(ctx) })
	s := w.gateway.Stats()
	eventually(t, "clients must be refused", func() bool { return s.Refused.Load() > 0 })
	open()
	last.closing()
	last.Close()
	stopping.Wait()
	if ctx.Err() != nil {
		t.Error("Shutdown ends as soon as everyone has gone")
	}
	close(stop)
	wg.Wait()
	if n := w.gateway.Count(); n != 0 || s.Accepted.Load() != s.Closed.Load() {
		t.Errorf("all %d that were accepted were closed, not %d, and the others refused (%d); %d are left", s.Accepted.Load(), s.Closed.Load(), s.Refused.Load(), n)
	}
	w.gateway.mu.Lock()
	defer w.gateway.mu.Unlock()
	if len(w.gateway.perAddr) != 0 || w.gateway.pending != 0 {
		t.Errorf("nothing is counted any more: %v, %d", w.gateway.perAddr, w.gateway.pending)
	}
}

// A handshake may be completed when its node has ended already: its connection is closed, and nothing goes on.
func TestJoiningANodeThatHasEnded(t *testing.T) {
	n, j := newNode(t, session.Codecs())
	defer j.Close()
	out := fanout.NewOutlet(n.Writers(), nil, 0)
	ready := make(chan error, 2)
	join := func() {
		n.Join("room", channel.JoinRequest{Outlet: out, Ready: func(j channel.Joined) bool { ready <- j.Err; return j.Err == nil }})
	}
	join()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	out.Close()
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	go join() // which went round in circles
	select {
	case err := <-ready:
		if err == nil {
			t.Error("joining a channel of a node that has ended fails")
		}
	case <-time.After(patience):
		t.Error("joining a channel of a node that has ended fails at once")
	}
}
