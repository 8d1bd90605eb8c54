package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"barrage/auth"
	"barrage/internal/testcert"
	"barrage/proto"
)

// event is one of text/event-stream, or a comment.
type event struct{ name, id, data, retry, comment string }

// stream is a reader of /sse.
type stream struct {
	t *testing.T
	net.Conn
	br   *bufio.Reader
	resp *http.Response
}

// stream opens a stream; header pairs are added to the request.
func (w *world) stream(path string, header ...string) *stream {
	w.t.Helper()
	s := w.askStream("GET "+path+" HTTP/1.1\r\nHost: "+w.addr+"\r\n", header...)
	if s.resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(s.resp.Body)
		w.t.Fatalf("%s must be opened, not answered with %s: %s", path, s.resp.Status, body)
	}
	return s
}

// askStream sends a request and reads the head of its answer.
func (w *world) askStream(request string, header ...string) *stream {
	w.t.Helper()
	c, err := w.connect()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	for i := 0; i < len(header); i += 2 {
		request += header[i] + ": " + header[i+1] + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		w.t.Fatal(err)
	}
	br := bufio.NewReader(c)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("%q must be answered: %v", request, err)
	}
	return &stream{t: w.t, Conn: c, br: bufio.NewReader(resp.Body), resp: resp}
}

// next reads the next event, as HTML, section 9.2.6, says.
func (s *stream) next() event {
	s.t.Helper()
	e, err := s.read()
	if err != nil {
		s.t.Fatalf("an event must come: %v", err)
	}
	return e
}

func (s *stream) read() (e event, err error) {
	var data []string
	for {
		line, err := s.br.ReadString('\n')
		if err != nil {
			return e, err
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			e.data = strings.Join(data, "\n")
			return e, nil
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "":
			e.comment = value
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "retry":
			e.retry = value
		case "data":
			data = append(data, value)
		default:
			return e, fmt.Errorf("%q is no field of an event", line)
		}
	}
}

// welcome reads what a stream begins with.
func (s *stream) welcome() (id string) {
	s.t.Helper()
	if e := s.next(); e.retry == "" {
		s.t.Fatalf("a stream begins with the time to wait before the next connection, not with %+v", e)
	}
	e := s.next()
	if r, err := proto.ParseReply([]byte(e.data)); e.name != "welcome" || err != nil || r.Welcome == nil {
		s.t.Fatalf("a welcome must come, not %+v", e)
	}
	return e.id
}

// message reads the next message, and its id.
func (s *stream) message() (m *proto.Message, id string) {
	s.t.Helper()
	e := s.next()
	r, err := proto.ParseReply([]byte(e.data))
	if e.name != "" || err != nil || r.Message == nil {
		s.t.Fatalf("a message must come, not %+v, %v", e, err)
	}
	return r.Message, e.id
}

func TestAStreamOfEvents(t *testing.T) {
	w := start(t, Options{})
	s := w.stream("/sse/room")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Origin",
		"Access-Control-Allow-Origin": "",
	} {
		if got := s.resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, not %q", name, want, got)
		}
	}
	if id := s.welcome(); !strings.HasSuffix(id, "/0") {
		t.Errorf("the id of the welcome is where the stream begins, EPOCH/0, not %q", id)
	}
	c := w.dial("/ws/room?name=ann")
	epoch := c.welcome().Epoch
	for i := 1; i <= 3; i++ {
		c.publish(fmt.Sprint(i))
		if m, id := s.message(); int(m.Offset) != i || string(m.Data) != fmt.Sprint(i) || m.User != "ann" || id != fmt.Sprintf("%s/%d", epoch, i) {
			t.Errorf("message %d comes as on /ws, with its position as id: got %+v, %q", i, m, id)
		}
	}
	raw := w.dial("/raw/room")
	raw.send("one\r\ntwo\n\nid: evil")
	if m, _ := s.message(); string(m.Data) != `"one\r\ntwo\n\nid: evil"` {
		t.Errorf("a text with line breaks is one message, not %s", m.Data)
	}
}

