//go:build system

package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/internal/testserver"

	"github.com/centrifugal/centrifuge-go"
)

// sdkURL is where SDKs connect.
func sdkURL(c *testserver.NodeCluster) string {
	return "ws" + strings.TrimPrefix(c.URL(), "http") + "/connection/websocket"
}

// sdkFolder is where the packages of the JavaScript SDK are.
func sdkFolder(t *testing.T) string {
	t.Helper()
	root, err := testserver.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "test", "sdk")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "centrifuge")); err != nil {
		t.Fatal("the JavaScript SDK is not installed: run npm ci in test/sdk, as make deps does")
	}
	return dir
}

// jsCrowd is a process with clients of the JavaScript SDK.
type jsCrowd struct {
	name    string
	ledger  *Ledger
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers chan string // what became of the publishes: "" or why not
	done    chan struct{}
}

// startJS starts clients that follow a channel.
func startJS(t *testing.T, l *Ledger, url, channel string, clients int, format string) *jsCrowd {
	t.Helper()
	dir := sdkFolder(t)
	cmd := exec.Command("node", filepath.Join(dir, "crowd.mjs"), url, channel, fmt.Sprint(clients), format)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &jsCrowd{name: "js-" + format, ledger: l, cmd: cmd, stdin: stdin, answers: make(chan string, 1), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			c.line(lines.Bytes())
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		stop := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		<-c.done
		stop.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process of %s ends when its input does: %v", c.name, err)
		}
	})
	return c
}

// line takes one line of the process.
func (c *jsCrowd) line(line []byte) {
	var event []json.RawMessage
	var client int
	var what, key string
	var code int64
	if json.Unmarshal(line, &event) != nil || len(event) < 3 || json.Unmarshal(event[0], &client) != nil || json.Unmarshal(event[1], &what) != nil {
		c.ledger.Event("line that cannot be read: " + string(line))
		return
	}
	name := fmt.Sprint(c.name, "-", client)
	_ = json.Unmarshal(event[2], &code)
	switch what {
	case "message":
		_ = json.Unmarshal(event[3], &key)
		c.ledger.Got(name, uint64(code), key)
	case "published":
		_ = json.Unmarshal(event[2], &key)
		c.ledger.Acked(key)
		c.answers <- ""
	case "refused":
		c.answers <- fmt.Sprint("code ", code)
	case "subscribed":
		c.ledger.Subscribed(name)
	default:
		c.ledger.Event(fmt.Sprint(what, " ", code))
	}
}

// publish publishes messages one after the other until ctx ends. What was not acknowledged may have been stored all the same.
func (c *jsCrowd) publish(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		fmt.Fprintf(c.stdin, "{\"data\":\"%s/%d\"}\n", c.name, i)
		select {
		case <-c.answers:
		case <-c.done:
			return
		}
	}
}

// goClient is a client of the Go SDK.
type goClient struct {
	name   string
	client *centrifuge.Client
	sub    *centrifuge.Subscription
}

// startGo starts a client that follows a channel.
func startGo(t *testing.T, l *Ledger, url, channel, name string, protobuf bool) *goClient {
	t.Helper()
	open := centrifuge.NewJsonClient
	if protobuf {
		open = centrifuge.NewProtobufClient
	}
	c := &goClient{name: name, client: open(url, centrifuge.Config{})}
	c.client.OnConnecting(func(e centrifuge.ConnectingEvent) { l.Event(fmt.Sprint("connecting ", e.Code)) })
	c.client.OnDisconnected(func(e centrifuge.DisconnectedEvent) { l.Event(fmt.Sprint("disconnected ", e.Code)) })
	var err error
	if c.sub, err = c.client.NewSubscription(channel); err != nil {
		t.Fatal(err)
	}
	c.sub.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		l.Subscribed(name)
		if e.WasRecovering && !e.Recovered {
			l.Event("unrecovered")
		}
	})
	c.sub.OnSubscribing(func(e centrifuge.SubscribingEvent) { l.Event(fmt.Sprint("subscribing ", e.Code)) })
	c.sub.OnPublication(func(e centrifuge.PublicationEvent) {
		var key string
		_ = json.Unmarshal(e.Data, &key)
		l.Got(name, e.Offset, key)
	})
	if err := errors.Join(c.sub.Subscribe(), c.client.Connect()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.client.Close)
	return c
}

