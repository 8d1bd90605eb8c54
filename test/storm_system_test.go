//go:build system

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"barrage/internal/testserver"

	"github.com/gorilla/websocket"
)

// stormClients is how many clients lose their node; BARRAGE_TEST_STORM says another number, up to what the limit of files allows.
func stormClients(t *testing.T) int {
	t.Helper()
	text := os.Getenv("BARRAGE_TEST_STORM")
	if text == "" {
		return 2000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("BARRAGE_TEST_STORM is a number of clients, not %q", text)
	}
	return n
}

// storm is many clients of the Centrifuge protocol that follow one channel, from the same node at first, and recover on the others.
type storm struct {
	channel string
	home    string
	refuge  []string
	dialing chan struct{} // bounds how many connect at once
	back    chan struct{} // closed: who lost the node may come back
	joined  atomic.Int64  // subscriptions, first and later ones
	seen    atomic.Int64  // publications, of all together

	mu    sync.Mutex
	wrong []string
}

func (s *storm) complain(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrong) < maxComplaints {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

// start runs clients until the test ends.
func (s *storm) start(t *testing.T, clients int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() { (&survivor{storm: s, name: fmt.Sprint("client ", i)}).run(ctx, s.refuge[i%len(s.refuge)]) })
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	eventually(t, 60*time.Second, fmt.Sprintf("%d clients are subscribed", clients), func() bool { return s.joined.Load() == int64(clients) })
}

// survivor is one client.
type survivor struct {
	*storm
	name   string
	epoch  string
	offset uint64
	known  bool // there is a position
}

func (s *survivor) run(ctx context.Context, refuge string) {
	s.connection(ctx, s.home)
	select {
	case <-ctx.Done():
		return
	case <-s.back:
	}
	for ctx.Err() == nil {
		pause(ctx, rand.N(300*time.Millisecond))
		s.connection(ctx, refuge)
	}
}

var stormDialer = websocket.Dialer{HandshakeTimeout: 30 * time.Second, ReadBufferSize: 1 << 10, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{}}

// connection follows the channel until the connection is lost.
func (s *survivor) connection(ctx context.Context, base string) {
	s.dialing <- struct{}{}
	ws, _, err := stormDialer.DialContext(ctx, "ws"+strings.TrimPrefix(base, "http")+"/connection/websocket", nil)
	<-s.dialing
	if err != nil {
		return
	}
	defer ws.Close()
	defer context.AfterFunc(ctx, func() { ws.Close() })()
	hello := fmt.Sprintf(`{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"channel":%q,"recover":%v,"epoch":%q,"offset":%d}}`, s.channel, s.known, s.epoch, s.offset)
	if ws.WriteMessage(websocket.TextMessage, []byte(hello)) != nil {
		return
	}
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		for line := range bytes.SplitSeq(frame, []byte("\n")) {
			if string(line) == "{}" {
				_ = ws.WriteMessage(websocket.TextMessage, line)
			} else if len(line) > 0 {
				s.take(line)
			}
		}
	}
}

// take reads one reply.
func (s *survivor) take(line []byte) {
	var r struct {
		ID        int
		Error     *struct{ Code int }
		Subscribe *struct {
			Epoch     string
			Offset    uint64
			Recovered bool
		}
		Push *struct {
			Pub         *struct{ Offset uint64 }
			Unsubscribe *struct{ Code int }
		}
	}
	if err := json.Unmarshal(line, &r); err != nil {
		s.complain("%s was sent %.100s", s.name, line)
		return
	}
	switch {
	case r.Error != nil:
		s.complain("%s was given error %d", s.name, r.Error.Code)
	case r.Subscribe != nil:
		if s.known && (!r.Subscribe.Recovered || r.Subscribe.Epoch != s.epoch) {
			s.complain("%s could not recover from %d: %s", s.name, s.offset, line)
		}
		if !s.known {
			s.known, s.epoch, s.offset = true, r.Subscribe.Epoch, r.Subscribe.Offset
		}
		s.joined.Add(1)
	case r.Push != nil && r.Push.Unsubscribe != nil:
		s.complain("%s was unsubscribed: %s", s.name, line)
	case r.Push != nil && r.Push.Pub != nil:
		if r.Push.Pub.Offset != s.offset+1 {
			s.complain("%s was given offset %d after %d", s.name, r.Push.Pub.Offset, s.offset)
		}
		s.offset = r.Push.Pub.Offset
		s.seen.Add(1)
	}
}

