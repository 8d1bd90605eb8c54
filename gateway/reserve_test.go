package gateway

import (
	"testing"

	"barrage/limit"
	"barrage/proto"
)

// slowUsage is a limit.Usage that has many connections elsewhere, and takes long to say how many ann has.
type slowUsage struct {
	asked, goOn chan struct{}
}

func (u slowUsage) Add(string, int)       {}
func (u slowUsage) Connected(string)      {}
func (u slowUsage) Disconnected(string)   {}
func (u slowUsage) Remote(string) float64 { return 0 }
func (u slowUsage) Connections(user string) int {
	switch user {
	case "ann":
		close(u.asked)
		<-u.goOn
	case "eve":
		return 5
	}
	return 0
}

func TestTheLimitsOfOneUserLetOthersConnect(t *testing.T) {
	usage := slowUsage{make(chan struct{}), make(chan struct{})}
	w := start(t, Options{Tokens: &badges{}, Limits: limit.New(limit.Options{UserConnections: 2, Usage: usage})})
	done := make(chan *proto.Error)
	go func() { done <- w.gateway.reserve("ann") }()
	<-usage.asked
	if !w.gateway.mu.TryLock() {
		t.Error("while one user's connections on other nodes are counted others can connect")
	} else {
		w.gateway.mu.Unlock()
	}
	close(usage.goOn)
	if err := <-done; err != nil {
		t.Errorf("there is room for the first, but got %v", err)
	}
	w.gateway.withdraw(&conn{}, "ann")
}

func TestConnectionsElsewhereAreNoFinalRefusal(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}, Limits: limit.New(limit.Options{UserConnections: 2, Usage: slowUsage{}})})
	for range 3 { // a refusal takes no room
		if got := w.dial("/ws/room", bearer("eve")...).closed(); got.Code != 3013 {
			t.Errorf("a user with too many connections on other nodes, which may be gone, is asked to try again with 3013, not %d %q", got.Code, got.Text)
		}
	}
}
