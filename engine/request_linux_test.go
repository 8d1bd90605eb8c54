package engine

import (
	"io"
	"net"
	"net/http"
	"reflect"
	"testing"
)

// FuzzReadHead checks that what a loop judges itself reaches a handler of net/http too, and as the same request.
func FuzzReadHead(f *testing.F) {
	f.Add([]byte(knocking))
	f.Add([]byte("GET /up HTTP/1.1\nHost: h\nA : b\n\n"))
	f.Add([]byte("GET //x?y HTTP/1.1\r\nHost: [::1]:80\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n"))
	f.Add([]byte("GET http://i/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add([]byte("GET /ws/%e5%bc%b9;a=b?x=%zz&y HTTP/1.1\r\nhost: h\r\nPragma: no-cache\r\nPragma: x\r\nX-y:\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := headLength(b, 0)
		if n == 0 {
			return
		}
		var heads headReader
		ours, ok := heads.read(b[:n])
		if !ok {
			return
		}
		server, client := net.Pipe()
		l := &handOver{conns: make(chan net.Conn, 1), done: make(chan struct{}), addr: server.LocalAddr()}
		l.give(server)
		seen := make(chan *http.Request, 1)
		h := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r; panic(http.ErrAbortHandler) })}
		done := make(chan error, 1)
		go func() { done <- h.Serve(l) }()
		_, _ = client.Write(b[:n])
		_, _ = io.Copy(io.Discard, client) // it ends when the request was refused or handled
		client.Close()
		h.Close()
		<-done
		select {
		case r := <-seen:
			if r.RequestURI != ours.RequestURI || r.URL.EscapedPath() != ours.URL.EscapedPath() || r.URL.RawQuery != ours.URL.RawQuery || r.URL.Path != ours.URL.Path || r.Host != ours.Host || !reflect.DeepEqual(r.Header, ours.Header) {
				t.Errorf("%q is %v %v for a loop and %v %v for net/http", b[:n], ours.RequestURI, ours.Header, r.RequestURI, r.Header)
			}
		default:
			t.Errorf("%q is refused by net/http, and so it must be by a loop", b[:n])
		}
	})
}
