//go:build system

package presence

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"barrage/broker"
	brokeropen "barrage/broker/open"
	"barrage/internal/testserver"
	"barrage/journal/memory"
	"barrage/node"
	"barrage/proto"
	"barrage/session"
)

// asNode makes this program a node instead of a test: "name url members".
const asNode = "BARRAGE_TEST_PRESENCE_NODE"

func TestMain(m *testing.M) {
	if what := os.Getenv(asNode); what != "" {
		beNode(what)
		return
	}
	goleak.VerifyTestMain(m)
}

// open starts a node.
func open(name, url string) (*node.Node, error) {
	log := slog.New(slog.DiscardHandler)
	return node.New(node.Options{
		Name: name, Journal: memory.New(), Codecs: session.Codecs(), Writers: 1, Log: log,
		OpenBroker: func(id string, h broker.Handler) (broker.Broker, error) {
			return brokeropen.Broker(url, brokeropen.Options{NodeID: id, Handler: h, Logger: log})
		},
	})
}

// beNode is a node with members, until it is killed or its standard input ends.
func beNode(what string) {
	var name, url string
	var members int
	if _, err := fmt.Sscan(what, &name, &url, &members); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	n, err := open(name, url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for i := range members {
		n.Enter("room", proto.MemberInfo{User: "user" + strconv.Itoa(i), Client: name + "-" + strconv.Itoa(i)}, false)
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	_ = n.Close(context.Background())
}

// start starts a node in a process of its own.
func start(t *testing.T, name, url string, members int) (c *exec.Cmd, leave func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c = testserver.Command(self)
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", asNode, name, url, members))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "ready") {
		t.Fatalf("a node starts, but said %q, %v", line, err)
	}
	return c, func() { _ = in.Close() }
}

func rosterOf(n *node.Node) proto.Roster {
	heard := make(chan proto.Roster, 1)
	n.Presence("room", func(r proto.Roster, _ *proto.Error) { heard <- r })
	return <-heard
}

// until asks until the roster is as it should be.
func until(t *testing.T, n *node.Node, limit time.Duration, what string, good func(proto.Roster) bool) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		r := rosterOf(n)
		if good(r) {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("%s within %v, but the roster has %d connections of %d users, %d listed, missing %v", what, limit, r.Clients, r.Users, len(r.Members), r.Missing)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestAKilledNodesMembersVanish(t *testing.T) {
	redis, err := testserver.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	n, err := open("here", redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(context.Background())
	n.Enter("room", proto.MemberInfo{User: "user0", Client: "here-0"}, false)
	killed, _ := start(t, "killed", redis.URL(), 40)
	_, leave := start(t, "leaving", redis.URL(), 30)

	until(t, n, 10*time.Second, "the roster is the union of three nodes", func(r proto.Roster) bool {
		return r.Clients == 71 && r.Users == 40 && r.Exact && len(r.Members) == 71 && len(r.Missing) == 0
	})
	if err := killed.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	took := until(t, n, 5*time.Second, "the members of a killed node are not listed, and it is named", func(r proto.Roster) bool {
		return r.Clients == 31 && slices.Equal(r.Missing, []string{"killed"})
	})
	t.Logf("the members of a killed node were gone after %v", took)
	took = until(t, n, 12*time.Second, "a killed node is forgotten when its lease ends", func(r proto.Roster) bool {
		return r.Clients == 31 && len(r.Missing) == 0
	})
	t.Logf("it was forgotten after another %v", took)

	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, n, 10*time.Second, "without Redis the other node is named", func(r proto.Roster) bool {
		return r.Clients == 1 && slices.Equal(r.Missing, []string{"leaving"})
	})
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, n, 20*time.Second, "with Redis they are together again", func(r proto.Roster) bool {
		return r.Clients == 31 && len(r.Missing) == 0
	})
	leave()
	until(t, n, 5*time.Second, "a node that says goodbye is never missing for long", func(r proto.Roster) bool {
		return r.Clients == 1 && len(r.Missing) == 0
	})
}

// A supervisor starts a killed node again at once.
func TestAKilledNodeThatIsStartedAgainIsNotWaitedFor(t *testing.T) {
	redis, err := testserver.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	n, err := open("here", redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(context.Background())
	n.Enter("room", proto.MemberInfo{User: "user0", Client: "here-0"}, false)
	killed, _ := start(t, "restarted", redis.URL(), 40)
	until(t, n, 10*time.Second, "the roster is the union of two nodes", func(r proto.Roster) bool {
		return r.Clients == 41 && len(r.Missing) == 0
	})
	if err := killed.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	start(t, "restarted", redis.URL(), 30)
	took := until(t, n, 5*time.Second, "a node that is started again is in the roster, and its old self is not missing", func(r proto.Roster) bool {
		return r.Clients == 31 && len(r.Missing) == 0
	})
	t.Logf("the roster was complete %v after the node was ready again", took)
	for range 5 {
		time.Sleep(1100 * time.Millisecond) // an answer is not given again
		began := time.Now()
		if r := rosterOf(n); r.Clients != 31 || len(r.Missing) > 0 || time.Since(began) > 500*time.Millisecond {
			t.Errorf("every question is answered at once, and completely, but got %d connections, missing %v, after %v", r.Clients, r.Missing, time.Since(began))
		}
	}
	if nodes := n.Cluster(); len(nodes) != 2 {
		t.Errorf("the old self is not among the nodes, but they are %+v", nodes)
	}
}
