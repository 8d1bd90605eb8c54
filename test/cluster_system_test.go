//go:build system

package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/internal/testserver"
)

// load is publishers and subscribers of one channel, all of them through nginx, that run while a fault happens.
type load struct {
	account     *Account
	publishers  []*Publisher
	subscribers []*Subscriber
	running     sync.WaitGroup // publishers
	following   sync.WaitGroup // subscribers
	cancel      context.CancelFunc
	mu          sync.Mutex
	failed      []error // of publishers
}

const (
	loadPublishers  = 4
	loadSubscribers = 12
	loadEvery       = 25 * time.Millisecond // of each publisher: 160 messages a second together
)

// startLoad starts the load and waits until messages flow.
func startLoad(t *testing.T, c *testserver.NodeCluster, channel string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{account: NewAccount(), cancel: cancel}
	for i := range loadSubscribers {
		s := NewSubscriber(l.account, fmt.Sprint("subscriber-", i), c.URL(), channel, 0)
		l.subscribers = append(l.subscribers, s)
		l.following.Go(func() { s.Follow(ctx) })
	}
	for i := range loadPublishers {
		p := NewPublisher(l.account, fmt.Sprint("publisher-", i), c.URL(), channel, loadEvery)
		l.publishers = append(l.publishers, p)
		l.running.Go(func() {
			if err := p.Run(ctx); err != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.failed = append(l.failed, err)
			}
		})
	}
	t.Cleanup(func() { cancel(); l.running.Wait(); l.following.Wait() })
	l.acknowledge(t, 100)
	return l
}

// acknowledge waits until n more messages were acknowledged, which shows that publishing goes on.
func (l *load) acknowledge(t *testing.T, n int) {
	t.Helper()
	_, before := l.account.Counts()
	eventually(t, 30*time.Second, fmt.Sprintf("%d more publishes are acknowledged", n), func() bool {
		_, now := l.account.Counts()
		return now >= before+n
	})
}

