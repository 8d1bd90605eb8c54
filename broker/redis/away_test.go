package redis

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/broker"
	"barrage/broker/brokertest"
	"barrage/internal/testserver"
)

// schemesWithout are broker URLs for servers at addr.
func schemesWithout(addr string) []string {
	return []string{
		"redis://u:hidden@" + addr,
		"redis-sentinel://u:hidden@" + addr + "/main?sentinel_password=hidden",
		"redis-cluster://u:hidden@" + addr,
	}
}

// logText collects what is logged; it may be read while that goes on.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestRedisAwayAtStart(t *testing.T) {
	for _, url := range schemesWithout("127.0.0.1:1") {
		heard, log := brokertest.NewRecorder(), &logText{}
		o := Options{Handler: heard, Logger: slog.New(slog.NewTextHandler(log, nil)), BackoffMax: time.Millisecond}
		b, err := Open(url, o)
		if err != nil {
			t.Fatalf("Open needs no server; it gave %v", err)
		}
		b.Subscribe("room")
		if err := b.Publish("room", []byte("x")); !errors.Is(err, broker.ErrDown) {
			t.Errorf("publishing without a server gives %v, want ErrDown", err)
		}
		await(t, "the handler hears that the broker is down", func() bool { return len(heard.States()) > 0 })
		time.Sleep(50 * time.Millisecond) // for some more attempts, which must not be logged
		closeWithin(t, b, 2*time.Second)
		if s := heard.States(); len(s) != 1 || s[0].Up || !strings.Contains(s[0].Detail, "connection refused") {
			t.Errorf("announced %+v; want once that the connection was refused", s)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("many attempts wrote %d lines to the log, want 1:\n%s", n, log)
		}
		if all := log.String() + heard.State().Detail; strings.Contains(all, "hidden") {
			t.Errorf("the password is shown: %s", all)
		}
	}
}

func TestCloseIsPromptWhileTheServerIsSilent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, url := range schemesWithout(silent.Addr().String()) {
		b, err := Open(url, Options{})
		if err != nil {
			t.Fatal(err)
		}
		b.Subscribe("room")
		c, err := silent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		closeWithin(t, b, time.Second)
	}
}

func TestASilentServerIsNoticed(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody says anything
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	proxy, err := testserver.StartProxy(silent.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	heard := brokertest.NewRecorder()
	b, err := Open("redis://"+proxy.Addr(), Options{Handler: heard, ProbeEvery: 10 * time.Millisecond, ProbeTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a server that never answers is announced as down", func() bool { return len(heard.States()) > 0 })
	closeWithin(t, b, 2*time.Second)
}
