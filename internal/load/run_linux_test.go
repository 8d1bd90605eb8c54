package load

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"barrage/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a server whose rooms send each text to all members. fault may change what a member gets of message n.
type hub struct {
	mu    sync.Mutex
	rooms map[string]map[*websocket.Conn]bool
	count int
	fault func(n int, text []byte) [][]byte
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	h.mu.Lock()
	room := h.rooms[r.URL.Path]
	if room == nil {
		room = map[*websocket.Conn]bool{}
		h.rooms[r.URL.Path] = room
	}
	if r.URL.Query().Get("echo") != "0" {
		room[c] = true
	}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(room, c)
	}()
	for {
		_, text, err := c.ReadMessage()
		if err != nil {
			return
		}
		h.send(room, text)
	}
}

func (h *hub) send(room map[*websocket.Conn]bool, text []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	texts := [][]byte{text}
	if h.fault != nil {
		texts = h.fault(h.count, text)
	}
	h.count++
	for c := range room {
		for _, b := range texts {
			_ = c.WriteMessage(websocket.TextMessage, b)
		}
	}
}

func startHub(t *testing.T, fault func(int, []byte) [][]byte) string {
	h := &hub{rooms: map[string]map[*websocket.Conn]bool{}, fault: fault}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http") + "/r/{room}"
}

// spawnHere starts a worker as a goroutine.
func spawnHere() (Process, error) {
	inRead, in := io.Pipe()
	out, outWrite := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Work(inRead, outWrite)
		_ = inRead.Close()
		_ = outWrite.Close()
		ended <- err
	}()
	return Process{In: in, Out: out, Wait: func() error { return <-ended }}, nil
}

func runHere(t *testing.T, p Plan) (Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p.Settle = time.Millisecond
	return Run(ctx, p, Options{Spawn: spawnHere, Files: 15, Processors: 2})
}

