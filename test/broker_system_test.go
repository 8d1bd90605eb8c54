//go:build system

package test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"barrage/internal/testserver"
)

// stream is numbers published into a live channel on one node, one every 20 ms, and heard on another.
type stream struct {
	stop chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	sent  int // acknowledged
	heard int // the last one heard
	wrong []string
}

// startStream needs liveSpace.
func startStream(t *testing.T, from, to *testserver.Node) *stream {
	t.Helper()
	s := &stream{stop: make(chan struct{})}
	publisher, _ := join(t, from.URL(), "live:numbers", "echo=0")
	reader, _ := join(t, to.URL(), "live:numbers")
	s.done.Go(func() { s.publish(publisher) })
	s.done.Go(func() { s.read(reader) })
	t.Cleanup(func() {
		close(s.stop)
		publisher.Close()
		reader.Close()
		s.done.Wait()
		for _, wrong := range s.wrong {
			t.Error(wrong)
		}
	})
	s.crosses(t, "at first")
	return s
}

func (s *stream) publish(c *Client) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		err := c.Send(fmt.Sprintf(`{"publish":{"data":%d}}`, n))
		var l Line
		if err == nil {
			l, err = c.Next(defaultWait)
		}
		if s.ended() {
			return
		}
		if err != nil || l.Ack == nil {
			s.complain("a live publish is acknowledged, with Redis or without: got %s, %v", l.Text, err)
			return
		}
		s.mu.Lock()
		s.sent = n
		s.mu.Unlock()
	}
}

func (s *stream) read(c *Client) {
	for {
		l, err := c.Next(30 * time.Second)
		if s.ended() {
			return
		}
		if err != nil || l.Message == nil {
			s.complain("a member of a live channel stays, whatever Redis does: got %s, %v", l.Text, err)
			return
		}
		n, err := strconv.Atoi(string(l.Message.Data))
		s.mu.Lock()
		last := s.heard
		s.heard = n
		s.mu.Unlock()
		if err != nil || n <= last {
			s.complain("live messages may be lost, and are never repeated or out of order: %d came after %d", n, last)
		}
	}
}

func (s *stream) ended() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func (s *stream) complain(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

// crosses waits until a number that is published from now on is heard.
func (s *stream) crosses(t *testing.T, when string) {
	t.Helper()
	s.mu.Lock()
	from := s.sent
	s.mu.Unlock()
	eventually(t, 15*time.Second, "live messages reach the other node "+when, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.heard > from+1
	})
}

// sizes are what a node has in memory.
type sizes struct{ goroutines, heap float64 }

func measure(t *testing.T, c *testserver.NodeCluster) []sizes {
	t.Helper()
	var all []sizes
	for _, n := range c.Nodes {
		all = append(all, sizes{metric(t, n, "go_goroutines"), metric(t, n, "go_memstats_heap_inuse_bytes")})
	}
	return all
}

// bounded checks that no node has grown by more than what a bounded queue of this load explains.
func bounded(t *testing.T, c *testserver.NodeCluster, before []sizes, when string) {
	t.Helper()
	for i, now := range measure(t, c) {
		if now.goroutines > before[i].goroutines+25 || now.heap > before[i].heap+32<<20 {
			t.Errorf("%s node %s has %.0f goroutines and %.1f MB, not much more than before: %.0f and %.1f MB", when, c.Nodes[i].Name(),
				now.goroutines, now.heap/1e6, before[i].goroutines, before[i].heap/1e6)
		}
	}
}
