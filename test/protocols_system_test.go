//go:build system

package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/internal/testserver"
)

// sse is an event stream that is being read.
type sse struct {
	data chan string // of the events without a type: messages
}

// follow opens an event stream, as EventSource would.
func follow(t *testing.T, url string) *sse {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s opens: %v", url, err)
	}
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("%s is an event stream: got %s, %s", url, res.Status, res.Header.Get("Content-Type"))
	}
	s := &sse{data: make(chan string, 1000)}
	var reading sync.WaitGroup
	reading.Go(func() {
		lines := bufio.NewScanner(res.Body)
		kind := ""
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ":")
			switch field {
			case "event":
				kind = strings.TrimSpace(value)
			case "data":
				if kind == "" {
					s.data <- strings.TrimSpace(value)
				}
			case "":
				kind = ""
			}
		}
	})
	t.Cleanup(func() { cancel(); reading.Wait(); res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
	return s
}

// One channel, reached by all protocols at once, each through another way into the cluster: everyone sees what everyone publishes, in one
// order.
func TestOneChannelByEveryProtocol(t *testing.T) {
	cluster := startCluster(t, testserver.ClusterOptions{})
	l := NewLedger()
	var mu sync.Mutex
	seen := map[string][]string{}
	saw := func(who, text string) {
		mu.Lock()
		defer mu.Unlock()
		seen[who] = append(seen[who], text)
	}
	raw := dial(t, cluster.Nodes[0].URL(), "/raw/room")
	plain, _ := join(t, cluster.Nodes[1].URL(), "room")
	events := follow(t, cluster.URL()+"/sse/room")
	asJSON := startGo(t, l, sdkURL(cluster), "room", "json", false)
	asProtobuf := startGo(t, l, sdkURL(cluster), "room", "protobuf", true)
	js := startJS(t, l, cluster.URL(), "room", 1, "json")
	eventually(t, 20*time.Second, "the SDKs are subscribed", func() bool { _, n, _ := l.Counts(); return n == 3 })

	ctx, cancel := context.WithTimeout(context.Background(), defaultWait)
	defer cancel()
	send(t, raw, "from raw")
	writer, _ := join(t, cluster.Nodes[2].URL(), "room", "echo=0")
	publish(t, writer, `"from ws"`)
	for _, c := range []*goClient{asJSON, asProtobuf} {
		data, _ := json.Marshal("from " + c.name)
		if _, err := c.sub.Publish(ctx, data); err != nil {
			t.Errorf("%s publishes: %v", c.name, err)
		}
	}
	fmt.Fprintln(js.stdin, `{"data":"from js"}`)
	if refused := <-js.answers; refused != "" {
		t.Errorf("the JavaScript SDK publishes: %s", refused)
	}
	const messages = 5
	for range messages {
		text, err := raw.Frame(defaultWait)
		if err != nil {
			t.Fatalf("/raw is given five messages: %v", err)
		}
		saw("raw", text)
		var s string
		_ = json.Unmarshal(nextMessage(t, plain).Data, &s)
		saw("ws", s)
		var m struct {
			Message struct{ Data string }
		}
		select {
		case data := <-events.data:
			if err := json.Unmarshal([]byte(data), &m); err != nil {
				t.Errorf("/sse carries the lines of /ws: %v in %s", err, data)
			}
			saw("sse", m.Message.Data)
		case <-ctx.Done():
			t.Fatal("/sse is given five messages")
		}
	}
	eventually(t, defaultWait, "every SDK has seen five messages", func() bool {
		_, n, complete := l.Counts()
		return complete == n && len(l.order()) == messages
	})
	for _, wrong := range l.Check() {
		t.Error(wrong)
	}
	want := l.order()
	if sorted := slices.Sorted(slices.Values(want)); !slices.Equal(sorted, []string{"from js", "from json", "from protobuf", "from raw", "from ws"}) {
		t.Errorf("everyone's message is in the channel: got %q", want)
	}
	for who, got := range seen {
		if !slices.Equal(got, want) {
			t.Errorf("%s sees the messages in the one order %q: got %q", who, want, got)
		}
	}
}