func TestEveryDeliveryIsCounted(t *testing.T) {
	url := startHub(t, nil)
	r, err := runHere(t, Plan{
		URLs: []string{url}, PublishURLs: []string{url + "?echo=0"}, Connections: 40, Rooms: 4, Rate: 200, Size: 100,
		Duration: 300 * time.Millisecond, Warmup: 100 * time.Millisecond, Servers: []Server{{"hub", os.Getpid()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Traffic.Sent != 80 || r.Traffic.Account != (Account{Expected: 800, Received: 800}) || !r.Flawless() {
		t.Errorf("80 messages for 10 members each are 800 deliveries, got %+v", r.Traffic)
	}
	if r.Processes != 4 || r.Idle == nil || r.Traffic.Latency.Max <= 0 || r.Connect.PerSecond <= 0 || r.Traffic.Echoes != 0 {
		t.Errorf("3 processes of readers and 1 of publishers measure times, got %+v, %+v", r, r.Traffic)
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "800 expected, 800 received") {
		t.Errorf("the table tells it, got %v:\n%s", err, table.String())
	}
}

func TestRoomsHearWhatIsWrapped(t *testing.T) {
	url := startHub(t, nil)
	r, err := runHere(t, Plan{
		URLs: []string{url}, Connections: 10, Rate: 100, Duration: 200 * time.Millisecond, Wrap: `["{room}","{text}"]`, Hello: "hello", PublishHello: "~!~ I publish",
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Traffic.Received != 200 || !r.Flawless() {
		t.Errorf("markers are found within other text, and greetings are passed over, got %+v", r.Traffic)
	}
	if r.Traffic.Echoes == 0 {
		t.Error("what a publisher hears of itself is counted apart")
	}
}

func TestLostRepeatedAndOutOfOrder(t *testing.T) {
	var held []byte
	url := startHub(t, func(n int, text []byte) [][]byte {
		switch n {
		case 3:
			return nil
		case 5:
			return [][]byte{text, text}
		case 7:
			held = text
			return nil
		case 8:
			return [][]byte{text, held}
		case 9:
			return [][]byte{text, []byte("~!~00000000000000000000")}
		}
		return [][]byte{text}
	})
	r, err := runHere(t, Plan{
		URLs: []string{url}, Connections: 10, Rate: 100, Duration: 200 * time.Millisecond, Drain: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	a := r.Traffic.Account
	a.Foreign = 0
	if want := (Account{Expected: 200, Received: 190, Lost: 10, Repeated: 10, OutOfOrder: 10}); a != want || r.Flawless() {
		t.Errorf("one message lost, one repeated and one late for 10 members each are %+v, got %+v", want, a)
	}
}

func TestATraceIsPlayed(t *testing.T) {
	url := startHub(t, nil)
	var entries []trace.Entry
	for i := range 20 {
		entries = append(entries, trace.Entry{At: time.Duration(1000+20*i) * time.Millisecond, Author: 1 + i%3, Bytes: 5 * i})
	}
	r, err := runHere(t, Plan{URLs: []string{url}, Connections: 6, Rooms: 2, Trace: entries, Speed: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Traffic.Sent != 20 || r.Traffic.Received != 60 || !r.Flawless() {
		t.Errorf("20 messages reach 3 members each, got %+v", r.Traffic)
	}
}

func TestStalledReadersAreLeftOut(t *testing.T) {
	url := startHub(t, nil)
	r, err := runHere(t, Plan{URLs: []string{url}, Connections: 10, Rate: 50, Duration: 200 * time.Millisecond, Stall: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Stalled != 2 || r.Traffic.Expected != 80 || r.Traffic.Received != 80 || !r.Flawless() {
		t.Errorf("10 messages are expected at the 8 that read, got %d stalled, %+v", r.Stalled, r.Traffic)
	}
	if r.CaughtUp != 2 || r.Skipped != 0 || r.Dropped != 0 || r.Missed != 0 {
		t.Errorf("those that stalled find everything at the end, got %+v", r)
	}
}

func TestStalledReadersThatMissedSomething(t *testing.T) {
	url := startHub(t, func(n int, text []byte) [][]byte {
		if n == 4 {
			return nil
		}
		return [][]byte{text}
	})
	r, err := runHere(t, Plan{
		URLs: []string{url}, Connections: 10, Rate: 50, Duration: 200 * time.Millisecond, Stall: 0.2, Drain: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Traffic.Lost != 8 || r.CaughtUp != 0 || r.Skipped != 2 || r.Missed != 2 {
		t.Errorf("what is lost is lost for readers, and missed by the 2 that stalled, got %+v, %+v", r, r.Traffic)
	}
}

func TestSeveralPublishersOfARoomAreStreamsOfTheirOwn(t *testing.T) {
	r, err := runHere(t, Plan{
		URLs: []string{startHub(t, nil)}, Connections: 20, Rooms: 2, Publishers: 3, Rate: 120, Duration: 200 * time.Millisecond, ConnectRate: 500,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Traffic.Sent != 24 || r.Traffic.Account != (Account{Expected: 240, Received: 240}) || !r.Flawless() {
		t.Errorf("24 messages by 3 publishers for each room reach 10 members each, got %+v", r.Traffic)
	}
	if r.Connect.Seconds < 0.03 {
		t.Errorf("20 connections at 500 a second take 40 ms, got %g s", r.Connect.Seconds)
	}
	targets := map[[2]int]int{}
	job := Job{Count: 6, Rooms: 2, Publishers: 3, Targets: make([]Target, 2), Publish: &Schedule{}}
	for i := range 6 {
		targets[[2]int{job.room(i), job.target(i)}]++
	}
	if len(targets) != 4 {
		t.Errorf("the publishers of each room are spread over both servers, got %v", targets)
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	for name, tc := range map[string]struct {
		plan Plan
		want string
	}{
		"nobody listens": {Plan{URLs: []string{"ws://127.0.0.1:1/"}}, "connection refused"},
		"refused":        {Plan{URLs: []string{"ws" + strings.TrimPrefix(refusing.URL, "http")}}, "404 Not Found"},
		"TLS":            {Plan{URLs: []string{"wss://127.0.0.1/"}}, "TLS"},
		"no URL":         {Plan{}, "there is no URL"},
		"no process":     {Plan{URLs: []string{"ws://127.0.0.1:1/"}, Servers: []Server{{"server", 1 << 30}}}, "the server's memory"},
	} {
		tc.plan.Connections, tc.plan.OpenFor = 3, 200*time.Millisecond
		if _, err := runHere(t, tc.plan); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: the error says %q, got %v", name, tc.want, err)
		}
	}
}

func TestCancel(t *testing.T) {
	url := startHub(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, Plan{URLs: []string{url}, Connections: 5, Idle: time.Hour}, Options{
		Spawn: spawnHere, Files: 100, Processors: 1,
		Progress: func(p Progress) {
			if p.Phase == "idle" || p.Phase == "settling" {
				cancel()
			}
		},
	})
	if err == nil {
		t.Error("a run that is cancelled ends with an error")
	}
	cancel()
}

// Connections whose numbers exceed the ports of one address come from the next one.
func TestEachSourceAddressHasEnoughPorts(t *testing.T) {
	sources := make(chan string, 10)
	h := &hub{rooms: map[string]map[*websocket.Conn]bool{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.RemoteAddr, ":")
		sources <- host
		h.ServeHTTP(w, r)
	}))
	defer s.Close()
	for _, tc := range []struct {
		first int
		want  string
	}{{0, "127.0.0.1"}, {perSource - 1, "127.0.0.1"}, {perSource, "127.0.0.2"}, {2 * perSource, "127.0.0.3"}} {
		w, err := spawnHere()
		if err != nil {
			t.Fatal(err)
		}
		orders, events := json.NewEncoder(w.In), json.NewDecoder(w.Out)
		job := Job{
			First: tc.first, Count: 1, Rooms: 1, Opening: 1, OpenFor: 10 * time.Second,
			Targets: []Target{{Address: strings.TrimPrefix(s.URL, "http://"), Host: "h", Path: "/"}},
		}
		go func() { _, _ = orders.Encode(job), orders.Encode(order{Connect: true}) }()
		for e := (event{}); e.Connected == nil; {
			if err := events.Decode(&e); err != nil || e.Error != "" {
				t.Fatalf("connection %d opens, got %v, %s", tc.first, err, e.Error)
			}
		}
		if got := <-sources; got != tc.want {
			t.Errorf("connection %d comes from %s, got %s", tc.first, tc.want, got)
		}
		_ = w.In.Close()
		go func() { _, _ = io.Copy(io.Discard, w.Out) }()
		_ = w.Wait()
	}
}
