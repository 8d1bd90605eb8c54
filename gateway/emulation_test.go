package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/centrifugal/protocol"

	"barrage/node"
	"barrage/proto"
	"barrage/session/centrifuge"
	"barrage/ws"
)

// hearer is a reader of one of the streams of the Centrifuge protocol.
type hearer struct {
	*stream
	form          string // events, lines or protobuf
	node, session string
}

// forms are the transports that are emulated.
var forms = map[string]string{"events": "/connection/sse", "lines": "/connection/http_stream", "protobuf": "/connection/http_stream"}

func post(w *world, path, body string, header ...string) *stream {
	w.t.Helper()
	return w.askStream("POST "+path+" HTTP/1.1\r\nHost: "+w.addr+"\r\n", append(header, "Content-Length", fmt.Sprint(len(body))+"\r\n\r\n"+body)...)
}

// frameOf is commands, one a line, as a form has them.
func frameOf(t *testing.T, form, commands string) []byte {
	t.Helper()
	if form != "protobuf" {
		return []byte(commands)
	}
	var all []byte
	for line := range strings.SplitSeq(commands, "\n") {
		c := &protocol.Command{}
		if err := json.Unmarshal([]byte(line), c); err != nil {
			t.Fatal(err)
		}
		b, err := c.MarshalCF()
		if err != nil {
			t.Fatal(err)
		}
		all = append(binary.AppendUvarint(all, uint64(len(b))), b...)
	}
	return all
}

// listen opens a stream with commands, of which the first is connect.
func (w *world) listen(form, commands string) *hearer {
	w.t.Helper()
	l := &hearer{form: form}
	switch body := string(frameOf(w.t, form, commands)); form {
	case "events":
		l.stream = w.askStream("GET " + forms[form] + "?cf_connect=" + url.QueryEscape(body) + " HTTP/1.1\r\nHost: " + w.addr + "\r\n")
	case "protobuf":
		l.stream = post(w, forms[form], body, "Content-Type", "application/octet-stream")
	default:
		l.stream = post(w, forms[form], body)
	}
	if l.resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s must be opened, not answered with %s", form, l.resp.Status)
	}
	return l
}

// reply reads the next reply as JSON.
func (l *hearer) reply() string {
	l.t.Helper()
	switch l.form {
	case "events":
		return l.next().data
	case "lines":
		line, err := l.br.ReadString('\n')
		if err != nil {
			l.t.Fatalf("a reply must come: %v", err)
		}
		return strings.TrimSuffix(line, "\n")
	}
	n, err := binary.ReadUvarint(l.br)
	b := make([]byte, n)
	if err == nil {
		_, err = io.ReadFull(l.br, b)
	}
	r := &protocol.Reply{}
	if err != nil || r.UnmarshalCF(b) != nil {
		l.t.Fatalf("a reply must come: %v", err)
	}
	return string(r.AppendJSON(nil))
}

// expect reads the next reply, which must hold some text.
func (l *hearer) expect(text string) string {
	l.t.Helper()
	r := l.reply()
	if !strings.Contains(r, text) {
		l.t.Fatalf("%s: a reply with %s must come, not %s", l.form, text, r)
	}
	return r
}

// connected reads the reply to connect.
func (l *hearer) connected() *hearer {
	l.t.Helper()
	var r struct {
		Connect struct{ Node, Session string }
	}
	if err := json.Unmarshal([]byte(l.expect(`"connect"`)), &r); err != nil {
		l.t.Fatal(err)
	}
	l.node, l.session = r.Connect.Node, r.Connect.Session
	if l.node == "" || len(l.session) < 26 {
		l.t.Fatalf("the reply to connect tells the node and a session of at least 128 bits, not %q and %q", l.node, l.session)
	}
	return l
}

// say sends commands by a request to w, and returns the status of its answer.
func (l *hearer) say(w *world, commands string) int {
	l.t.Helper()
	frame := frameOf(l.t, l.form, commands)
	if l.form == "protobuf" {
		body, _ := (&protocol.EmulationRequest{Node: l.node, Session: l.session, Data: frame}).MarshalCF()
		return post(w, "/emulation", string(body), "Content-Type", "application/octet-stream").resp.StatusCode
	}
	body, _ := json.Marshal(map[string]string{"node": l.node, "session": l.session, "data": string(frame)})
	return post(w, "/emulation", string(body), "Content-Type", "application/json").resp.StatusCode
}

