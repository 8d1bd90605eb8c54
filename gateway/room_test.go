package gateway

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/proto"
)

// account says what is wrong with the offsets that a client was sent: each must come once, in order, without a hole.
func account(offsets []proto.Offset, last proto.Offset) error {
	for i, o := range offsets {
		if o != proto.Offset(i+1) {
			return fmt.Errorf("message %d came as number %d", o, i+1)
		}
	}
	if n := proto.Offset(len(offsets)); n != last {
		return fmt.Errorf("%d of %d messages came", n, last)
	}
	return nil
}

// follow reads messages until the last.
func (c *client) follow(last proto.Offset) (offsets []proto.Offset, err error) {
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			return offsets, err
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			r, err := proto.ParseReply([]byte(line))
			if err != nil {
				return offsets, err
			}
			if r.Message == nil {
				continue
			}
			if offsets = append(offsets, r.Message.Offset); r.Message.Offset >= last {
				return offsets, nil
			}
		}
	}
}

func TestEveryMessageReachesEveryMemberOnce(t *testing.T) {
	const members, messages = 200, 30
	w := start(t, Options{})
	var room []*client
	for range members {
		room = append(room, w.dial("/ws/room"))
	}
	var wg sync.WaitGroup
	for i, c := range room {
		_ = c.SetReadDeadline(time.Now().Add(patience)) // dialing so many may have taken as long
		wg.Go(func() {
			offsets, err := c.follow(messages)
			if err == nil {
				err = account(offsets, messages)
			}
			if err != nil {
				t.Errorf("member %d gets every message once and in order: %v", i, err)
			}
		})
	}
	publisher := w.dial("/ws/room?echo=0")
	publisher.welcome()
	for range messages {
		publisher.publish(`"` + strings.Repeat("x", 120) + `"`)
	}
	wg.Wait()
}

// takeLittle makes the kernel keep little for a client that does not read.
func takeLittle(t *testing.T, c net.Conn) {
	t.Helper()
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	if err := c.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
}

// A client that does not read for a while holds no copy of what it misses: it is where it was, and is sent everything.
func TestAStalledClientKeepsItsPlace(t *testing.T) {
	const messages = 120
	w := start(t, Options{})
	stalled := w.dial("/ws/room")
	takeLittle(t, stalled.NetConn())
	publisher := w.dial("/ws/room?echo=0")
	publisher.welcome()
	text := `"` + strings.Repeat("x", 30_000) + `"`
	for range messages {
		publisher.publish(text)
	}
	if n := w.gateway.Writers.Stats.Blocked.Load(); n == 0 {
		t.Error("3.6 MB fill the socket of a client that does not read")
	}
	offsets, err := stalled.follow(messages)
	if err == nil {
		err = account(offsets, messages)
	}
	if err != nil {
		t.Errorf("a client that reads again gets every message once and in order: %v", err)
	}
}
