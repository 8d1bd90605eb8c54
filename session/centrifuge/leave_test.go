package centrifuge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/limit"
	"barrage/proto"
)

// TestWhoIsToLeaveIsNotHeardAnyMore keeps a command under way, which must not let a client go on for ever.
func TestWhoIsToLeaveIsNotHeardAnyMore(t *testing.T) {
	limits := limit.New(limit.Options{Commands: limit.Rate{PerSecond: 0.001, Burst: 1}})
	c := open(t, Server{Limits: limits}, JSON).connect()
	c.now = time.Now()
	c.backend.held = true
	c.Message([]byte(`{"id":2,"publish":{"channel":"a","data":1}}`))
	var lines strings.Builder
	for id := range limit.Patience + 10 {
		fmt.Fprintf(&lines, `{"id":%d,"ping":{}}`+"\n", id+3)
	}
	c.Message([]byte(lines.String()))
	c.Message([]byte(lines.String()))
	if n := limits.Stats().Commands.Load(); n != limit.Patience {
		t.Errorf("after %d refusals the client is not heard any more, not after %d", limit.Patience, n)
	}
	c.Leave(proto.CloseForced)
	c.backend.release()
	last := ""
	for deadline := time.Now().Add(10 * time.Second); !strings.HasPrefix(last, "close") && time.Now().Before(deadline); {
		if f := c.frames(); len(f) > 0 {
			last = f[len(f)-1]
		}
	}
	if want := fmt.Sprintf("close 3013 %d commands in a row were refused as too many; slow down", limit.Patience); last != want {
		t.Errorf("with the answer to what was under way the session ends as it was first told, %q, not %q", want, last)
	}
}

func TestADisconnectLeavesTimeForAnswers(t *testing.T) {
	for end, control := range map[string]proto.Control{
		"close 4001 go":      {Kind: proto.ControlDisconnect, Code: 4001, Reason: "go"},
		"close 3005 expired": {Kind: proto.ControlRefresh, Expired: true},
	} {
		c := open(t, Server{}, JSON).connect()
		c.backend.held = true
		c.Message([]byte(`{"id":2,"publish":{"channel":"a","data":1}}`))
		if !c.Control(control) {
			t.Error("the connection is concerned")
		}
		c.Message([]byte(`{"id":3,"ping":{}}`))
		c.backend.release()
		c.expect(`{"id":2,"publish":{}}`, end)
	}
}