// must is say, for what must be taken.
func (l *hearer) must(w *world, commands string) {
	l.t.Helper()
	if status := l.say(w, commands); status != http.StatusNoContent {
		l.t.Fatalf("commands for a session are answered with 204, not %d", status)
	}
}

const connect = `{"id":1,"connect":{}}`

func eachForm(t *testing.T, test func(t *testing.T, form string)) {
	for form := range forms {
		t.Run(form, func(t *testing.T) { t.Parallel(); test(t, form) })
	}
}

func TestAStreamWithCommandsInRequests(t *testing.T) {
	eachForm(t, func(t *testing.T, form string) {
		w := start(t, Options{})
		l := w.listen(form, connect+"\n"+`{"id":2,"subscribe":{"channel":"room"}}`).connected()
		l.expect(`"id":2`)
		l.must(w, `{"id":3,"publish":{"channel":"room","data":{"n":1}}}`+"\n"+`{"id":4,"publish":{"channel":"room","data":"two"}}`)
		said := map[string]int{}
		for range 4 {
			r := l.reply()
			for _, part := range []string{`"id":3`, `"id":4`, `"offset":1`, `"offset":2`} {
				if strings.Contains(r, part) {
					said[part]++
				}
			}
		}
		if len(said) != 4 {
			t.Errorf("both publishes are answered and pushed: %v", said)
		}
		l.must(w, `{"id":5,"unsubscribe":{"channel":"room"}}`)
		l.expect(`"id":5`)
		if n := w.gateway.Stats().Emulated.Load(); n != 2 {
			t.Errorf("two requests with commands were taken, not %d", n)
		}
		l.Close()
		eventually(t, "a session ends with its stream", func() bool { return l.say(w, `{"id":6,"ping":{}}`) == http.StatusNotFound })
	})
}

// An inbox keeps the order, however many commands come while the session is full.
func TestCommandsInRequestsWaitForTheSession(t *testing.T) {
	w := start(t, Options{})
	l := w.listen("lines", connect).connected()
	open := w.journal.appends.close()
	defer open()
	const n = 300
	for i := 0; i < n; i += 100 {
		var commands []string
		for j := range 100 {
			commands = append(commands, fmt.Sprintf(`{"id":%d,"publish":{"channel":"room","data":%d}}`, i+j+2, i+j))
		}
		l.must(w, strings.Join(commands, "\n"))
	}
	w.journal.appends.await(t)
	open()
	for i := range n {
		l.expect(fmt.Sprintf(`"id":%d,`, i+2))
	}
	l.must(w, `{"id":1000,"history":{"channel":"room","limit":-1}}`)
	history := l.expect(`"history"`)
	at := 0
	for i := range n {
		next := strings.Index(history[at:], fmt.Sprintf(`"data":%d,`, i))
		if next < 0 {
			t.Fatalf("publish %d is in its place", i)
		}
		at += next
	}
}

// A connection that ends while its session is given commands is forgotten once that is over, and entirely.
func TestAStreamEndsWhileCommandsAreTaken(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	clients := closed()
	clients.RPC = func(centrifuge.Call) { close(entered); <-leave }
	w := start(t, Options{Centrifuge: clients})
	open := sync.OnceFunc(func() { close(leave) })
	defer open()
	l := w.listen("lines", `{"id":1,"connect":{"token":"alice"}}`).connected()
	var asking sync.WaitGroup
	asking.Go(func() { l.say(w, `{"send":{"data":1}}`) })
	<-entered
	l.must(w, `{"id":2,"ping":{}}`) // waits
	l.Close()
	eventually(t, "a session is not found any more once its stream has ended", func() bool { return w.gateway.emulated.find(l.session) == nil })
	if n := w.gateway.Count(); n != 1 {
		t.Errorf("a connection whose session is at work is still there: %d", n)
	}
	open()
	asking.Wait()
	eventually(t, "nothing is left of it", func() bool {
		w.gateway.mu.Lock()
		defer w.gateway.mu.Unlock()
		return len(w.gateway.conns) == 0 && w.node.Info("given").Members == 0
	})
}

