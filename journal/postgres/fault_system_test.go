//go:build system

package postgres_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"barrage/journal"
)

// relay passes connections on to the server. When cut is set, what the server answers is thrown away and
// the connection closed instead.
type relay struct {
	listener net.Listener
	cut      atomic.Bool
	work     sync.WaitGroup
}

func startRelay(t *testing.T, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l}
	t.Cleanup(func() {
		_ = l.Close()
		r.work.Wait()
	})
	r.work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			r.work.Go(func() {
				_, _ = io.Copy(upstream, client)
				_ = upstream.Close()
			})
			r.work.Go(func() { r.answer(client, upstream) })
		}
	})
	return r
}

func (r *relay) answer(client, upstream net.Conn) {
	defer client.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buffer)
		if err != nil || r.cut.Load() {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestALostAnswerIsUncertainAndTheRetryIsStoredOnce(t *testing.T) {
	r := startRelay(t, server.Addr())
	j := open(t, strings.Replace(fresh(t), server.Addr(), r.listener.Addr().String(), 1))
	if _, err := j.Append(t.Context(), draft("first")); err != nil {
		t.Fatal(err)
	}
	r.cut.Store(true)
	_, err := j.Append(t.Context(), draft("k"))
	if !errors.Is(err, journal.ErrUncertain) || errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("an append whose answer is lost must be uncertain and not unavailable, not %v", err)
	}
	r.cut.Store(false)
	a, err := j.Append(t.Context(), draft("k"))
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Stored[0]; !got.Repeated || got.Offset != 2 {
		t.Errorf("the same key again must find the message at offset 2, not %+v", got)
	}
}

func TestAHungDatabaseTurnsIntoErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	j := open(t, "postgres://nobody@"+l.Addr().String()+"/none?sslmode=disable")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := j.Append(ctx, draft("")); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("append to a database that does not answer must be unavailable, not %v", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("append must keep to its context, but took %s", took)
	}
}

func TestALockedChannelDoesNotHoldUpReads(t *testing.T) {
	url := fresh(t)
	j := open(t, url)
	if _, err := j.Append(t.Context(), draft("")); err != nil {
		t.Fatal(err)
	}
	unlock := lockChannel(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := j.Append(ctx, draft("")); !errors.Is(err, journal.ErrUncertain) {
		t.Errorf("an append that times out while the server works on it must be uncertain, not %v", err)
	}
	if p, err := j.Read(t.Context(), "a", journal.Range{}); err != nil || p.Head != 1 {
		t.Errorf("a read must not wait for a lock and give head 1, not %d, %v", p.Head, err)
	}
	unlock()
	if _, err := j.Append(t.Context(), draft("")); err != nil {
		t.Errorf("once the lock is gone appends must work: %v", err)
	}
}
