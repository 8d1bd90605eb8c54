package redis

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
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

// startRude listens and ends every connection at once. attempts counts them.
func startRude(t *testing.T) (addr string, attempts *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	attempts = new(atomic.Int64)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			attempts.Add(1)
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String(), attempts
}

func TestRedisAwayAtStart(t *testing.T) {
	addr, attempts := startRude(t)
	for _, url := range schemesWithout(addr) {
		heard, log := brokertest.NewRecorder(), &logText{}
		o := Options{Handler: heard, Logger: slog.New(slog.NewTextHandler(log, nil)), BackoffMin: 1, BackoffMax: time.Millisecond}
		b, err := Open(url, o)
		if err != nil {
			t.Fatalf("Open needs no server; it gave %v", err)
		}
		b.Subscribe("room")
		if err := b.Publish("room", []byte("x")); !errors.Is(err, broker.ErrDown) {
			t.Errorf("publishing without a server gives %v, want ErrDown", err)
		}
		enough := attempts.Load() + 20
		await(t, "it goes on trying to connect", func() bool { return attempts.Load() > enough })
		closeWithin(t, b, 2*time.Second)
		if s := heard.States(); len(s) != 1 || s[0].Up || !strings.Contains(s[0].Detail, addr) {
			t.Errorf("announced %+v; want once that there is no connection to %s", s, addr)
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