func TestAStreamResumes(t *testing.T) {
	w := start(t, Options{})
	c := w.dial("/ws/room")
	epoch := c.welcome().Epoch
	fresh := w.stream("/sse/room")
	begin := fresh.welcome()
	fresh.Close() // before the first message
	for i := range 5 {
		c.publish(fmt.Sprint(i))
	}
	for _, tt := range []struct {
		path   string
		header []string
		next   int
	}{
		{"/sse/room", []string{"Last-Event-ID", begin}, 1},
		{"/sse/room?last=5", []string{"Last-Event-ID", fmt.Sprintf("%s/3", epoch)}, 4},
		{"/sse/room?since=1", []string{"last-event-id", fmt.Sprintf("%s/2", epoch)}, 3},
		{"/sse/room?last_event_id=" + url.QueryEscape(fmt.Sprintf("%s/4", epoch)), nil, 5},
		{"/sse/room?lastEventId=" + url.QueryEscape(fmt.Sprintf("%s/4", epoch)), []string{"Last-Event-ID", ""}, 5},
		{"/sse/room?since=3&epoch=" + string(epoch), nil, 4},
		{"/sse/room?last=2", nil, 4},
		{"/sse/room?since=0", nil, 1},
		{"/sse/room?last_event_id=", nil, 6},
	} {
		s := w.stream(tt.path, tt.header...)
		if id := s.welcome(); id != fmt.Sprintf("%s/%d", epoch, tt.next-1) {
			t.Errorf("%s %q: the welcome's id is the position before the first message: %q", tt.path, tt.header, id)
		}
		for want := tt.next; want <= 5; want++ {
			if m, _ := s.message(); int(m.Offset) != want {
				t.Errorf("%s %q: message %d comes next, not %d", tt.path, tt.header, want, m.Offset)
			}
		}
		s.Close()
	}
}

func TestAStreamThatCannotResumeIsReset(t *testing.T) {
	w := start(t, Options{})
	c := w.dial("/ws/room")
	epoch := c.welcome().Epoch
	c.publish("1")
	s := w.stream("/sse/room", "Last-Event-ID", "another/1")
	s.next() // retry
	want := fmt.Sprintf("%s/1", epoch)
	if e := s.next(); e.name != "reset" || e.id != want || !strings.Contains(e.data, "epoch another") {
		t.Errorf("an id of another epoch is answered with a reset to the head, not %+v", e)
	}
	if e := s.next(); e.name != "welcome" || e.id != want {
		t.Errorf("the welcome follows with the same id, not %+v", e)
	}
	c.publish("2")
	if m, _ := s.message(); m.Offset != 2 {
		t.Errorf("the stream goes on with the next new message, not %+v", m)
	}
}

func TestStreamsThatAreRefused(t *testing.T) {
	w := start(t, Options{Origins: []string{"https://good.example"}})
	for _, tt := range []struct {
		request, says string
		status        int
		header        []string
	}{
		{"GET /sse/ ", "it is empty", 400, nil},
		{"GET /sse/x?since=-1 ", "since", 400, nil},
		{"GET /sse/x?since=1&last=1 ", "combined", 400, nil},
		{"GET /sse/x?last_event_id=5 ", "EPOCH/OFFSET", 400, nil},
		{"GET /sse/x?last_event_id=a/1&lastEventId=a/1 ", "several times", 400, nil},
		{"GET /sse/x ", "EPOCH/OFFSET", 400, []string{"Last-Event-ID", "x"}},
		{"GET /sse/x ", "body", 400, []string{"Content-Length", "1\r\n\r\nx"}},
		{"GET /sse/x ", "evil.example", 403, []string{"Origin", "https://evil.example"}},
		{"GET /sse/x ", "several Origin", 400, []string{"Origin", "https://good.example", "Origin", "https://evil.example"}},
		{"POST /sse/x ", "GET", 405, []string{"Content-Length", "0"}},
		{"DELETE /sse/x ", "GET", 405, []string{"Origin", "https://good.example"}},
	} {
		s := w.askStream(tt.request+"HTTP/1.1\r\nHost: "+w.addr+"\r\n", tt.header...)
		body, _ := io.ReadAll(s.resp.Body)
		if s.resp.StatusCode != tt.status || !strings.Contains(string(body), tt.says) {
			t.Errorf("%s%q is refused with %d and a sentence about %q, not with %d %q", tt.request, tt.header, tt.status, tt.says, s.resp.StatusCode, body)
		}
		if tt.status == 405 && s.resp.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("405 says what is allowed, not %v", s.resp.Header)
		}
		s.Close()
	}
	if n := w.gateway.Count(); n != 0 {
		t.Errorf("what is refused is no connection: %d", n)
	}
}