// publish publishes until ctx ends.
func (c *goClient) publish(ctx context.Context, l *Ledger) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprint(c.name, "/", i)
		data, _ := json.Marshal(key)
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		if _, err := c.sub.Publish(one, data); err == nil {
			l.Acked(key)
		}
		cancel()
		pause(ctx, 10*time.Millisecond)
	}
}

// The published SDKs, unchanged, in both encodings, subscribed and publishing through nginx while two nodes are killed one after the
// other: nothing that was acknowledged is lost, nothing comes twice, and no one is sent away for what a node could repair.
func TestPublishedSDKsSurviveKilledNodes(t *testing.T) {
	cluster := startCluster(t, testserver.ClusterOptions{})
	l := NewLedger()
	url := sdkURL(cluster)
	const each = 8
	crowds := []*jsCrowd{startJS(t, l, cluster.URL(), "room", each, "json"), startJS(t, l, cluster.URL(), "room", each, "protobuf")}
	var clients []*goClient
	for i := range each {
		clients = append(clients, startGo(t, l, url, "room", fmt.Sprint("go-json-", i), false), startGo(t, l, url, "room", fmt.Sprint("go-protobuf-", i), true))
	}
	all := each * (len(crowds) + 2)
	eventually(t, 20*time.Second, "every client is subscribed", func() bool {
		_, n, _ := l.Counts()
		return n == all
	})
	surviveKills(t, cluster, l, 300, func(ctx context.Context, publishing *sync.WaitGroup) {
		for _, c := range crowds {
			publishing.Go(func() { c.publish(ctx) })
		}
		for _, c := range clients[:2] {
			publishing.Go(func() { c.publish(ctx, l) })
		}
	})
}

// surviveKills kills two nodes one after the other, each once some messages were acknowledged, while start's clients publish, and checks
// that nothing was lost or repeated, and that no one was sent away for what a node can repair.
func surviveKills(t *testing.T, cluster *testserver.NodeCluster, l *Ledger, messages int, start func(context.Context, *sync.WaitGroup)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var publishing sync.WaitGroup
	t.Cleanup(func() { cancel(); publishing.Wait() })
	start(ctx, &publishing)
	more := func(n int) {
		t.Helper()
		before, _, _ := l.Counts()
		eventually(t, 30*time.Second, fmt.Sprintf("%d more publishes are acknowledged", n), func() bool {
			now, _, _ := l.Counts()
			return now >= before+n
		})
	}
	more(messages)
	for _, victim := range []int{0, 1} {
		if err := cluster.Nodes[victim].Kill(); err != nil {
			t.Fatal(err)
		}
		more(messages)
		if err := cluster.Nodes[victim].Restart(); err != nil {
			t.Fatal(err)
		}
		more(messages / 3)
	}
	cancel()
	publishing.Wait()
	eventually(t, 20*time.Second, "every subscriber has seen everything", func() bool {
		_, n, complete := l.Counts()
		return complete == n
	})
	for _, wrong := range l.Check() {
		t.Error(wrong)
	}
	for _, storm := range []string{"connecting 3010", "disconnected 3010", "subscribing 2500", "unrecovered", "unrecovered 0"} {
		if n := l.Events(storm); n > 0 {
			t.Errorf("a killed node is repaired by the others, so nobody is told %q: %d were", storm, n)
		}
	}
	acked, n, _ := l.Counts()
	t.Logf("%d messages acknowledged and seen by %d subscribers; %v", acked, n, l.codes)
}

