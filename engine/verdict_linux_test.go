package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// judge answers every request with what it was told about it, whether a loop or net/http has read it.
type judge struct{}

func (judge) Handles(r *http.Request) bool { return strings.HasPrefix(r.URL.EscapedPath(), "/up") }

func (j judge) Upgrade(r *http.Request) ([]byte, func(Socket) Handler) {
	seen := told(r)
	return nil, func(s Socket) Handler {
		_, _ = s.TryWrite(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(seen), seen))
		s.Finish()
		return discard{}
	}
}

func (j judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	_, _ = io.WriteString(w, told(r)) // the client may have gone
}

// told is all that a handshake could depend on.
func told(r *http.Request) string {
	var fields []string
	for name, values := range r.Header {
		fields = append(fields, fmt.Sprintf("%q: %q", name, values))
	}
	slices.Sort(fields)
	return fmt.Sprintf("%s %q %q HTTP/%d.%d %q %d %v\n%s\n", r.Method, r.RequestURI, r.URL.EscapedPath(), r.ProtoMajor, r.ProtoMinor,
		r.Host, r.ContentLength, r.TransferEncoding, strings.Join(fields, "\n"))
}

// verdict sends a request in pieces that end at the cuts, and returns what it is answered.
func verdict(t *testing.T, addr string, request []byte, cuts ...int) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	from := 0
	for _, cut := range append(cuts, len(request)) {
		if cut <= from || cut > len(request) {
			continue
		}
		if from > 0 {
			// So that the pieces are read one by one. Nothing but the worth of the test depends on it.
			time.Sleep(200 * time.Microsecond)
		}
		_, _ = c.Write(request[from:cut]) // a refusal may come before all was sent
		from = cut
	}
	_ = c.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "no answer"
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, max(resp.ContentLength, 0))) // it may be torn by a reset
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body = nil // the sentence may differ
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, body)
}

// courts are a server with loops and one without, which must judge alike.
func courts(t testing.TB) (loops, plain string) {
	t.Helper()
	serve := func(l net.Listener) {
		server := &http.Server{Handler: judge{}, MaxHeaderBytes: 16 << 10, ReadTimeout: patience}
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		t.Cleanup(func() { server.Close(); <-done })
	}
	var addrs [2]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = l.Addr().String()
		if i == 1 {
			serve(l)
			break
		}
		e, err := NewLoops(l.(*net.TCPListener), LoopOptions{Upgrader: judge{}, Loops: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		serve(e.HTTP())
	}
	return addrs[0], addrs[1]
}

// requests are seeds, and what earlier versions of anything got wrong.
var requests = []string{
	"GET /up HTTP/1.1\r\nHost: h",
	"GET /up HTTP/1.1\nHost: h\nA: b",
	"GET /up?x=%zz#y HTTP/1.1\r\nHost: [::1]:80\r\nA: b\r\n c\r\nContent-Length: 0",
	"GET /up HTTP/1.1\r\nHost: h\r\nA : b",
	"GET /up HTTP/1.1\r\nHost: h\r\nA: b\r",
	"GET /up HTTP/1.1\r\nHost: h\r\nHost: h",
	"GET /up HTTP/1.1\r\nHost: \r\nA: \x00",
	"GET /up HTTP/1.1\r\nhost: h\r\naCCept-x: 1\r\nAccept-X: 2\r\nACCEPT: \t v \t",
	"GET /up HTTP/1.1\r\nHost: h\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\nPragma: no-cache",
	"GET http://i/up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked",
	"GET //up HTTP/1.1\r\nHost: h",
	"GET /%75p HTTP/1.1\r\nHost: h",
	"GET /up%2fx HTTP/1.1\r\nHost: h",
	"GET * HTTP/1.1\r\nHost: h",
	"GET /up HTTP/1.0\r\nHost: h",
	"GET /up HTTP/1.1\r\nHost: h\r\nTrailer: x",
	"GET /up HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1",
	"HEAD /up HTTP/1.1\r\nHost: h",
	"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	"\r\nGET /up HTTP/1.1\r\nHost: h",
	"GET /up HTTP/1.1\r\n\r\nGET /up HTTP/1.1\r\nHost: h",
	"GET /up HTTP/1.1\r\nHost: h\r\n: x",
	"GET /up HTTP/1.1\r\nHost: h\r\nX",
	"GET /up HTTP/1.1\r\nHost: h\xff\r\nX: \xff",
	"GET /up\xff HTTP/1.1\r\nHost: h",
	"GET /up HTTP/1.1 \r\nHost: h",
	"GET  /up HTTP/1.1\r\nHost: h",
	"PRI * HTTP/2.0\r\n\r\nSM",
}

// Requests are judged as if there were no loops, wherever they are split.
func TestRequestsAreJudgedAlikeWhereverTheyAreSplit(t *testing.T) {
	loops, plain := courts(t)
	for _, text := range requests {
		request := []byte(text + "\r\n\r\n")
		want := verdict(t, plain, request)
		if got := verdict(t, loops, request); got != want {
			t.Errorf("%q is answered as by net/http with %q, not with %q", request, want, got)
		}
		for cut := 1; cut < len(request); cut++ {
			if got := verdict(t, loops, request, cut); got != want {
				t.Errorf("%q, split at byte %d, is answered as by net/http with %q, not with %q", request, cut, want, got)
			}
		}
	}
}

// FuzzRequest does the same with requests of any kind.
func FuzzRequest(f *testing.F) {
	for i, text := range requests {
		f.Add([]byte(text), uint16(3*i), uint16(7*i))
	}
	f.Add(bytes.Repeat([]byte("GET /up HTTP/1.1\r\nHost: h\r\nX: "), 600), uint16(1000), uint16(9000))
	loops, plain := courts(f)
	f.Fuzz(func(t *testing.T, text []byte, cut, more uint16) {
		if len(text) > 20<<10 {
			return // both say 431, or neither reads on
		}
		request := append(text, "\r\n\r\n"...)
		want := verdict(t, plain, request)
		if got := verdict(t, loops, request, int(cut), int(cut)+int(more)); got != want {
			t.Errorf("%q, split at %d and %d, is answered as by net/http with %q, not with %q", request, cut, int(cut)+int(more), want, got)
		}
	})
}
