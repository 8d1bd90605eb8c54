//go:build system

package test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"barrage/internal/testcert"
	"barrage/internal/testserver"
)

// Two nodes whose database has a standby, all by TLS, with passwords and certificates: as docs/databases.md says.
func TestSecureServers(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{
		Nodes: 2, Standby: true, Secure: true, Env: []string{liveSpace, "BARRAGE_LOG_LEVEL=debug"},
	})
	t.Run("what is wrong is told", func(t *testing.T) { whatIsWrongIsTold(t, c) })
	t.Run("the database fails over under load", func(t *testing.T) { failOver(t, c) })
	for _, n := range c.Nodes {
		secret(t, n.Logs())
	}
}

// secret checks that a log or an answer does not tell the password.
func secret(t *testing.T, text string) {
	t.Helper()
	for _, form := range []string{testserver.Secret, url.PathEscape(testserver.Secret), url.QueryEscape(testserver.Secret), "be@told", "to:be", "wrong-word"} {
		if strings.Contains(text, form) {
			t.Errorf("no password is told:\n%s", text)
		}
	}
}

func whatIsWrongIsTold(t *testing.T, c *testserver.NodeCluster) {
	other, _, err := testcert.New(9).Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	database, broker := c.Postgres.URL(), c.Redis.URL()
	replace := strings.NewReplacer
	password := url.UserPassword("x", testserver.Secret).String()[len("x:"):]
	ca := func(text, name string) string { // with the other authority
		before, after, _ := strings.Cut(text, name+"=")
		_, rest, _ := strings.Cut(after, "&")
		return before + name + "=" + other + "&" + rest
	}
	for _, wrong := range []struct {
		journal, broker string
		code            int
		words           []string
	}{
		{ca(database, "sslrootcert"), broker, 1, []string{"certificate is not trusted", "sslrootcert"}},
		{replace(password, "wrong-word").Replace(database), broker, 1, []string{"check user and password"}},
		{replace(password, "to:be@told").Replace(database), broker, 2, []string{"journal", "%40"}},
		{replace("sslrootcert=", "sslrootcert=/nowhere").Replace(database), broker, 2, []string{"/nowhere", "CA file"}},
		{database, replace("tls_ca=", "tls_ca=/nowhere").Replace(broker), 2, []string{"/nowhere", "tls_ca"}},
		{database, replace(password, "to/be@told").Replace(broker), 2, []string{"broker", "percent-encoded"}},
	} {
		code, output := serve(t, "serve", "--log-level", "debug", "--listen", "127.0.0.1:0", "--journal", wrong.journal, "--broker", wrong.broker)
		if code != wrong.code {
			t.Errorf("starting with %v ends with exit code %d: got %d", wrong.words, wrong.code, code)
		}
		oneSentence(t, output, wrong.words...)
		if strings.Contains(output, "--ca") {
			t.Errorf("no flag is advised that serve does not have:\n%s", output)
		}
		secret(t, output)
	}
	// Without its broker a node starts; what is wrong is in its log.
	for url, word := range map[string]string{
		ca(broker, "tls_ca"):                            "tls_ca",
		replace(password, "wrong-word").Replace(broker): "WRONGPASS",
	} {
		n := startNode(t, testserver.NodeOptions{Journal: database, Broker: url, Args: []string{"--log-level", "debug"}})
		eventually(t, 10*time.Second, "the log says what is wrong with the broker", func() bool { return strings.Contains(n.Logs(), word) })
		secret(t, n.Logs()+readyDetails(t, n))
	}
}

func failOver(t *testing.T, c *testserver.NodeCluster) {
	l := startLoad(t, c, "room")
	live := startStream(t, c.Nodes[0], c.Nodes[1])
	crashed := time.Now()
	if err := c.Postgres.Crash(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "a node whose database takes no writes says so by /readyz", func() bool {
		err := c.Nodes[0].Ready()
		return err != nil && strings.Contains(err.Error(), "503")
	})
	live.crosses(t, "while no database takes writes")
	if err := c.Standby.Promote(); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	l.acknowledge(t, 1)
	t.Logf("promoted %s after the crash; publishes were acknowledged %s later", promoted.Sub(crashed), time.Since(promoted))
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
	live.crosses(t, "after Redis was restarted, over TLS")
	l.acknowledge(t, 100)
	l.finish(t)
	for _, s := range l.subscribers {
		if n, _, _ := s.Reconnects(); n > 0 {
			t.Errorf("no client loses its connection because the database fails over: %s came back %d times", s.Book().name, n)
		}
	}
}