// finish stops publishing, waits until everything is acknowledged and everybody has seen everything, and checks the
// account.
func (l *load) finish(t *testing.T) {
	t.Helper()
	for _, p := range l.publishers {
		p.Finish()
	}
	stop := time.AfterFunc(40*time.Second, l.cancel) // Run then says what is still waiting
	l.running.Wait()
	stop.Stop()
	for _, err := range l.failed {
		t.Error(err)
	}
	head := l.account.Head()
	deadline := time.Now().Add(20 * time.Second)
	for _, s := range l.subscribers {
		for s.Book().Position() < head && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	l.cancel()
	l.following.Wait()
	if err := l.account.Check(); err != nil {
		t.Errorf("every acknowledged message is seen once and in order by every subscriber: %v", err)
	}
	l.report(t)
}

func (l *load) report(t *testing.T) {
	sent, acked := l.account.Counts()
	var reconnects, retried int
	var longest, slowest time.Duration
	for _, s := range l.subscribers {
		n, d, _ := s.Reconnects()
		reconnects, longest = reconnects+n, max(longest, d)
	}
	for _, p := range l.publishers {
		n, d := p.Retried()
		retried, slowest = retried+n, max(slowest, d)
	}
	t.Logf("%d messages, %d acknowledged, %d sends repeated, slowest acknowledgement %s; %d reconnects, longest pause %s; latest delivery %s after its publish",
		sent, acked, retried, slowest.Round(time.Millisecond), reconnects, longest.Round(time.Millisecond), l.worst(time.Time{}, time.Now()).Round(time.Millisecond))
}

// worst is the longest delay of all deliveries between from and to.
func (l *load) worst(from, to time.Time) time.Duration {
	var worst time.Duration
	for _, s := range l.subscribers {
		worst = max(worst, s.Book().Worst(from, to))
	}
	return worst
}

// within checks that no delivery since from took longer than limit.
func (l *load) within(t *testing.T, from time.Time, limit time.Duration, when string) {
	t.Helper()
	if worst := l.worst(from, time.Now()); worst > limit {
		t.Errorf("%s messages arrive within %s: the worst took %s", when, limit, worst)
	}
}

func TestClientsOnDifferentNodesShareARoom(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	// Directly at each node, and through nginx.
	var members []*Client
	for _, n := range c.Nodes {
		m, w := join(t, n.URL(), "room", "echo=0")
		if w.Welcome.Node != n.Name() {
			t.Errorf("the welcome names the node %s: got %s", n.Name(), w.Text)
		}
		members = append(members, m)
	}
	met := map[string]bool{}
	for range 24 {
		_, w := join(t, c.URL(), "room")
		met[w.Welcome.Node] = true
	}
	if len(met) != 3 {
		t.Errorf("24 connections through nginx meet all three nodes: got %v", met)
	}
	for i, m := range members {
		offset := publish(t, m, fmt.Sprintf(`"from %s"`, c.Nodes[i].Name()))
		if offset != uint64(i+1) {
			t.Errorf("offsets are the same for the whole cluster: message %d has offset %d", i+1, offset)
		}
		start := time.Now()
		for j, other := range members {
			if i == j {
				continue
			}
			if got := nextMessage(t, other); got.Offset != offset {
				t.Errorf("node %s delivers message %d of node %s: got %+v", c.Nodes[j].Name(), offset, c.Nodes[i].Name(), got)
			}
		}
		// Without Redis it takes about a second: the nodes look into the journal so often.
		if took := time.Since(start); took > time.Second {
			t.Errorf("with Redis a message reaches the other nodes at once: it took %s", took)
		}
	}
	// A page of the same origin may connect through nginx, port and all; another origin may not.
	if own, err := Dial(c.URL(), "/ws/room", http.Header{"Origin": {c.URL()}}); err != nil {
		t.Errorf("a page loaded through nginx may connect through nginx: %v", err)
	} else {
		own.Close()
	}
	if other, err := Dial(c.URL(), "/ws/room", http.Header{"Origin": {"http://127.0.0.1"}}); err == nil {
		other.Close()
		t.Error("a page of another origin may not connect through nginx")
	}
}

func TestKillingANodeUnderLoadLosesNothing(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	l := startLoad(t, c, "room")
	for _, victim := range []int{0, 2} {
		killed := time.Now()
		if err := c.Nodes[victim].Kill(); err != nil {
			t.Fatal(err)
		}
		l.acknowledge(t, 200)
		l.within(t, killed, 5*time.Second, "after kill -9 of a node")
		if err := c.Nodes[victim].Restart(); err != nil {
			t.Fatal(err)
		}
		l.acknowledge(t, 100)
	}
	l.finish(t)
	var reconnects int
	for _, s := range l.subscribers {
		n, _, _ := s.Reconnects()
		reconnects += n
	}
	if reconnects == 0 {
		t.Error("the test kills a node that has subscribers: nobody had to come back")
	}
}

func TestRollingRestartLosesNothing(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	l := startLoad(t, c, "room")
	for _, n := range c.Nodes {
		if code, err := n.Stop(); err != nil || code != 0 {
			t.Fatalf("SIGTERM ends node %s under load with exit code 0: got %d, %v", n.Name(), code, err)
		}
		l.acknowledge(t, 50)
		if err := n.Restart(); err != nil {
			t.Fatal(err)
		}
		l.acknowledge(t, 50)
	}
	l.finish(t)
}

func TestRedisMayGoAwayUnderLoad(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{Env: []string{liveSpace}})
	l := startLoad(t, c, "room")
	live := startStream(t, c.Nodes[0], c.Nodes[1])
	before := measure(t, c)
	killed := time.Now()
	if err := c.Redis.Kill(); err != nil {
		t.Fatal(err)
	}
	for time.Since(killed) < 3500*time.Millisecond { // away for longer than a second of following the journal
		l.acknowledge(t, 20)
	}
	for _, n := range c.Nodes {
		if details := readyDetails(t, n); !strings.Contains(strings.ToLower(details), "broker") {
			t.Errorf("/readyz of node %s tells about the broker while Redis is away: %s", n.Name(), details)
		}
	}
	l.within(t, killed, 2500*time.Millisecond, "while Redis is away")
	bounded(t, c, before, "while Redis is away")
	if err := c.Redis.Start(); err != nil { // with nothing of what it knew
		t.Fatal(err)
	}
	live.crosses(t, "after Redis came back empty")
	l.acknowledge(t, 50)
	// Back to delivery by the broker: messages are quick again.
	eventually(t, 30*time.Second, "after Redis came back messages are quick again", func() bool {
		from := time.Now()
		l.acknowledge(t, 100)
		worst := l.worst(from, time.Now())
		return worst > 0 && worst < 300*time.Millisecond
	})
	l.finish(t)
	for _, s := range l.subscribers {
		if n, _, _ := s.Reconnects(); n > 0 {
			t.Errorf("no client loses its connection because Redis is away: %s came back %d times", s.Book().name, n)
		}
	}
}

func TestSilentRedisIsNoticed(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{Env: []string{liveSpace}})
	l := startLoad(t, c, "room")
	live := startStream(t, c.Nodes[0], c.Nodes[1])
	before := measure(t, c)
	// Redis stops without closing a connection: only probes can tell.
	silent := time.Now()
	if err := c.Redis.Pause(); err != nil {
		t.Fatal(err)
	}
	for time.Since(silent) < 10*time.Second {
		l.acknowledge(t, 20)
		bounded(t, c, before, "while Redis is silent")
	}
	if err := c.Redis.Resume(); err != nil {
		t.Fatal(err)
	}
	live.crosses(t, "after Redis was silent")
	l.acknowledge(t, 100)
	bounded(t, c, before, "after Redis was silent")
	l.within(t, silent, 8*time.Second, "while Redis is silent")
	l.finish(t)
}