func TestTooManyCommandsInRequestsEndTheSession(t *testing.T) {
	w := start(t, Options{})
	l := w.listen("events", connect).connected()
	open := w.journal.appends.close()
	defer open()
	large := `{"id":2,"publish":{"channel":"room","data":"` + strings.Repeat("x", 60_000) + `"}}`
	small := strings.Repeat(`{"id":2,"publish":{"channel":"room","data":1}}`+"\n", 64)
	l.must(w, small+`{"id":2,"publish":{"channel":"room","data":1}}`)
	status, sent := 0, 0
	for ; status != http.StatusServiceUnavailable; sent++ {
		if status = l.say(w, large); sent > 20 {
			t.Fatalf("what waits for a session is bounded: %d requests were taken", sent)
		}
	}
	if w.gateway.Stats().Stray.Load() == 0 {
		t.Error("commands that nobody took are counted")
	}
	l.expect(`"disconnect":{"code":3008`)
}

func TestPingsOfAStreamAreAnsweredInRequests(t *testing.T) {
	eachForm(t, func(t *testing.T, form string) {
		w := start(t, Options{Ping: brisk.Ping, Pong: patience})
		l := w.listen(form, connect).connected()
		for range 3 { // one that is not answered is not followed by another
			if ping := l.reply(); ping != "{}" {
				t.Fatalf("a ping is an empty reply, not %s", ping)
			}
			l.must(w, `{}`)
		}
		l = start(t, brisk).listen(form, connect).connected()
		for {
			if r := l.reply(); r != "{}" {
				if !strings.Contains(r, `"disconnect":{"code":3012`) {
					t.Fatalf("a client that answers no ping is told so, not %s", r)
				}
				return
			}
		}
	})
}

func TestBadRequestsWithCommands(t *testing.T) {
	w := start(t, Options{Origins: []string{"https://page.example"}})
	l := w.listen("lines", connect).connected()
	good := fmt.Sprintf(`{"node":%q,"session":%q,"data":"{}"}`, l.node, l.session)
	for _, tt := range []struct {
		name, body string
		header     []string
		want       int
	}{
		{"nothing", ``, nil, 400},
		{"no JSON", `{`, nil, 400},
		{"no session", `{"node":"a","data":"{}"}`, nil, 400},
		{"no commands", strings.Replace(good, "{}", "", 1), nil, 400},
		{"commands that are no string", strings.Replace(good, `"{}"`, "{}", 1), nil, 400},
		{"JSON as Protobuf", good, []string{"Content-Type", "application/octet-stream"}, 400},
		{"an unknown session", strings.Replace(good, l.session, strings.ToLower(l.session), 1), nil, 404},
		{"an unknown node", strings.Replace(good, `"node":"a"`, `"node":"b"`, 1), nil, 404},
		{"too many commands", strings.Replace(good, "{}", strings.Repeat(" ", 70_000), 1), nil, 413},
		{"a body that is too large", strings.Replace(good, "{}", strings.Repeat(" ", 300_000), 1), nil, 413},
		{"a page of another origin", good, []string{"Origin", "https://evil.example"}, 403},
		{"a page of an allowed origin", strings.Replace(good, "{}", `{\"id\":2,\"ping\":{}}`, 1), []string{"Origin", "https://page.example"}, 204},
	} {
		s := post(w, "/emulation", tt.body, tt.header...)
		if s.resp.StatusCode != tt.want {
			t.Errorf("%s is answered with %d, not %d", tt.name, tt.want, s.resp.StatusCode)
		}
		if tt.want == 204 && s.resp.Header.Get("Access-Control-Allow-Origin") != "https://page.example" {
			t.Errorf("an allowed page may read the answer: %v", s.resp.Header)
		}
		s.Close()
	}
	l.expect(`"id":2`)
	if s := w.askStream("GET /emulation HTTP/1.1\r\nHost: " + w.addr + "\r\n"); s.resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET is not answered with commands: %s", s.resp.Status)
	}
	preflight := w.askStream("OPTIONS /emulation HTTP/1.1\r\nHost: "+w.addr+"\r\n", "Origin", "https://page.example", "Access-Control-Request-Method", "POST")
	if preflight.resp.StatusCode != http.StatusNoContent || !strings.Contains(preflight.resp.Header.Get("Access-Control-Allow-Methods"), "POST") ||
		!strings.Contains(preflight.resp.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("a browser is told that an allowed page may send commands: %v", preflight.resp)
	}
}

// pair is two gateways that reach each other.
type pair struct{ handlers map[string]func([]byte) bool }

// ends is what one of them sees of it.
type ends struct {
	*pair
	name string
}

func (e ends) OnForward(kind string, take func([]byte) bool) { e.handlers[e.name+kind] = take }

func (e ends) Forward(node, kind string, payload []byte, done func(bool)) {
	take := e.handlers[node+kind]
	done(take != nil && take(bytes.Clone(payload)))
}

