//go:build system

package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"

	"github.com/chromedp/chromedp"
)

// An EventSource in a browser, behind nginx, loses its node twice: once by a kill, once by a shutdown. It resumes by itself.
func TestEventSourceInABrowser(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	ctx, cancel := chromedp.NewContext(startBrowser(t))
	defer cancel()
	p := &page{t: t, ctx: ctx}
	if err := chromedp.Do(ctx, chromedp.Navigate(c.URL()+"/healthz")); err != nil {
		t.Fatalf("a page of the cluster loads: %v", err)
	}
	evaluate[int](p, `(() => {
		window.got = []; window.nodes = []; window.others = [];
		window.source = new EventSource('/sse/stage');
		source.onmessage = e => got.push(JSON.parse(e.data).message.offset);
		source.addEventListener('welcome', e => nodes.push(JSON.parse(e.data).welcome.node));
		for (const name of ['reset', 'close', 'skipped']) source.addEventListener(name, e => others.push(name + e.data));
		return 0
	})()`)
	published := 0
	for round, end := range []func(*testserver.Node) error{(*testserver.Node).Kill, shutDown, nil} {
		p.wait("the stream is open", fmt.Sprintf(`nodes.length === %d && source.readyState === EventSource.OPEN`, round+1))
		on := evaluate[string](p, `nodes.at(-1)`)
		var home, other *testserver.Node
		for _, n := range c.Nodes {
			if n.Name() == on {
				home = n
			} else {
				other = n
			}
		}
		if home == nil {
			t.Fatalf("the welcome names a node of the cluster, not %q", on)
		}
		say := func(n int) {
			publisher, _ := join(t, other.URL(), "stage", "echo=0")
			defer publisher.Close()
			for range n {
				published++
				publish(t, publisher, strconv.Itoa(published))
			}
		}
		say(20)
		if end == nil {
			break
		}
		if round > 0 { // the first time the last messages may be under way
			p.wait("all messages have come", fmt.Sprintf(`got.length === %d`, published))
		}
		if err := end(home); err != nil {
			t.Fatal(err)
		}
		say(20) // while it is away
		p.wait("the stream is open again", fmt.Sprintf(`nodes.length === %d`, round+2))
		if err := home.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	p.wait("all messages have come", fmt.Sprintf(`got.length >= %d`, published))
	for i, offset := range evaluate[[]int](p, `got`) {
		if offset != i+1 {
			t.Fatalf("every message comes once and in order: number %d is %d", i+1, offset)
		}
	}
	if others := evaluate[[]string](p, `others`); len(others) > 0 {
		t.Errorf("a stream that can be resumed says nothing else: %q", others)
	}
}

// shutDown stops a node, which tells its clients.
func shutDown(n *testserver.Node) error {
	_, err := n.Stop()
	return err
}

// What curl sees through nginx: every event at once.
func TestEventStreamThroughNginx(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL()+"/sse/room", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("nginx passes on the answer as it is: %v", resp)
	}
	lines := bufio.NewScanner(resp.Body)
	until := func(part string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), part) {
				return
			}
		}
		t.Fatalf("%q comes at once: %v", part, lines.Err())
	}
	until("welcome")
	publisher, _ := join(t, c.URL(), "room", "echo=0")
	for i := range 5 {
		publish(t, publisher, fmt.Sprintf(`"text %d"`, i))
		until(fmt.Sprintf(`"text %d"`, i)) // before the next is sent
	}
}

// What an idle stream costs the process: as little as a WebSocket.
func TestIdleStreamsAreSmall(t *testing.T) {
	const streams, limit = 1000, 4096 // bytes, of the process, with what the allocator and the collector keep
	n := startNode(t, testserver.NodeOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := &http.Client{Transport: &http.Transport{}}
	open := func(count int) {
		for range count {
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+"/sse/room", nil)
			resp, err := client.Do(r)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("a stream opens: %v, %v", resp, err)
			}
			go func() { _, _ = io.Copy(io.Discard, resp.Body); resp.Body.Close() }()
		}
	}
	open(100) // what the first ones need is there
	before := resident(t, n.PID())
	open(streams)
	var each int
	eventually(t, 20*time.Second, fmt.Sprintf("an idle stream takes at most %d bytes of the process", limit), func() bool {
		each = (resident(t, n.PID()) - before) / streams
		return each <= limit
	})
	t.Logf("an idle stream takes %d bytes of the process", each)
	cancel()
	client.CloseIdleConnections()
}

// resident is the memory of a process that is its own, in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	var kb int
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
