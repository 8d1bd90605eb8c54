package node

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"barrage/proto"
)

// hands are the connections of a node in tests.
type hands struct {
	node     int
	controls []proto.Control
}

func (h *hands) Control(c proto.Control) int {
	h.controls = append(h.controls, c)
	return h.node
}

func (h *hands) Connections(user string) []proto.ConnectionInfo {
	return []proto.ConnectionInfo{{Client: fmt.Sprint(user, h.node), User: user}}
}

func (h *hands) Count() int { return 10 + h.node }

func TestControlReachesTheConnectionsOfAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 3, PresenceOptions{})
		all := []*hands{{node: 0}, {node: 1}, {node: 2}}
		for i, n := range c.nodes {
			n.SetConnections(all[i])
		}
		wait := make(chan bool)
		c.nodes[1].Control(proto.Control{Kind: proto.ControlDisconnect, User: "alice"}, func(affected int, missing []string, err *proto.Error) {
			if affected != 3 || len(missing) > 0 || err != nil {
				t.Errorf("a control tells how many connections it reached, but got %d, %v, %v", affected, missing, err)
			}
			close(wait)
		})
		<-wait
		for _, h := range all {
			if len(h.controls) != 1 || h.controls[0].User != "alice" {
				t.Errorf("every node does it once, but node %d did %v", h.node, h.controls)
			}
		}
		wait = make(chan bool)
		c.nodes[0].Connections("bob", func(list []proto.ConnectionInfo, missing []string, err *proto.Error) {
			if len(list) != 3 || list[2].Node != "n2" || list[2].Client != "bob2" || len(missing) > 0 || err != nil {
				t.Errorf("the connections of all nodes are listed, but got %v, %v, %v", list, missing, err)
			}
			close(wait)
		})
		<-wait
		time.Sleep(3 * time.Second)
		if nodes := c.nodes[0].Cluster(); len(nodes) != 3 || nodes[2].Name != "n2" || nodes[2].Connections != 12 || nodes[2].Version != "1" {
			t.Errorf("the nodes are listed with what they have, but got %+v", nodes)
		}
		c.stop()
	})
}

func TestChannelsAreListedFromAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 2, PresenceOptions{})
		joined(t, c.nodes[0], "chat:a")
		joined(t, c.nodes[1], "chat:a")
		joined(t, c.nodes[1], "chat:弹")
		joined(t, c.nodes[1], "news")
		eventsOf(t, c.nodes[1], "chat:a")
		for pattern, want := range map[string]string{
			"": "map[chat:a:2 chat:弹:1 news:1]", "chat:*": "map[chat:a:2 chat:弹:1]", "*:?": "map[chat:a:2 chat:弹:1]", "n": "map[]", "*w*": "map[news:1]",
		} {
			heard := make(chan ChannelList, 1)
			c.nodes[0].Channels(pattern, func(l ChannelList, _ *proto.Error) { heard <- l })
			if l := <-heard; fmt.Sprint(l.Channels) != want || l.Truncated || len(l.Missing) > 0 {
				t.Errorf("the pattern %q matches %s, but got %+v", pattern, want, l)
			}
		}
		c.stop()
	})
}

func TestForwardReachesOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 2, PresenceOptions{})
		var took []string
		for _, n := range c.nodes {
			n.OnForward("frames", func(payload []byte) bool {
				took = append(took, n.Name()+string(payload))
				return string(payload) != "no"
			})
		}
		for _, step := range []struct {
			node, kind, payload string
			want                bool
		}{
			{"n1", "frames", "yes", true},
			{c.nodes[1].ID(), "frames", "no", false},
			{"n0", "frames", "own", true},
			{"n1", "unknown", "", false},
			{"nobody", "frames", "", false},
		} {
			heard := make(chan bool, 1)
			c.nodes[0].Forward(step.node, step.kind, []byte(step.payload), func(ok bool) { heard <- ok })
			if got := <-heard; got != step.want {
				t.Errorf("forwarding %q to %s is taken: %v, but got %v", step.payload, step.node, step.want, got)
			}
		}
		if !slices.Equal(took, []string{"n1yes", "n1no", "n0own"}) {
			t.Errorf("each is taken once where it was sent to, but got %v", took)
		}
		c.stop()
	})
}

func TestUsageIsKnownOnAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := enlist(t, 3, PresenceOptions{})
		for range 3 {
			c.nodes[0].Usage().Connected("alice")
		}
		c.nodes[1].Usage().Connected("alice")
		c.nodes[1].Usage().Connected("")
		for range 40 {
			c.nodes[0].Usage().Add("alice", 5)
			c.nodes[1].Usage().Add("alice", 1)
			c.nodes[0].Usage().Add("bob", 1)
			time.Sleep(250 * time.Millisecond)
		}
		if got := c.nodes[2].Usage().Remote("alice"); got < 16 || got > 32 {
			t.Errorf("others know that alice uses 24 a second, but got %.1f", got)
		}
		if got := c.nodes[0].Usage().Remote("alice"); got < 2 || got > 6 {
			t.Errorf("a node's own use is not remote, 4 a second are, but got %.1f", got)
		}
		for i, want := range []int{3, 4, 3} {
			if got := c.nodes[i].UserConnections("alice"); got != want {
				t.Errorf("node %d knows of %d connections, a single one of another node overlooked, but got %d", i, want, got)
			}
		}
		for range 3 {
			c.nodes[0].Usage().Disconnected("alice")
		}
		time.Sleep(20 * time.Second)
		if got, conns := c.nodes[2].Usage().Remote("alice"), c.nodes[2].UserConnections("alice"); got > 0 || conns != 0 {
			t.Errorf("what has ended is forgotten, but %.2f and %d are left", got, conns)
		}
		c.nodes[0].Usage().Connected("carol")
		c.nodes[0].Usage().Connected("carol")
		time.Sleep(time.Minute)
		if got := c.nodes[1].UserConnections("carol"); got != 2 {
			t.Errorf("connections are told again before they are forgotten, but got %d", got)
		}
		c.hub.Crash(c.nodes[0].ID())
		time.Sleep(30 * time.Second)
		if got := c.nodes[1].UserConnections("carol"); got != 0 {
			t.Errorf("the connections of a dead node are forgotten, but got %d", got)
		}
		c.stop()
	})
}
