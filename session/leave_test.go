package session

import (
	"strings"
	"testing"
	"time"

	"barrage/limit"
	"barrage/node"
)

func TestWhoIsToLeaveIsNotHeardAnyMore(t *testing.T) {
	c := open(t, JSON, "").join()
	c.server.Limits = limit.New(limit.Options{Commands: limit.Rate{PerSecond: 0.001, Burst: 1}})
	c.says(`{"publish":{"data":1}}`)
	c.says(strings.Repeat(`{"ping":{}}`+"\n", limit.Patience+10))
	if n := c.server.Limits.Stats().Commands.Load(); n != limit.Patience {
		t.Errorf("after %d refusals the rest of the message is passed over, not after %d", limit.Patience, n)
	}
	if c.ended.Load() {
		t.Error("what is under way gets its answer first")
	}
	c.backend.ack(node.Published{Offset: 8}, nil)
	for deadline := time.Now().Add(10 * time.Second); !c.ended.Load() && time.Now().Before(deadline); {
	}
	if !c.ended.Load() {
		t.Error("then the session ends")
	}
}