// The published SDK by its transports for networks that let no WebSocket through: the commands go to any node, and reach the one with
// the session.
func TestPublishedSDKWithoutWebSocketsSurvivesKilledNodes(t *testing.T) {
	cluster := startCluster(t, testserver.ClusterOptions{})
	l := NewLedger()
	const each = 4
	var crowds []*jsCrowd
	for _, transport := range []string{"sse", "http_stream", "http_stream_protobuf", "json"} {
		crowds = append(crowds, startJS(t, l, cluster.URL(), "room", each, transport))
	}
	eventually(t, 30*time.Second, "every client is subscribed", func() bool {
		_, n, _ := l.Counts()
		return n == each*len(crowds)
	})
	surviveKills(t, cluster, l, 90, func(ctx context.Context, publishing *sync.WaitGroup) {
		for _, c := range crowds[:3] {
			publishing.Go(func() { c.publish(ctx) })
		}
	})
	if forwardedBy(t, cluster.Nodes[2]) == 0 { // the others were started again
		t.Error("commands that reach another node than that of the session are handed on")
	}
}

// forwardedBy is how many requests with commands a node has handed to others.
func forwardedBy(t *testing.T, n *testserver.Node) int {
	t.Helper()
	resp, err := http.Get(n.URL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^barrage_emulated_forwarded_total (\d+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatal("a node counts the requests that it hands on")
	}
	count, _ := strconv.Atoi(string(found[1]))
	return count
}

// The published SDK in a real browser, while its node is killed.
func TestPublishedSDKInABrowser(t *testing.T) {
	for _, transport := range []string{"websocket", "sse", "http_stream"} {
		t.Run(transport, func(t *testing.T) { sdkInABrowser(t, transport) })
	}
}

func sdkInABrowser(t *testing.T, transport string) {
	cluster := startCluster(t, testserver.ClusterOptions{})
	endpoint := sdkURL(cluster)
	if transport != "websocket" {
		endpoint = cluster.URL() + "/connection/" + transport
	}
	code, err := os.ReadFile(filepath.Join(sdkFolder(t), "node_modules", "centrifuge", "dist", "centrifuge.js"))
	if err != nil {
		t.Fatal(err)
	}
	p := openPage(t, startBrowser(t), cluster.URL(), "ann")
	evaluate[bool](p, string(code)+`; true`)
	evaluate[bool](p, fmt.Sprintf(`(() => {
		window.seen = []; window.told = []; window.acked = 0;
		window.client = new Centrifuge([{ transport: %q, endpoint: %q }], { emulationEndpoint: '/emulation', minReconnectDelay: 100, maxReconnectDelay: 1000 });
		window.sub = client.newSubscription('room');
		client.on('connecting', (c) => told.push('connecting ' + c.code));
		client.on('disconnected', (c) => told.push('disconnected ' + c.code));
		sub.on('subscribed', (c) => { if (c.wasRecovering && !c.recovered) told.push('unrecovered'); });
		sub.on('publication', (p) => seen.push([p.offset, p.data]));
		sub.subscribe(); client.connect();
		(async () => {
			await sub.ready();
			for (let i = 0; !window.enough; i++) {
				try { await sub.publish('m' + i); window.acked++; } catch { }
				await new Promise((done) => setTimeout(done, 20));
			}
		})();
		return true;
	})()`, transport, endpoint))
	p.wait("publishes are acknowledged", `acked > 20`)
	for _, n := range cluster.Nodes { // its own among them
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		before := evaluate[int](p, `acked`)
		p.wait("publishes are acknowledged again", fmt.Sprintf(`acked > %d`, before+20))
		if err := n.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	evaluate[bool](p, `window.enough = true`)
	p.wait("every message that was acknowledged has come, and each once and in order", `seen.length >= acked && seen.every(([offset], i) => offset === i + 1)`)
	p.wait("no message was stored twice", `new Set(seen.map(([, data]) => data)).size === seen.length`)
	p.wait("nobody was told that something cannot be recovered", `!told.includes('unrecovered') && !told.some((t) => t.endsWith(' 3010'))`)
	t.Logf("%d acknowledged, %d seen; %v", evaluate[int](p, `acked`), evaluate[int](p, `seen.length`), evaluate[[]string](p, `told`))
}