// journalReads are the reads of messages from the journal that nodes did: to open channels, for repairs, and for members behind memory.
func journalReads(t *testing.T, nodes ...*testserver.Node) (reads map[string]int, sum int) {
	t.Helper()
	reads = map[string]int{}
	for _, n := range nodes {
		for _, name := range []string{"channel_opens_total", "channel_repairs_total", "channel_page_reads_total"} {
			v := int(metric(t, n, "barrage_"+name))
			reads[n.Name()+" "+name] = v
			sum += v
		}
	}
	return reads, sum
}

// metric is the value of a counter of a node.
func metric(t *testing.T, n *testserver.Node, name string) float64 {
	t.Helper()
	res, err := http.Get(n.URL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("node %s has the metric %s", n.Name(), name)
	return 0
}

// newStorm prepares clients of node a that will come back to b and c.
func newStorm(t *testing.T, c *testserver.NodeCluster, channel string) *storm {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return &storm{
		channel: channel, home: c.Nodes[0].URL(), refuge: []string{c.Nodes[1].URL(), c.Nodes[2].URL()},
		dialing: make(chan struct{}, 128), back: make(chan struct{}),
	}
}

// everything waits until all have seen all, and says what was wrong.
func (s *storm) everything(t *testing.T, clients, messages int) {
	t.Helper()
	want := int64(clients) * int64(messages)
	for deadline := time.Now().Add(60 * time.Second); s.seen.Load() < want && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, wrong := range s.wrong {
		t.Error(wrong)
	}
	if seen := s.seen.Load(); seen != want {
		t.Errorf("each of %d clients has each of %d messages once: %d, not %d", clients, messages, seen, want)
	}
}

// A node is killed while messages are published, and all its clients recover on the other two: from memory, at the cost of a handful of reads
// of the journal for all of them together.
func TestRecoveryStorm(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	clients := stormClients(t)
	s := newStorm(t, c, "room")
	close(s.back)
	publisher, _ := join(t, c.Nodes[1].URL(), "room", "echo=0")
	s.start(t, clients)
	const messages = 60
	for i := range messages {
		if i == messages/3 {
			before, sum := journalReads(t, c.Nodes[1:]...)
			defer func() {
				after, now := journalReads(t, c.Nodes[1:]...)
				if now-sum > 6 {
					t.Errorf("the recovery of %d clients costs a handful of reads of the journal: it cost %d, from %v to %v", clients, now-sum, before, after)
				}
				t.Logf("the recovery of %d clients cost %d reads of the journal", clients, now-sum)
			}()
			if err := c.Nodes[0].Kill(); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, publisher, strconv.Itoa(i))
		time.Sleep(20 * time.Millisecond) // the rate of publishing
	}
	began := time.Now()
	s.everything(t, clients, messages)
	if n := s.joined.Load(); n < 2*int64(clients) {
		t.Errorf("every client has come back: %d subscriptions of %d clients", n, clients)
	}
	t.Logf("everyone had everything %s after the last publish", time.Since(began).Round(time.Millisecond))
}

// The same when more was published meanwhile than nodes keep in memory: pages are read from the journal once for all.
func TestRecoveryFromFarBehind(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	const clients, before, messages = 300, 5, 2500
	s := newStorm(t, c, "room")
	publisher, _ := join(t, c.Nodes[1].URL(), "room", "echo=0")
	s.start(t, clients)
	for i := range before {
		publish(t, publisher, strconv.Itoa(i))
	}
	s.everything(t, clients, before)
	if err := c.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	for range (messages - before) / 5 {
		send(t, publisher, strings.TrimSpace(strings.Repeat(`{"publish":{"data":"far behind"}}`+"\n", 5)))
		for range 5 {
			if l := next(t, publisher); l.Ack == nil {
				t.Fatalf("a publish is acknowledged: got %s", l.Text)
			}
		}
	}
	was, sum := journalReads(t, c.Nodes[1:]...)
	close(s.back)
	s.everything(t, clients, messages)
	is, now := journalReads(t, c.Nodes[1:]...)
	// Pages of 256 messages behind a memory of 1,000, on each of two nodes, and what opening the channel takes.
	if limit := 2 * ((messages+255)/256 + 2); now-sum > limit {
		t.Errorf("%d clients that are %d messages behind are served with %d reads of the journal at most: it took %d, from %v to %v", clients, messages, limit, now-sum, was, is)
	}
	t.Logf("%d clients that were %d messages behind were served with %d reads of the journal", clients, messages-before, now-sum)
}