func TestCommandsReachTheNodeOfTheSession(t *testing.T) {
	eachForm(t, func(t *testing.T, form string) {
		p := &pair{map[string]func([]byte) bool{}}
		home := start(t, Options{Node: "a", Forwarder: ends{p, "a"}})
		other := start(t, Options{Node: "b", Forwarder: ends{p, "b"}})
		l := home.listen(form, connect).connected()
		l.must(other, `{"id":2,"ping":{}}`)
		l.expect(`"id":2`)
		if n := other.gateway.Stats().Forwarded.Load(); n != 1 {
			t.Errorf("one request was handed on, not %d", n)
		}
		l.session += "x"
		if status := l.say(other, `{"id":3,"ping":{}}`); status != http.StatusNotFound {
			t.Errorf("a session that its node does not have is 404, not %d", status)
		}
	})
}

func TestRefusedStreamsWithCommands(t *testing.T) {
	w := start(t, Options{Centrifuge: closed()})
	w.listen("lines", `{"id":1,"connect":{"token":"bad"}}`).expect(`{"push":{"disconnect":{"code":3500`)
	w.listen("events", `{"id":1,"connect":{}}`).expect(`{"push":{"disconnect":{"code":3500`)
	w.listen("events", `{"id":1,"connect":{"token":"alice-"}}`).expect(`"error":{"code":109`)
	w.listen("lines", `what`).expect(`{"push":{"disconnect":{"code":3501`)
	for _, request := range []string{
		"GET /connection/sse", "GET /connection/sse?cf_connect=", "GET /connection/sse?cf_connect=1&cf_connect=2", "GET /connection/sse?cf_connect=%",
		"GET /connection/uni_sse?cf_connect=1", "GET /connection/uni_sse?cf_connect=%7B",
	} {
		if s := w.askStream(request + " HTTP/1.1\r\nHost: " + w.addr + "\r\n"); s.resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s is answered with 400, not %s", request, s.resp.Status)
		}
	}
	if s := post(w, "/connection/http_stream", strings.Repeat(" ", 70_000)); s.resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body has at most 64 KiB: %s", s.resp.Status)
	}
}

// listenOnly opens a stream of a client that only listens.
func (w *world) listenOnly(form, request string) *hearer {
	w.t.Helper()
	l := &hearer{form: form}
	if form == "events" {
		l.stream = w.stream("/connection/uni_sse?cf_connect=" + url.QueryEscape(request))
		if l.next().retry == "" {
			w.t.Error("an EventSource is told how long to wait")
		}
		return l
	}
	l.stream = post(w, "/connection/uni_http_stream", request)
	return l
}

func eachListener(t *testing.T, test func(t *testing.T, form string)) {
	for _, form := range []string{"events", "lines"} {
		t.Run(form, func(t *testing.T) { t.Parallel(); test(t, form) })
	}
}

func TestAClientThatOnlyListens(t *testing.T) {
	eachListener(t, func(t *testing.T, form string) {
		w := start(t, Options{Centrifuge: closed()})
		l := w.listenOnly(form, `{"token":"alice","subs":{"shown":{"token":"shown"},"denied":{},"given":null}}`)
		first := l.expect(`{"connect":{"client":`)
		for _, name := range []string{`"given":`, `"#alice":`, `"shown":`} {
			if !strings.Contains(first, name) {
				t.Errorf("the connect push tells of the channel %s: %s", name, first)
			}
		}
		if strings.Contains(first, "denied") || strings.Contains(first, "session") {
			t.Errorf("a channel that the client may not subscribe to is left out, and nothing is emulated: %s", first)
		}
		w.publish("given", `{"n":1}`)
		l.expect(`{"channel":"given","pub":{"data":{"n":1}`)
		var stopping sync.WaitGroup
		stopping.Go(func() { w.gateway.Shutdown(t.Context()) })
		l.expect(`{"disconnect":{"code":3001`)
		if _, err := l.br.ReadByte(); err != io.EOF {
			t.Errorf("the stream ends after that: %v", err)
		}
		l.Close() // which the node waits for
		stopping.Wait()
	})
}

func TestAClientThatOnlyListensRecovers(t *testing.T) {
	eachListener(t, func(t *testing.T, form string) {
		w := start(t, Options{})
		for i := range 5 {
			w.publish("room", fmt.Sprint(i+1))
		}
		l := w.listenOnly(form, `{"subs":{"room":{"recover":true,"offset":2}}}`)
		if first := l.expect(`"connect"`); !strings.Contains(first, `"recovered":true`) || !strings.Contains(first, `"offset":2`) {
			t.Errorf("what was missed follows: %s", first)
		}
		for i := range 3 {
			l.expect(fmt.Sprintf(`"offset":%d`, i+3))
		}
	})
}

