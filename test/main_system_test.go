//go:build system

package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testserver.RemoveBinary()
	if code == 0 {
		// The Go SDK waits for some answers after its client was closed, for as long as an answer may take: 5 s.
		if err := goleak.Find(goleak.IgnoreTopFunction("github.com/centrifugal/centrifuge-go.(*Client).sendAsync.func1")); err != nil {
			fmt.Fprintln(os.Stderr, "no goroutine outlives its test:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// startNode starts a node that is closed with the test, and shows its log when the test failed.
func startNode(t *testing.T, o testserver.NodeOptions) *testserver.Node {
	t.Helper()
	n, err := testserver.StartNode(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		checkLog(t, n)
		if t.Failed() {
			t.Logf("log of the node:\n%s", n.Logs())
		}
		n.Close()
	})
	return n
}

// startCluster starts PostgreSQL, Redis, three nodes and nginx.
func startCluster(t *testing.T, o testserver.ClusterOptions) *testserver.NodeCluster {
	t.Helper()
	o.Unsafe = true
	c, err := testserver.StartClusterWith(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, n := range c.Nodes {
			checkLog(t, n)
		}
		if t.Failed() {
			t.Logf("logs of the cluster:\n%s", c.Logs())
		}
		c.Close()
	})
	return c
}

// checkLog looks for what must never be in a node's log, whatever was done to it.
func checkLog(t *testing.T, n *testserver.Node) {
	t.Helper()
	logs := n.Logs()
	for _, never := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
		if i := strings.Index(logs, never); i >= 0 {
			t.Errorf("node %s has %q in its log:\n%.6000s", n.Name(), never, logs[i:])
		}
	}
}

// dial connects and fails the test when that is refused.
func dial(t *testing.T, base, path string) *Client {
	t.Helper()
	c, err := Dial(base, path, nil)
	if err != nil {
		t.Fatalf("%s opens: %v", path, err)
	}
	t.Cleanup(c.Close)
	return c
}

// join connects to /ws and reads the welcome.
func join(t *testing.T, base, channel string, query ...string) (*Client, Line) {
	t.Helper()
	c := dial(t, base, Channel("ws", channel, query...))
	l := next(t, c)
	if l.Welcome == nil {
		t.Fatalf("the first line of a connection is its welcome: got %s", l.Text)
	}
	return c, l
}

func next(t *testing.T, c *Client) Line {
	t.Helper()
	l, err := c.Next(defaultWait)
	if err != nil {
		t.Fatalf("a line arrives: %v", err)
	}
	return l
}

func send(t *testing.T, c *Client, text string) {
	t.Helper()
	if err := c.Send(text); err != nil {
		t.Fatalf("%.100s is sent: %v", text, err)
	}
}

// nextAnswer skips messages until the line that answers a command.
func nextAnswer(t *testing.T, c *Client) Line {
	t.Helper()
	for {
		if l := next(t, c); l.Message == nil {
			return l
		}
	}
}

// nextMessage reads the next line, which must be a message.
func nextMessage(t *testing.T, c *Client) *Message {
	t.Helper()
	l := next(t, c)
	if l.Message == nil {
		t.Fatalf("a message comes next: got %s", l.Text)
	}
	return l.Message
}

// ask sends a command and returns its answer.
func ask(t *testing.T, c *Client, text string) Line {
	t.Helper()
	send(t, c, text)
	return nextAnswer(t, c)
}

// publish publishes and returns the offset that was acknowledged.
func publish(t *testing.T, c *Client, data string) uint64 {
	t.Helper()
	l := ask(t, c, `{"publish":{"data":`+data+`}}`)
	if l.Ack == nil {
		t.Fatalf("publishing %s is acknowledged: got %s", data, l.Text)
	}
	return l.Ack.Offset
}

// eventually waits until ok; what is a sentence that is true then.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s within %s", what, limit)
		}
	}
}

// oneSentence checks that output is short, for people, and has all words.
func oneSentence(t *testing.T, output string, words ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if len(lines) > 4 || strings.Contains(output, "goroutine ") || strings.Contains(output, "panic:") {
		t.Errorf("the message is one clear sentence, no dump: got\n%s", output)
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(output), strings.ToLower(w)) {
			t.Errorf("the message speaks of %q: got\n%s", w, output)
		}
	}
}