func TestPagesOfOtherOrigins(t *testing.T) {
	for _, tt := range []struct {
		origins             []string
		origin, credentials string
	}{
		{[]string{"https://good.example"}, "https://good.example", "true"},
		{[]string{"*"}, "https://any.example", ""},
		{[]string{"*", "https://good.example"}, "https://good.example", "true"},
	} {
		w := start(t, Options{Origins: tt.origins})
		for _, request := range []string{"GET", "HEAD", "OPTIONS"} {
			s := w.askStream(request+" /sse/room HTTP/1.1\r\nHost: "+w.addr+"\r\n", "Origin", tt.origin, "Access-Control-Request-Method", "GET")
			h := s.resp.Header
			if h.Get("Access-Control-Allow-Origin") != tt.origin || h.Get("Access-Control-Allow-Credentials") != tt.credentials || h.Get("Vary") != "Origin" {
				t.Errorf("%s from %s, allowed by %q, is answered for this origin alone, with credentials %q: %v", request, tt.origin, tt.origins, tt.credentials, h)
			}
			if status := map[string]int{"GET": 200, "HEAD": 200, "OPTIONS": 204}[request]; s.resp.StatusCode != status {
				t.Errorf("%s is answered with %d, not %s", request, status, s.resp.Status)
			}
			if request == "OPTIONS" && !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
				t.Errorf("a page may set Last-Event-ID: %v", h)
			}
			s.Close()
		}
		eventually(t, "streams end with their connections", func() bool { return w.gateway.Count() == 0 })
	}
}

// HTTP/1.0 has no chunks; a stream needs none.
func TestAStreamForHTTP10(t *testing.T) {
	w := start(t, Options{})
	s := w.askStream("GET /sse/room HTTP/1.0\r\n")
	if s.resp.StatusCode != http.StatusOK || len(s.resp.TransferEncoding) > 0 || s.resp.ContentLength >= 0 {
		t.Errorf("a stream ends with its connection: %+v", s.resp)
	}
	s.welcome()
	c := w.dial("/ws/room")
	c.welcome()
	c.publish("1")
	s.message()
}

func TestAStreamIsPingedAndNothingIsExpected(t *testing.T) {
	w := start(t, brisk)
	s := w.stream("/sse/room")
	s.welcome()
	for range 8 { // longer than a pong could take
		if e := s.next(); e.comment != "ping" {
			t.Fatalf("a stream is kept alive by comments, not %+v", e)
		}
	}
	if n := w.gateway.Stats().NoPong.Load(); n != 0 || w.gateway.Count() != 1 {
		t.Errorf("nobody answers the comments, and nobody is closed for it: %d, %d", n, w.gateway.Count())
	}
}

func TestAStreamThatIsNotRead(t *testing.T) {
	w := start(t, Options{Write: 300 * time.Millisecond})
	stuck := w.stream("/sse/room")
	stuck.welcome()
	writer := w.dial("/ws/room?echo=0")
	writer.welcome()
	data := `"` + strings.Repeat("x", 60_000) + `"`
	for range 120 {
		writer.publish(data)
	}
	eventually(t, "a stream that accepts no bytes for too long is closed", func() bool { return w.gateway.Count() == 1 })
	if n := w.gateway.Stats().Slow.Load(); n != 1 {
		t.Errorf("a stream that was too slow is counted once, not %d times", n)
	}
}

func TestWhatAStreamIsSentIsBounded(t *testing.T) {
	w := start(t, Options{})
	s := w.stream("/sse/room")
	s.welcome()
	_, _ = s.Write(make([]byte, 1000))
	c := w.dial("/ws/room")
	c.welcome()
	c.publish("1")
	s.message() // it still stands
	_, _ = s.Write(make([]byte, maxIgnored))
	if e := s.next(); e.name != "close" || !strings.Contains(e.data, `"code":1002`) {
		t.Errorf("a client that sends much more than its request is closed, not sent %+v", e)
	}
	if _, err := s.read(); !errors.Is(err, io.EOF) {
		t.Errorf("after its last event a stream ends: %v", err)
	}
}

func TestStreamsEndAtShutdown(t *testing.T) {
	w := start(t, Options{})
	s := w.stream("/sse/room")
	s.welcome()
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		w.gateway.Shutdown(ctx)
	}()
	if e := s.next(); !strings.HasPrefix(e.comment, "bye 3001") {
		t.Errorf("a stream ends with a comment, since its client comes back by itself, not with %+v", e)
	}
	if _, err := s.read(); !errors.Is(err, io.EOF) {
		t.Errorf("then the server ends its side: %v", err)
	}
	s.Close()
	<-done
	if n := w.gateway.Count(); n != 0 {
		t.Errorf("no connection is left: %d", n)
	}
}

func TestLimitsCountStreams(t *testing.T) {
	w := start(t, Options{MaxConnections: 2})
	w.stream("/sse/room").welcome()
	w.dial("/ws/room").welcome()
	s := w.askStream("GET /sse/room HTTP/1.1\r\nHost: " + w.addr + "\r\n")
	if s.resp.StatusCode != http.StatusServiceUnavailable || s.resp.Header.Get("Retry-After") == "" {
		t.Errorf("a node that is full refuses streams with 503, not %s", s.resp.Status)
	}
}

