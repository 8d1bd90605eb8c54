//go:build system

package testserver

import (
	"errors"
	"net"
	"testing"
	"time"
)

func TestRedisStartsPausesAndStartsAgain(t *testing.T) {
	r, err := StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, step := range []func() error{r.Pause, r.Resume, r.Kill, r.Start, r.Stop, r.Start} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := r.Do("PING"); err != nil || out != "PONG" {
		t.Errorf("after starting again Redis answers %q, %v", out, err)
	}
}

func TestSentinelFailsOver(t *testing.T) {
	s, err := StartRedisSentinel()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Failover(); err != nil {
		t.Fatal(err)
	}
}

func TestClusterMovesASlot(t *testing.T) {
	c, err := StartRedisCluster()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	from, slot, err := c.Owner("{1}")
	if err != nil {
		t.Fatal(err)
	}
	to := (from + 1) % len(c.Servers)
	if err := c.MoveSlot(slot, to); err != nil {
		t.Fatal(err)
	}
	if now, _, err := c.Owner("{1}"); err != nil || now != to {
		t.Errorf("after moving, slot %s is at server %d (%v), want %d", slot, now, err, to)
	}
}

func TestProxyBreaksConnections(t *testing.T) {
	r, err := StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := StartProxy(r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() error {
		c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := c.Write([]byte("PING\r\n")); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 100))
		return err
	}
	if err := ask(); err != nil {
		t.Fatalf("a healthy proxy passes bytes both ways: %v", err)
	}
	p.Blackhole(true)
	err = ask()
	if silent, ok := errors.AsType[net.Error](err); !ok || !silent.Timeout() {
		t.Fatalf("a black hole is silent; the read gave %v", err)
	}
	p.Blackhole(false)
	if err := ask(); err != nil {
		t.Fatalf("after a black hole bytes pass again: %v", err)
	}
	p.Cut()
	for range 3 { // what was held back may still be read
		err = ask()
	}
	if err == nil {
		t.Error("a cut connection still answers")
	}
}
