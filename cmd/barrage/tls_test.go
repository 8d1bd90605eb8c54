package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"barrage/internal/testcert"
)

// serveTLS starts a node with a certificate in dir.
func serveTLS(t *testing.T, dir string, args ...string) (s *served, ca string) {
	t.Helper()
	cert, key, err := testcert.New(1).Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, append([]string{"--journal", "memory:", "--tls-cert", cert, "--tls-key", key}, args...)...), cert
}

// serial is the serial number of the certificate that a new connection is shown.
func (s *served) serial() int64 {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		s.t.Fatalf("a TLS handshake succeeds: %v", err)
	}
	defer c.Close()
	if got := c.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		s.t.Errorf("HTTP/1.1 is chosen, which WebSocket needs, not %q", got)
	}
	return testcert.Serial(c.ConnectionState())
}

func TestServeOverTLS(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"auto", "portable"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, ca := serveTLS(t, dir, "--engine", engine)
			for _, want := range []string{"https://" + s.addr + "/\n", "wss://" + s.addr + "/raw/lobby", "wss://" + s.addr + "/ws/lobby", "https://" + s.addr + "/metrics"} {
				if !strings.Contains(s.hello, want) {
					t.Errorf("a node with TLS prints %s, not\n%s", want, s.hello)
				}
			}
			trust := &tls.Config{RootCAs: testcert.Pool(testcert.Pair{Cert: file(t, ca)})}
			browser := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}}
			defer browser.CloseIdleConnections()
			for path, want := range map[string]int{"/": 200, "/healthz": 200, "/metrics": 200, "/nowhere": 404, "/ws/room": 426} {
				resp, err := browser.Get("https://" + s.addr + path)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("GET %s over TLS is answered with %d, not %d", path, want, resp.StatusCode)
				}
				if path == "/metrics" && !regexp.MustCompile(`barrage_tls_certificate_expiry_timestamp_seconds 1\.`).Match(body) {
					t.Error("/metrics tells when the certificate expires")
				}
			}
			if status, body := s.get("/healthz"); status != 400 || body != "Client sent an HTTP request to an HTTPS server.\n" {
				t.Errorf("a request without TLS is answered with 400 and why, not with %d %q", status, body)
			}
			dialer := websocket.Dialer{TLSClientConfig: trust}
			c, _, err := dialer.Dial("wss://"+s.addr+"/raw/room", nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			echo(t, c, "before")
			s.renew(dir)
			echo(t, c, "after")
			s.stop(c)
		})
	}
}

// renew replaces the certificate, first by a pair that does not belong together.
func (s *served) renew(dir string) {
	s.t.Helper()
	two := testcert.New(2)
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), two.Cert, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if got := s.serial(); got != 1 {
		s.t.Errorf("half a pair leaves the certificate before it in use, not %d", got)
	}
	if _, _, err := two.Write(dir); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); s.serial() != 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("new connections get the new certificate within seconds")
		}
	}
}

func echo(t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); got != text {
		t.Errorf("a text comes back over TLS, not %q", got)
	}
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The commands trust the system's authorities, and those of --ca.
func TestCommandsOverTLS(t *testing.T) {
	t.Parallel()
	s, ca := serveTLS(t, t.TempDir())
	url := "wss://" + s.addr
	run := func(want int, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := command(t, args...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		defer stop()
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("barrage %v ends with %d, not %d: %s", args, want, code, out.String())
		}
		return out.String()
	}
	if out := run(0, "pub", "--url", url, "--ca", ca, "-v", "room", "hello"); out != "1\n" {
		t.Errorf("pub publishes over TLS, and says %q", out)
	}
	if out := run(0, "sub", "--url", url, "--ca", ca, "-q", "--since", "0", "--count", "1", "room"); out != "hello\n" {
		t.Errorf("sub follows over TLS, and says %q", out)
	}
	if out := run(3, "pub", "--url", url, "--timeout", "5s", "room", "hello"); !strings.Contains(out, "certificate") || !strings.Contains(out, "--ca") {
		t.Errorf("a certificate of an unknown authority is refused, with what to do: %q", out)
	}
	for path, says := range map[string]string{filepath.Join(t.TempDir(), "none"): "cannot be read", filepath.Join(filepath.Dir(ca), "key.pem"): "holds no certificate"} {
		if out := run(2, "pub", "--url", url, "--ca", path, "room", "hello"); !strings.Contains(out, says) || !strings.Contains(out, ";") {
			t.Errorf("--ca %s is an error that says what to do, not %q", path, out)
		}
	}
}

func TestServeRefusesCertificatesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	one, two := t.TempDir(), t.TempDir()
	cert, key, err := testcert.New(1).Write(one)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := testcert.New(2).Write(two)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		says string
		args []string
	}{
		{"tls.key: it is missing", []string{"--tls-cert", cert}},
		{"tls.cert: it is missing", []string{"--tls-key", key}},
		{"does not exist; give", []string{"--tls-cert", cert + "x", "--tls-key", key}},
		{"private key does not match", []string{"--tls-cert", cert, "--tls-key", other}},
		{"--open", []string{"--listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key}}, // TLS is no authentication
	} {
		args := append([]string{"--journal", "memory:"}, tt.args...)
		if code, sentence := refusal(t, args...); code != 2 || !strings.Contains(sentence, tt.says) {
			t.Errorf("serve %v ends with 2 and says %q, not %d and %q", tt.args, tt.says, code, sentence)
		}
		check := command(t, append([]string{"config", "check"}, args...)...)
		if out, _ := check.CombinedOutput(); check.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), tt.says) {
			t.Errorf("config check %v says %q too, not %q", tt.args, tt.says, out)
		}
	}
}
