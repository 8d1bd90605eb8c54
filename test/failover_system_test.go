//go:build system

package test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
)

// The whole way by TLS, with passwords and certificates, as docs/databases.md says.
func TestTheDatabaseFailsOverUnderLoad(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{Nodes: 2, Standby: true, Secure: true})
	l := startLoad(t, c, "room")
	crashed := time.Now()
	if err := c.Postgres.Crash(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "a node whose database takes no writes says so by /readyz", func() bool {
		err := c.Nodes[0].Ready()
		return err != nil && strings.Contains(err.Error(), "503")
	})
	promoting := time.Now()
	if err := c.Standby.Promote(); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	l.acknowledge(t, 1)
	t.Logf("crash to promotion %s, promotion %s, until the first acknowledgement after it %s", promoting.Sub(crashed), promoted.Sub(promoting), time.Since(promoted))
	for _, n := range c.Nodes {
		if err := n.WaitReady(10 * time.Second); err != nil {
			t.Fatalf("a node is ready again once a server takes writes: %v", err)
		}
	}
	l.acknowledge(t, 100)
	if err := c.Redis.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Redis.Start(); err != nil {
		t.Fatal(err)
	}
	l.acknowledge(t, 100)
	l.finish(t)
	for _, s := range l.subscribers {
		if n, _, _ := s.Reconnects(); n > 0 {
			t.Errorf("no client loses its connection because the database fails over: %s came back %d times", s.Book().name, n)
		}
	}
	for _, n := range c.Nodes {
		for _, secret := range []string{testserver.Secret, url.PathEscape(testserver.Secret), url.QueryEscape(testserver.Secret)} {
			if strings.Contains(n.Logs(), secret) {
				t.Errorf("the log of node %s tells the password:\n%s", n.Name(), n.Logs())
			}
		}
	}
}
