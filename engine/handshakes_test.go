package engine

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"barrage/internal/testcert"
)

var authority = testcert.New(1)

// secureOptions are those of an engine that serves TLS.
func secureOptions() LoopOptions {
	return LoopOptions{TLS: &tls.Config{Certificates: []tls.Certificate{authority.TLS()}}, TLSStats: new(TLSStats)}
}

// door is a listener whose connections have completed their handshake.
func door(t *testing.T, o LoopOptions, most int) (*tlsListener, *TLSStats) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := overTLS(l, o).(*tlsListener)
	if most > 0 {
		h.mu.Lock()
		h.most = most
		h.mu.Unlock()
	}
	t.Cleanup(func() { h.Close() })
	return h, o.TLSStats
}

func knock(t *testing.T, addr net.Addr, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("sending: %v", err)
	}
	return c
}

func ends(t *testing.T, c net.Conn, sentence string) {
	t.Helper()
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(sentence)
	}
}

func TestTheListenerOfTLSGivesOutWhatHasCompletedItsHandshake(t *testing.T) {
	l, stats := door(t, secureOptions(), 0)
	silent := knock(t, l.Addr(), "")
	client := tls.Client(knock(t, l.Addr(), ""), &tls.Config{RootCAs: testcert.Pool(authority), ServerName: "localhost"})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	server, err := l.Accept() // the silent one does not keep the other out
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if state := server.(*tls.Conn).ConnectionState(); !state.HandshakeComplete || stats.Handshakes.Load() != 1 {
		t.Error("a connection comes out when its handshake is complete, and is counted")
	}
	server.Close()
	l.Close()
	ends(t, silent, "closing the listener cuts the handshakes under way")
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener that is closed says so, not %v", err)
	}
	l.Close() // once more does no harm
}

func TestAHandshakeThatTakesTooLongIsCut(t *testing.T) {
	o := secureOptions()
	o.Handshake = 50 * time.Millisecond
	l, stats := door(t, o, 0)
	for _, begun := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01"} {
		ends(t, knock(t, l.Addr(), begun), "a handshake that is not completed in time is cut")
	}
	eventually(t, func() bool { return stats.Failed.Load() == 3 }, "handshakes that took too long are counted")
}

func TestHandshakesUnderWayAreBounded(t *testing.T) {
	o := secureOptions()
	o.Handshake = time.Second // the patience is that, at most
	l, stats := door(t, o, 2)
	began := time.Now()
	oldest, second := knock(t, l.Addr(), ""), knock(t, l.Addr(), "")
	third := tls.Client(knock(t, l.Addr(), ""), &tls.Config{RootCAs: testcert.Pool(authority), ServerName: "localhost"})
	go func() {
		if server, err := l.Accept(); err == nil {
			server.Close()
		}
	}()
	if err := third.Handshake(); err != nil {
		t.Errorf("one more than may be under way gets its turn, not %v", err)
	}
	if d := time.Since(began); d < 500*time.Millisecond {
		t.Errorf("when too many handshakes are under way the oldest has some time to complete, not %v", d)
	}
	ends(t, oldest, "the oldest makes room for one more")
	ends(t, second, "and so does the next")
	if stats.Crowded.Load()+stats.Failed.Load() < 1 {
		t.Error("handshakes that were cut are counted")
	}
}

func TestHTTPWithoutTLSIsTold(t *testing.T) {
	l, stats := door(t, secureOptions(), 0)
	c := knock(t, l.Addr(), "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", 20_000)+"\r\n\r\n")
	got, err := io.ReadAll(c)
	if string(got) != plainHTTP || err != nil {
		t.Errorf("a request without TLS is told so, as by net/http, not %q, %v", got, err)
	}
	ends(t, knock(t, l.Addr(), "nonsense without an end"), "what is neither TLS nor HTTP is cut")
	if n := stats.Failed.Load(); n != 2 {
		t.Errorf("both are handshakes that failed, not %d", n)
	}
}
