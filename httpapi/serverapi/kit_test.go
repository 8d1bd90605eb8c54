package serverapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"barrage/broker"
	"barrage/broker/local"
	"barrage/channel"
	"barrage/httpapi/apikey"
	"barrage/httpapi/serverapi"
	"barrage/journal"
	"barrage/journal/memory"
	"barrage/node"
	"barrage/proto"
	"barrage/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	adminKey   = "admin-key-0123456789"
	readKey    = "read-key-0123456789"
	publishKey = "publish-key-0123456789"
)

// people stands for the connections of a cluster, and writes down what it is asked for.
type people struct {
	mu       sync.Mutex
	controls []proto.Control
	removed  []string
	silent   bool // it never answers
}

func (p *people) Control(c proto.Control, done func(int, []string, *proto.Error)) {
	p.mu.Lock()
	p.controls = append(p.controls, c)
	silent := p.silent
	p.mu.Unlock()
	if !silent {
		go done(2, []string{"away"}, nil)
	}
}

func (p *people) last() proto.Control {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.controls) == 0 {
		return proto.Control{}
	}
	return p.controls[len(p.controls)-1]
}

func (p *people) Connections(user string, done func([]proto.ConnectionInfo, []string, *proto.Error)) {
	go done([]proto.ConnectionInfo{{Node: "a", Client: "c1", User: user, Protocol: "ws", Channels: []string{"room"}, Info: json.RawMessage(`{"n":1}`)}}, nil, nil)
}

func (p *people) Channels(pattern string, done func(serverapi.ChannelList, *proto.Error)) {
	go done(serverapi.ChannelList{Channels: map[string]int{"room": 3, "pattern " + pattern: 1}}, nil)
}

func (p *people) Nodes(done func([]serverapi.NodeInfo, []string)) {
	done([]serverapi.NodeInfo{{UID: "u1", Name: "a", Version: "1.2", NumClients: 3, NumUsers: 2, NumChannels: 1, Uptime: 60}}, nil)
}

func (p *people) Presence(_ string, done func(proto.Roster, *proto.Error)) {
	go done(proto.Roster{
		Members: []proto.MemberInfo{{User: "alice", Client: "c1", Info: json.RawMessage(`{"n":1}`), ChanInfo: json.RawMessage(`2`)}, {User: "", Client: "c2"}},
		Counts:  proto.Counts{Clients: 2, Users: 2, Exact: true},
	}, nil)
}

func (p *people) Counts(_ string, done func(proto.Counts, *proto.Error)) {
	go done(proto.Counts{Clients: 200_000, Users: 99_000, Missing: []string{"away"}}, nil)
}

func (p *people) RemoveHistory(name string, done func(*proto.Error)) {
	p.mu.Lock()
	p.removed = append(p.removed, name)
	p.mu.Unlock()
	go done(nil)
}

// counted is a journal that counts appends, and can be held up. It keeps attributes whether or not the journal behind it does.
type counted struct {
	journal.Journal
	gate chan struct{} // when set, appends wait until it is closed

	mu         sync.Mutex
	appends    []int             // owner: mu
	attributes map[string][]byte // owner: mu
}

func place(channel string, o proto.Offset) string { return fmt.Sprint(channel, "/", o) }

func (c *counted) Append(ctx context.Context, drafts []journal.Draft) (journal.Appended, error) {
	if c.gate != nil {
		select {
		case <-c.gate:
		case <-ctx.Done():
			return journal.Appended{}, ctx.Err()
		}
	}
	out, err := c.Journal.Append(ctx, drafts)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appends = append(c.appends, len(drafts))
	for i := range out.Stored {
		if !out.Stored[i].Repeated {
			c.attributes[place(drafts[i].Channel, out.Stored[i].Offset)] = drafts[i].Attributes
		}
	}
	return out, err
}

func (c *counted) Read(ctx context.Context, channel string, r journal.Range) (journal.Page, error) {
	p, err := c.Journal.Read(ctx, channel, r)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range p.Messages {
		p.Messages[i].Attributes = c.attributes[place(channel, p.Messages[i].Offset)]
	}
	return p, err
}

