//go:build system

package test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
)

func TestClientsThatDoNotAnswerPingsAreClosed(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Env: []string{"BARRAGE_LIMITS_PING=1s", "BARRAGE_LIMITS_PONG=1s"}})
	answering, _ := join(t, n.URL(), "room")
	go func() { // the library answers pings while it reads
		for {
			if _, err := answering.Frame(time.Minute); err != nil {
				return
			}
		}
	}()
	w := openWire(t, n.Addr(), "/ws/room")
	start := time.Now()
	pings := 0
	for {
		opcode, payload, err := w.read()
		if err != nil {
			t.Fatalf("a client that does not answer is told so by a close frame: %v after %d pings", err, pings)
		}
		if opcode == 9 {
			pings++
		}
		if opcode == 8 {
			if code := binary.BigEndian.Uint16(payload); code != 3012 || pings == 0 {
				t.Errorf("a client that does not answer a ping is closed with 3012: got %d after %d pings", code, pings)
			}
			break
		}
	}
	if took := time.Since(start); took < time.Second || took > 7*time.Second {
		t.Errorf("with ping and pong of 1 s that takes about two seconds: %s", took)
	}
	if err := answering.Send(`{"publish":{"data":1}}`); err != nil {
		t.Errorf("a client that answers stays: %v", err)
	}
}

// TestSlowReaderMissesNothing publishes far more than sockets, and the channel's memory, can hold while one member does
// not read at all. Afterwards that member reads everything in order, or is closed with an invitation to resume and then
// has everything.
func TestSlowReaderMissesNothing(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	slow, w := join(t, n.URL(), "room")
	publisher, _ := join(t, n.URL(), "room", "echo=0")
	quick, _ := join(t, n.URL(), "room")
	const count, size = 1500, 20_000 // 30 MB
	text := strings.Repeat("x", size)
	done := make(chan error, 1)
	go func() { // a member that reads is not held up by one that does not
		for i := uint64(1); i <= count; i++ {
			l, err := quick.Next(20 * time.Second)
			if err == nil && (l.Message == nil || l.Message.Offset != i) {
				err = fmt.Errorf("message %d is due, %.100s came", i, l.Text)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range count {
		data, _ := json.Marshal(fmt.Sprint(i, " ", text))
		publish(t, publisher, string(data))
	}
	if err := <-done; err != nil {
		t.Fatalf("a quick member of the channel gets everything while a slow one reads nothing: %v", err)
	}
	reconnects := 0
	for next := uint64(1); next <= count; {
		l, err := slow.Next(20 * time.Second)
		if err != nil {
			if code := CloseCode(err); code != 3008 && code != 3010 && code != 0 {
				t.Fatalf("a slow reader is closed, if at all, with 3008: %v", err)
			}
			if reconnects++; reconnects > 20 {
				t.Fatalf("a slow reader that reads again gets everything: it is at %d after %d reconnects", next-1, reconnects)
			}
			slow = dial(t, n.URL(), Channel("ws", "room", fmt.Sprintf("since=%d", next-1), "epoch="+w.Welcome.Epoch))
			continue
		}
		if l.Reset != nil {
			t.Fatalf("everything is still in the journal, so there is nothing to reset: %s", l.Text)
		}
		if l.Message == nil {
			continue
		}
		if l.Message.Offset != next {
			t.Fatalf("a slow reader gets everything in order: %d is due, %d came", next, l.Message.Offset)
		}
		next++
	}
	t.Logf("%d MB read after all was published, with %d reconnects", count*size>>20, reconnects)
}

func TestHistoryIsTrimmedAndAPositionThatIsGoneIsReset(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Env: []string{"BARRAGE_HISTORY_COUNT=10", "BARRAGE_HISTORY_TRIM=1s", "BARRAGE_LOG_LEVEL=debug"}})
	c, w := join(t, n.URL(), "room", "echo=0")
	for i := 1; i <= 100; i++ {
		publish(t, c, fmt.Sprint(i))
	}
	eventually(t, 15*time.Second, "messages before the last ten are removed", func() bool {
		return strings.Contains(n.Logs(), "trimmed the journal")
	})
	// A restart, because what is in a node's memory can be had for longer.
	if code, err := n.Stop(); err != nil || code != 0 {
		t.Fatalf("the node ends: %d, %v", code, err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	gone := dial(t, n.URL(), Channel("ws", "room", "since=5", "epoch="+w.Welcome.Epoch))
	if l := next(t, gone); l.Reset == nil || l.Reset.Offset != 90 {
		t.Errorf("messages 6 to 90 were removed, which is said before anything else: got %s", l.Text)
	}
	if l := next(t, gone); l.Welcome == nil {
		t.Errorf("then comes the welcome: got %s", l.Text)
	}
	if m := nextMessage(t, gone); m.Offset != 91 {
		t.Errorf("and what is kept: got %+v", m)
	}
	kept := dial(t, n.URL(), Channel("ws", "room", "since=90", "epoch="+w.Welcome.Epoch))
	if l := next(t, kept); l.Welcome == nil || l.Welcome.Offset != 100 {
		t.Errorf("what is kept can be resumed: got %s", l.Text)
	}
	for i := uint64(91); i <= 100; i++ {
		if m := nextMessage(t, kept); m.Offset != i {
			t.Fatalf("message %d comes: got %+v", i, m)
		}
	}
	c, _ = join(t, n.URL(), "room", "echo=0")
	if offset := publish(t, c, "101"); offset != 101 {
		t.Errorf("trimming does not change counting: got offset %d", offset)
	}
}

// TestResumesFromSeveralPlacesOfOnePage resumes from offsets that are near one another, the later one first, with
// messages so large that a page of the journal holds only some of them.
func TestResumesFromSeveralPlacesOfOnePage(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	publisher, w := join(t, n.URL(), "room", "echo=0")
	text := strings.Repeat("x", 20_000)
	for i := 1; i <= 400; i++ {
		publish(t, publisher, fmt.Sprintf(`"%d %s"`, i, text))
	}
	for _, since := range []uint64{200, 150, 100, 20, 0} {
		c, _ := join(t, n.URL(), "room", fmt.Sprintf("since=%d", since), "epoch="+w.Welcome.Epoch)
		for i := since + 1; i <= 400; i++ {
			if m := nextMessage(t, c); m.Offset != i {
				t.Fatalf("since=%d: message %d comes next, because the journal has it: got %d", since, i, m.Offset)
			}
		}
	}
}