func TestAClientThatOnlyListensIsPingedAndRefused(t *testing.T) {
	eachListener(t, func(t *testing.T, form string) {
		w := start(t, brisk)
		l := w.listenOnly(form, ``)
		l.expect(`"ping":1`)
		for range 3 {
			if ping := l.reply(); ping != "{}" {
				t.Fatalf("a ping is an empty push, which needs no answer, not %s", ping)
			}
		}
		w = start(t, Options{Centrifuge: closed()})
		w.listenOnly(form, `{"token":"bad"}`).expect(`{"disconnect":{"code":3500`)
		w.listenOnly(form, `{"token":"alice-"}`).expect(`{"disconnect":{"code":3005`)
		w.listenOnly(form, `{"token":"alice","subs":{"\u0001":{}}}`).expect(`{"disconnect":{"code":3501`)
	})
}

func TestOneChannelByEveryTransport(t *testing.T) {
	w := start(t, Options{})
	var all []*hearer
	for form := range forms {
		l := w.listen(form, connect+"\n"+`{"id":2,"subscribe":{"channel":"room"}}`).connected()
		l.expect(`"id":2`)
		all = append(all, l)
	}
	for _, form := range []string{"events", "lines"} {
		l := w.listenOnly(form, `{"subs":{"room":{}}}`)
		l.expect(`"room"`)
		all = append(all, l)
	}
	w.publish("room", `"hello"`)
	for _, l := range all {
		l.expect(`"data":`)
	}
}

func FuzzEmulation(f *testing.F) {
	f.Add([]byte(`{"node":"a","session":"s","data":"{}"}`), false)
	f.Add([]byte("\n\x01a\x12\x01s\x1a\x02{}"), true)
	f.Fuzz(func(t *testing.T, body []byte, protobuf bool) {
		r, err := parseEmulation(body, protobuf)
		if err == nil && (r.Node == "" || r.Session == "" || len(r.Data) == 0) {
			t.Fatalf("a request that is taken says for whom what is: %+v", r)
		}
		if err == nil {
			if _, err := r.MarshalCF(); err != nil {
				t.Fatalf("a request that is taken can be handed on: %v", err)
			}
		}
	})
}

func FuzzConnectByQuery(f *testing.F) {
	f.Add("cf_connect=" + url.QueryEscape(`{"token":"t","subs":{"room":{"recover":true,"offset":3}}}`))
	f.Add("cf_connect=%7B%7D&cf_connect=1")
	f.Fuzz(func(_ *testing.T, query string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: query}}
		if said, err := first(r, nil); err == nil {
			_, _ = centrifuge.ParseConnect(said)
		}
	})
}

// publish publishes as the server API does.
func (w *world) publish(channel, data string) {
	w.t.Helper()
	done := make(chan *proto.Error, 1)
	w.node.Publish(node.Publication{Channel: channel, Data: []byte(data)}, func(_ node.Published, err *proto.Error) { done <- err })
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

func TestRequestsThatAreHandedOnHaveShares(t *testing.T) {
	var f forwards
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	for i := range maxForwards / maxShare {
		for n := range maxShare {
			if err := f.begin(address(i)); err != nil {
				t.Fatalf("request %d of address %d has room: %v", n, i, err)
			}
		}
	}
	status := func(a netip.Addr) int {
		err, refused := errors.AsType[*ws.HandshakeError](f.begin(a))
		if !refused {
			f.end(a)
			return 0
		}
		return err.Status
	}
	if got := status(address(100)); got != http.StatusServiceUnavailable {
		t.Errorf("all of them are bounded: 503, not %d", got)
	}
	f.end(address(0))
	if status(address(100)) != 0 || status(address(1)) != http.StatusTooManyRequests || status(netip.IPv6Loopback()) != 0 {
		t.Error("the room of one is for those who have less than their share")
	}
	if err := f.begin(address(0)); err != nil {
		t.Errorf("what was given back is there again: %v", err)
	}
	for i := range maxForwards {
		f.end(address(i % (maxForwards / maxShare)))
	}
	if f.all != 0 || len(f.shares) != 0 {
		t.Errorf("nothing is kept of who has left: %d, %v", f.all, f.shares)
	}
}