func TestEverythingFailsAtOnce(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	l := startLoad(t, c, "room")
	if err := c.Redis.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Postgres.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Postgres.Start(); err != nil {
		t.Fatal(err)
	}
	l.acknowledge(t, 100)
	if err := c.Nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[1].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Redis.Start(); err != nil {
		t.Fatal(err)
	}
	l.acknowledge(t, 200)
	l.finish(t)
}

// readyDetails returns what /readyz says of a node that is ready.
func readyDetails(t *testing.T, n *testserver.Node) string {
	t.Helper()
	resp, err := http.Get(n.URL() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("node %s stays ready without Redis: %s, %s", n.Name(), resp.Status, text)
	}
	return string(text)
}

func TestRedisMayBeAwayAtTheStart(t *testing.T) {
	addr, release, err := testserver.Nobody()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	nowhere := "redis://" + addr
	c := startCluster(t, testserver.ClusterOptions{Nodes: 2, Broker: func(string) string { return nowhere }})
	a, _ := join(t, c.Nodes[0].URL(), "room", "echo=0")
	b, _ := join(t, c.Nodes[1].URL(), "room")
	for i := range 3 {
		offset := publish(t, a, fmt.Sprint(i))
		start := time.Now()
		if m := nextMessage(t, b); m.Offset != offset {
			t.Fatalf("without Redis messages still reach the other node: got %+v", m)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("without Redis a message takes about a second: it took %s", took)
		}
	}
}

func TestPostgreSQLMayRestartUnderLoad(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	l := startLoad(t, c, "room")
	// A crash, with three seconds of absence, and then an orderly restart.
	if err := c.Postgres.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "a node without its journal says so by /readyz", func() bool {
		err := c.Nodes[0].Ready()
		return err != nil && strings.Contains(err.Error(), "503")
	})
	if err := c.Nodes[0].WaitReady(10 * time.Millisecond); err == nil {
		t.Error("a node without its journal is not ready")
	}
	away := time.Now()
	refusedOrWaiting(t, c)
	if d := 3*time.Second - time.Since(away); d > 0 {
		time.Sleep(d) // the length of the outage is what is tested
	}
	if err := c.Postgres.Start(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if err := n.WaitReady(20 * time.Second); err != nil {
			t.Fatalf("a node is ready again when its journal is back: %v", err)
		}
	}
	l.acknowledge(t, 200)
	if err := c.Postgres.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Postgres.Start(); err != nil {
		t.Fatal(err)
	}
	l.acknowledge(t, 200)
	l.finish(t)
}

// refusedOrWaiting publishes without a journal, which is refused with an error to be retried, or not answered yet.
func refusedOrWaiting(t *testing.T, c *testserver.NodeCluster) {
	t.Helper()
	client, err := Dial(c.Nodes[1].URL(), "/ws/elsewhere?echo=0", nil)
	if err != nil {
		return // a node without its journal need not take new connections
	}
	defer client.Close()
	send(t, client, `{"publish":{"data":{"key":"while-away"},"id":"while-away"}}`)
	for {
		l, err := client.Next(2 * time.Second)
		if err != nil {
			if code := CloseCode(err); code != 0 && code != 3013 {
				t.Errorf("without a journal a connection is closed with 3013 if at all: %v", err)
			}
			return
		}
		if l.Ack != nil {
			t.Errorf("nothing is acknowledged that was not stored: %s", l.Text)
			return
		}
		if l.Error != nil {
			if l.Error.Code != 120 || !l.Error.Retry {
				t.Errorf("a publish without a journal is error 120, to be retried: got %s", l.Text)
			}
			return
		}
	}
}

func TestResumeOnAnotherNodeLongAfter(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{Nodes: 2})
	a, w := join(t, c.Nodes[0].URL(), "room", "echo=0")
	const count = 3000 // more than one page, and more than a node keeps in memory when it has no members
	lines := make([]string, 0, 50)
	for i := 0; i < count; i += 50 {
		lines = lines[:0]
		for j := range 50 {
			lines = append(lines, fmt.Sprintf(`{"publish":{"data":%d}}`, i+j+1))
		}
		send(t, a, strings.Join(lines, "\n"))
		for range 50 {
			if l := next(t, a); l.Ack == nil {
				t.Fatalf("a publish is acknowledged: got %s", l.Text)
			}
		}
	}
	if err := c.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	b, welcome := join(t, c.URL(), "room", "since=7", "epoch="+w.Welcome.Epoch)
	if welcome.Welcome.Node != "b" {
		t.Fatalf("nginx leads to the node that lives: %s", welcome.Text)
	}
	for i := uint64(8); i <= count; i++ {
		if m := nextMessage(t, b); m.Offset != i || string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("message %d is resumed on another node: got %+v", i, m)
		}
	}
}
