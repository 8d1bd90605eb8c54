//go:build system

package security

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"barrage/internal/testcert"
	"barrage/internal/testserver"
)

func init() { atEnd = append(atEnd, testserver.RemoveBinary) }

// process starts a node as users do.
func process(t *testing.T, o testserver.NodeOptions) *testserver.Node {
	t.Helper()
	n, err := testserver.StartNode(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	dir := t.TempDir()
	authority := testcert.New(7)
	cert, key, err := authority.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range []string{"auto", "portable"} {
		n := process(t, testserver.NodeOptions{
			Journal: "memory:", TLS: testcert.Client(authority), Args: []string{"--tls-cert", cert, "--tls-key", key, "--engine", engine},
		})
		addr := strings.TrimPrefix(n.URL(), "https://")
		for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			config := testcert.Client(authority)
			config.MinVersion, config.MaxVersion = version, version
			c, err := tls.Dial("tcp", addr, config)
			if err == nil {
				c.Close()
			}
			if (err == nil) != good {
				t.Errorf("%s on the engine %s: %v", tls.VersionName(version), engine, err)
			}
		}
		plain, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		if _, err := io.WriteString(plain, "GET /ws/room HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(plain)
		if err != nil || strings.Contains(string(answer), "101 Switching") {
			t.Errorf("without TLS nothing is upgraded where there is TLS: %q, %v", answer, err)
		}
	}
}

func TestANodeWithoutAuthenticationAnswersToItsMachinesNamesOnly(t *testing.T) {
	for _, engine := range []string{"auto", "portable"} {
		n := process(t, testserver.NodeOptions{
			Journal: "memory:", Args: []string{"--engine", engine, "--debug-endpoints"}, Env: []string{"BARRAGE_API_KEYS=ops:admin:" + apiKeys["admin"]},
		})
		w := &world{t: t}
		for _, path := range append([]string{"/", "/assets/room.js", "/metrics", "/debug/pprof/heap", "/api", "/api/docs", "/api/publish"}, entrances...) {
			w.refusedAs(n.URL(), path)
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "node1.internal"
			resp := w.do(r)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s may be asked by every name, not %s", path, resp.Status)
			}
		}
		if resp := w.callAs(n.URL(), "/sse/room", "localhost", false)[0]; resp.StatusCode != http.StatusOK {
			t.Errorf("a page of localhost may listen, not %s", resp.Status)
		}
		if !strings.Contains(n.Logs(), "evil.example") {
			t.Errorf("the log says why clients are refused:\n%s", n.Logs())
		}
	}
}

func TestANodeIsClosedByDefault(t *testing.T) {
	config := filepath.Join(t.TempDir(), "barrage.yaml")
	settings := fmt.Sprintf("journal: 'memory:'\nauth: {secret: [%s]}\napi: {keys: ['ops:admin:%s']}\n", secret, apiKeys["admin"])
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	n := process(t, testserver.NodeOptions{Args: []string{"--config", config}, Env: []string{"BARRAGE_LOG_LEVEL=debug"}})
	token := tokenOf(t, "alice")
	_, signature, _ := strings.Cut(token, ".")
	told := ""
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/api", "/api/publish", "/echo", "/debug/pprof/", "/sse/room?token=" + token, "/ws/room?token=" + token} {
		resp, err := http.Get(n.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		told += string(b)
		if open := resp.StatusCode == http.StatusOK; open && (strings.HasPrefix(path, "/sse") || strings.HasPrefix(path, "/debug") || path == "/echo") {
			t.Errorf("%s is not open by default: %s", path, resp.Status)
		}
	}
	c, _, err := websocket.DefaultDialer.Dial(strings.Replace(n.URL(), "http", "ws", 1)+"/ws/room", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	closing := (*websocket.CloseError)(nil)
	if _, _, err := c.ReadMessage(); !errors.As(err, &closing) || closing.Code != 3507 {
		t.Errorf("a user with a good token may join no channel that no setting opens: 3507, not %v", err)
	}
	for _, part := range []string{signature, secret, apiKeys["admin"]} {
		if strings.Contains(told, part) || strings.Contains(n.Logs(), part) {
			t.Errorf("a secret stands in an answer or a log:\n%s\n%s", told, n.Logs())
		}
	}
}