// postHeld sends a command whose n publishes must all be queued before the first of them is stored, and returns by how many commits
// they are.
func (w *world) postHeld(method, body string, n int) (answer string, commits int) {
	w.t.Helper()
	w.journal.gate = make(chan struct{})
	answers := make(chan string, 1)
	go func() {
		_, answer := w.post(method, body)
		answers <- answer
	}()
	for deadline := time.Now().Add(10 * time.Second); w.node.Queue().Queued < int64(n-1) && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	close(w.journal.gate)
	answer = <-answers
	w.journal.mu.Lock()
	defer w.journal.mu.Unlock()
	return answer, len(w.journal.appends)
}

// world is an API on a real node with a journal in memory.
type world struct {
	t       testing.TB
	journal *counted
	node    *node.Node
	people  *people
	api     *serverapi.API
	mux     *http.ServeMux
	key     string
}

func start(t testing.TB, change ...func(*serverapi.Options)) *world {
	t.Helper()
	w := &world{t: t, journal: &counted{Journal: memory.New(), attributes: map[string][]byte{}}, people: &people{}, mux: http.NewServeMux(), key: adminKey}
	var err error
	w.node, err = node.New(node.Options{
		Name: "a", Journal: w.journal, Codecs: session.Codecs(), Writers: 1,
		Namespaces: channel.Namespaces{Named: map[string]channel.Namespace{"live": {Live: true}}},
		OpenBroker: func(_ string, h broker.Handler) (broker.Broker, error) { return local.Open(h), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.node.Close(context.Background()), w.journal.Close()); err != nil {
			t.Error(err)
		}
	})
	o := serverapi.Options{
		Backend: serverapi.Backend{
			Messages: w.node, Presence: w.people, Eraser: w.people, Users: w.people, Channels: w.people, Nodes: w.people,
		},
		Keys: ring(t, "admin:admin:"+adminKey, "reader:read:"+readKey, "publisher:publish:"+publishKey),
	}
	for _, f := range change {
		f(&o)
	}
	w.api = serverapi.New(o)
	w.api.Register(w.mux)
	return w
}

func ring(t testing.TB, items ...string) *apikey.Ring {
	t.Helper()
	keys, err := apikey.ParseList(items)
	if err != nil {
		t.Fatal(err)
	}
	r, err := apikey.Open(keys, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask sends any request; headers are pairs.
func (w *world) ask(method, path, body string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, r)
	return rec.Result()
}

// post sends a command and returns the status and the body.
func (w *world) post(method, body string) (int, string) {
	w.t.Helper()
	resp := w.ask(http.MethodPost, "/api/"+method, body, "X-API-Key", w.key, "Content-Type", "application/json")
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

// expect sends a command that must be answered by 200 and want, which may have EPOCH for the journal's.
func (w *world) expect(method, body, want string) {
	w.t.Helper()
	want = strings.ReplaceAll(want, "EPOCH", w.epoch())
	if status, got := w.post(method, body); status != http.StatusOK || got != want {
		w.t.Errorf("%s %s is answered by\n%s\nnot by %d\n%s", method, body, want, status, got)
	}
}

// fails sends a command that must be answered by 200 and an error.
func (w *world) fails(method, body string, code int, sentence string) {
	w.t.Helper()
	status, got := w.post(method, body)
	var r struct {
		Result json.RawMessage  `json:"result"`
		Error  *serverapi.Error `json:"error"`
	}
	if err := json.Unmarshal([]byte(got), &r); err != nil || status != http.StatusOK || r.Result != nil || r.Error == nil ||
		r.Error.Code != code || !strings.Contains(r.Error.Message, sentence) {
		w.t.Errorf("%s %s fails with %d and %q, not with %d %s", method, body, code, sentence, status, got)
	}
}

func (w *world) epoch() string {
	w.t.Helper()
	h, err := w.journal.Heads(context.Background(), []string{"x"})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(h.Epoch)
}

// publish stores a message as a client would.
func (w *world) publish(p node.Publication) {
	w.t.Helper()
	done := make(chan *proto.Error, 1)
	w.node.Publish(p, func(_ node.Published, err *proto.Error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			w.t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		w.t.Fatal("a publish was not acknowledged within 10 s")
	}
}