func TestLimitsOfAnAddressCountStreams(t *testing.T) {
	w := start(t, Options{MaxPerAddress: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	first := w.stream("/sse/room", "X-Forwarded-For", "192.0.2.1")
	first.welcome()
	request := "GET /sse/room HTTP/1.1\r\nHost: " + w.addr + "\r\n"
	if s := w.askStream(request, "X-Forwarded-For", "192.0.2.1"); s.resp.StatusCode != http.StatusTooManyRequests || s.resp.Header.Get("Retry-After") == "" {
		t.Errorf("an address that has its connections is refused with 429, not %s", s.resp.Status)
	}
	w.stream("/sse/room", "X-Forwarded-For", "192.0.2.2").welcome()
	eventually(t, "both streams are counted", func() bool { return w.gateway.Count() == 2 }) // which may be later than their welcomes
	first.Close()
	eventually(t, "a stream that has ended counts no more", func() bool { return w.gateway.Count() == 1 })
	w.stream("/sse/room", "X-Forwarded-For", "192.0.2.1").welcome()
}

func TestAStreamWhileTheJournalIsAway(t *testing.T) {
	w := start(t, Options{})
	open := w.journal.reads.close()
	defer open()
	c, err := w.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /sse/room HTTP/1.1\r\nHost: %s\r\n\r\n", w.addr)
	w.journal.reads.await(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	go w.gateway.Shutdown(ctx)
	_ = c.SetDeadline(time.Now().Add(patience))
	if b, _ := io.ReadAll(c); len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("a stream that ends before it is joined has its head first: %q", b)
	}
}

// someTokens verifies tokens that are the name of a user.
type someTokens struct{ expires time.Time }

func (s someTokens) Connection(token string) (*auth.Identity, *proto.Error) {
	if token == "old" {
		return nil, proto.ErrTokenExpired
	}
	return &auth.Identity{User: token, Expires: s.expires}, nil
}

func (someTokens) Subscription(string, string, string, string) (auth.Subscription, *proto.Error) {
	return auth.Subscription{}, proto.ErrUnauthorized
}

func TestWhoMayOpenAStream(t *testing.T) {
	w := start(t, Options{Policy: &auth.Policy{Default: auth.Closed}, Tokens: someTokens{}})
	for _, tt := range []struct {
		path, token string
		status      int
	}{
		{"/sse/%23ann?token=ann", "", 200},
		{"/sse/%23ann", "ann", 200},
		{"/sse/%23ann?token=bob", "", 403},
		{"/sse/%23ann?token=bob", "ann", 401},
		{"/sse/%23ann", "", 401},
		{"/sse/%23ann?token=old", "", 401},
		{"/sse/room?token=ann", "", 403},
	} {
		var header []string
		if tt.token != "" {
			header = []string{"Authorization", "Bearer " + tt.token}
		}
		s := w.askStream("GET "+tt.path+" HTTP/1.1\r\nHost: "+w.addr+"\r\n", header...)
		if s.resp.StatusCode != tt.status {
			t.Errorf("%s with %q is answered with %d, not %s", tt.path, tt.token, tt.status, s.resp.Status)
		}
		s.Close()
	}
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	o := brisk
	o.Tokens = someTokens{expires: time.Now().Add(time.Second)}
	w := start(t, o)
	s := w.stream("/sse/room?token=ann")
	s.welcome()
	for {
		if e := s.next(); e.comment != "ping" {
			if !strings.HasPrefix(e.comment, "bye 3005") {
				t.Errorf("a stream whose token has expired ends, and says so: %+v", e)
			}
			return
		}
	}
}

func TestALiveStream(t *testing.T) {
	w := start(t, Options{})
	s := w.stream("/sse/live:room", "Last-Event-ID", "old/5")
	if id := s.welcome(); id != "" {
		t.Errorf("a live channel has no positions: id %q", id)
	}
	c := w.dial("/ws/live:room")
	c.welcome()
	c.send(`{"publish":{"data":1}}`)
	if m, id := s.message(); id != "" || m.Offset != 0 || string(m.Data) != "1" {
		t.Errorf("a live message has no id: %+v, %q", m, id)
	}
}

// A stream may come on a connection that net/http has kept alive, as proxies do.
func TestAStreamOnAConnectionThatWasUsed(t *testing.T) {
	w := start(t, Options{})
	scheme := strings.Replace(w.url, "ws", "http", 1)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: testcert.Client(authority)}}
	defer client.CloseIdleConnections()
	resp, err := client.Head(scheme + "/sse/room")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"/sse/room", nil)
	if resp, err = client.Do(r); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	(&stream{t: t, br: bufio.NewReader(resp.Body), resp: resp}).welcome()
}
