//go:build system

package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
	"barrage/journal"
)

// startPair starts a server with a standby that it waits for; lost makes the first one fall silent, as a machine does that loses its
// power: no connection ends.
func startPair(t *testing.T) (primary, standby *testserver.Postgres, url string, lost func()) {
	t.Helper()
	primary, err := testserver.StartPostgresWith(testserver.PostgresOptions{Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = primary.Close() })
	if standby, err = primary.StartStandby(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Close() })
	proxy, err := testserver.StartProxy(primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	return primary, standby, strings.Replace(primary.URLWith(standby), primary.Addr(), proxy.Addr(), 1), func() { proxy.Blackhole(true) }
}

func TestAMachineThatIsLostIsGivenUp(t *testing.T) {
	primary, standby, url, lost := startPair(t)
	j := open(t, url)
	w := journal.NewWriter(j, journal.WriterOptions{})
	defer w.Close(t.Context())
	publishUntilStored(t, w, "before", func(string) {})
	// All connections are used once.
	done := make(chan error, 20)
	for range cap(done) {
		go func() { _, err := j.Heads(t.Context(), []string{"a"}); done <- err }()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	lost()
	if err := errors.Join(primary.Crash(), standby.Promote()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	reads := make(chan time.Duration)
	go func() {
		for {
			if _, err := j.Heads(t.Context(), []string{"a"}); err == nil {
				reads <- time.Since(start)
				return
			}
		}
	}()
	at := publishUntilStored(t, w, "after", func(s string) { t.Log(time.Since(start), s) })
	t.Log("stored after", time.Since(start), at, "read after", <-reads)
}
