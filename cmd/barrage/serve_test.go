package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	_ "modernc.org/sqlite"

	"barrage/internal/testserver"
)

// served is a running "barrage serve".
type served struct {
	t      *testing.T
	cmd    *exec.Cmd
	addr   string
	hello  string // what it printed
	stderr bytes.Buffer
}

// serve starts a node and waits until it has printed its addresses.
func serve(t *testing.T, args ...string) *served {
	t.Helper()
	s := &served{t: t, cmd: command(t, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)}
	s.cmd.Stderr = &s.stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		s.hello += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "broker  ") {
			break
		}
	}
	found := regexp.MustCompile(`live room +https?://(.*)/\n`).FindStringSubmatch(s.hello)
	if found == nil {
		_ = s.cmd.Wait()
		t.Fatalf("serve prints its addresses, not %q, %q", s.hello, s.stderr.String())
	}
	s.addr = found[1]
	return s
}

// stop sends SIGTERM and demands that the node closes its clients with 3001 and ends with 0.
func (s *served) stop(clients ...*websocket.Conn) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range clients {
		if _, b, err := c.ReadMessage(); !websocket.IsCloseError(err, 3001) {
			s.t.Errorf("SIGTERM closes clients with 3001, not with %s, %v", b, err)
		}
		c.Close()
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("SIGTERM ends a node with exit code 0, not %v, and it says\n%s", err, s.stderr.String())
	}
}

func (s *served) get(path string) (status int, body string) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.addr + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (s *served) dial(path string) *websocket.Conn {
	s.t.Helper()
	c, _, err := websocket.DefaultDialer.Dial("ws://"+s.addr+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	return c
}

func read(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	_, b, err := c.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// refusal runs a serve that must fail at once with one sentence.
func refusal(t *testing.T, args ...string) (code int, sentence string) {
	t.Helper()
	cmd := command(t, append([]string{"serve"}, args...)...)
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	sentence = stderr.String()
	if stdout.Len() > 0 || strings.Count(sentence, "\n") != 1 || !strings.HasPrefix(sentence, "barrage: ") || !strings.Contains(sentence, ";") {
		t.Errorf("serve %v must say in one sentence what is wrong and what to do, not\n%s%s", args, stdout.String(), sentence)
	}
	return cmd.ProcessState.ExitCode(), sentence
}

func TestServePrintsItsAddressesAndKeepsItsHistory(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "new", "data")
	s := serve(t, "--name", "first", "--data", data)
	for _, want := range []string{"barrage is ready: node first", "http://" + s.addr + "/\n", "ws://" + s.addr + "/raw/", "ws://" + s.addr + "/ws/", "/healthz", "/readyz", "/metrics", "sqlite:" + data, "local:"} {
		if !strings.Contains(s.hello, want) {
			t.Errorf("serve prints %s, not only\n%s", want, s.hello)
		}
	}
	for path, want := range map[string]int{"/": 200, "/healthz": 200, "/metrics": 200, "/nowhere": 404, "/ws/room": 426, "/echo": 404, "/debug/pprof/": 404} {
		if status, _ := s.get(path); status != want {
			t.Errorf("GET %s is answered with %d, not %d", path, want, status)
		}
	}
	odd := s.dial("/ws/a//..//b")
	if !strings.Contains(read(t, odd), `"channel":"a//..//b"`) {
		t.Error("the name of a channel is taken as it is, not cleaned as a path")
	}
	c := s.dial("/raw/room")
	for _, text := range []string{"one", "two"} {
		if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, c); got != text {
			t.Errorf("a text comes back, not %q", got)
		}
	}
	s.stop(odd, c)
	again := serve(t, "--data", data)
	if c = again.dial("/raw/room?since=0"); read(t, c)+read(t, c) != "onetwo" {
		t.Error("stopping and starting again keeps the history")
	}
	again.stop(c)
}

func TestServeNegotiatesCompressionWhenToldTo(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"": nil, "permessage-deflate; server_no_context_takeover; client_no_context_takeover": {"--compression", "--compression-threshold", "10B"},
	} {
		s := serve(t, append(args, "--journal", "memory:")...)
		d := websocket.Dialer{EnableCompression: true}
		c, resp, err := d.Dial("ws://"+s.addr+"/raw/room", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != want {
			t.Errorf("serve %v answers an offer of compression with %q, not %q", args, want, got)
		}
		text := strings.Repeat("hello ", 100)
		if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil || read(t, c) != text {
			t.Errorf("a text comes back: %v", err)
		}
		compressed := strings.Contains(metric(s, "barrage_compressed_total"), " 1\n") && strings.Contains(metric(s, "barrage_received_compressed_total"), " 1\n")
		if compressed != (want != "") {
			t.Errorf("serve %v compresses: %v", args, compressed)
		}
		s.stop(c)
	}
}

// metric is the line of /metrics with the value of a metric.
func metric(s *served, name string) string {
	_, body := s.get("/metrics")
	return regexp.MustCompile(`(?m)^` + name + ` .*\n`).FindString(body)
}

// The settings decide which channels are live: nothing of those is stored.
func TestServeHasLiveChannels(t *testing.T) {
	t.Parallel()
	s := serve(t, "--journal", "memory:", "--namespaces", "live:class=live,merge=50ms")
	raw, ws := s.dial("/raw/live:room?since=0"), s.dial("/ws/live:room?last=5")
	if got := read(t, ws); !strings.Contains(got, `"channel":"live:room","live":true,`) {
		t.Errorf("the welcome of a live channel says that it is live, not %s", got)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"publish":{"data":"hello","id":"k"}}`)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, raw); got != "hello" {
		t.Errorf("a live message arrives, not %q", got)
	}
	lines := read(t, ws) + read(t, ws)
	if !strings.Contains(lines, `{"ack":{"id":"k","live":true}}`) || !strings.Contains(lines, `"data":"hello"`) || strings.Contains(lines, "offset") {
		t.Errorf("a publish is acknowledged and comes back without an offset, not as %s", lines)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"history":{"id":"h"}}`)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, ws); !strings.Contains(got, `{"error":{"code":108,`) || !strings.Contains(got, `"retry":false`) {
		t.Errorf("a live channel has no history, and says so, not %s", got)
	}
	durable := s.dial("/ws/room")
	if got := read(t, durable); !strings.Contains(got, `"offset":0`) {
		t.Errorf("other channels are durable, not %s", got)
	}
	s.stop(raw, ws, durable)
}

func TestServeRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		locked = "/sys" // where even root cannot create files
	}
	foreign := filepath.Join(dir, "foreign.db")
	execute(t, foreign, "CREATE TABLE messages (x)")
	newer := filepath.Join(dir, "newer")
	serve(t, "--data", newer).stop()
	execute(t, filepath.Join(newer, "journal.db"), "UPDATE meta SET value = '999' WHERE name = 'schema'")
	used := filepath.Join(dir, "used")
	serve(t, "--data", used)

	free := "127.0.0.1:0"
	for _, tt := range []struct {
		name string
		code int
		says string
		args []string
	}{
		{"a port in use", 1, "address already in use; stop what uses it", []string{"--listen", busy.Addr().String(), "--journal", "memory:"}},
		{"an address of another machine", 1, "this machine does not have that address", []string{"--listen", "192.0.2.1:0", "--open", "--journal", "memory:"}},
		{"a data folder that is a file", 1, "data folder cannot be made", []string{"--listen", free, "--data", file}},
		{"a data folder below a file", 1, "data folder cannot be made", []string{"--listen", free, "--data", filepath.Join(file, "x")}},
		{"a data folder that is not writable", 1, "not writable", []string{"--listen", free, "--data", locked}},
		{"a second process on a file", 1, "in use by another process; stop it", []string{"--listen", free, "--data", used}},
		{"a newer schema", 1, "use the newer barrage", []string{"--listen", free, "--data", newer}},
		{"another program's file", 1, "not a journal of barrage", []string{"--listen", free, "--journal", "sqlite:" + foreign}},
		{"a folder that is missing", 1, "does not exist; create it", []string{"--listen", free, "--journal", "sqlite:" + filepath.Join(dir, "no", "x.db")}},
		{"an unknown journal", 2, "is not a journal; give memory:", []string{"--listen", free, "--journal", "mysql://h/x"}},
		{"a bad parameter of a journal", 2, "the only one is synchronous", []string{"--listen", free, "--journal", "sqlite:x.db?mode=ro"}},
		{"a bad parameter of a broker", 2, "is unknown; known are", []string{"--listen", free, "--journal", "postgres://127.0.0.1:1/x", "--log-level", "error", "--broker", "redis://127.0.0.1:1?x=1"}},
		{"a network broker without a shared journal", 2, "the journal must be shared", []string{"--listen", free, "--broker", "redis://127.0.0.1:1"}},
		{"the network without a key", 2, "--open", []string{"--listen", "0.0.0.0:0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, sentence := refusal(t, tt.args...); code != tt.code || !strings.Contains(sentence, tt.says) {
				t.Errorf("%s ends with exit code %d and says %q, not %d and %q", tt.name, tt.code, tt.says, code, sentence)
			}
		})
	}
}

// execute runs SQL on a SQLite file.
func execute(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// nobody is an address on which nothing listens while the test runs.
func nobody(t *testing.T) string {
	t.Helper()
	addr, release, err := testserver.Nobody()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return addr
}

// ready waits for an answer of /readyz.
func (s *served) ready(status int, mode string) (detail string) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		got, body := s.get("/readyz")
		var a struct {
			Mode    string
			Journal struct{ Detail string }
			Broker  struct{ Detail string }
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			s.t.Fatalf("/readyz is JSON: %v", err)
		}
		if got == status && a.Mode == mode && a.Journal.Detail != "not asked yet" {
			return a.Journal.Detail + " " + a.Broker.Detail
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("/readyz must say %d and %s, not %d %s", status, mode, got, body)
		}
	}
}

func TestServeStartsWithoutPostgreSQL(t *testing.T) {
	t.Parallel()
	addr := nobody(t)
	s := serve(t, "--journal", fmt.Sprintf("postgres://ann:s3cret@%s/x", addr))
	if detail := s.ready(503, "journal away"); !strings.Contains(detail, "does not answer") || strings.Contains(detail, addr) {
		t.Errorf("/readyz says that the journal does not answer, and not where it is: %s", detail)
	}
	if status, _ := s.get("/healthz"); status != 200 {
		t.Error("a node without its journal is alive")
	}
	s.stop() // how clients wait for the journal is tested with the build tag system
	if text := s.hello + s.stderr.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "the journal does not answer yet") || !strings.Contains(text, "barrage listens, and will be ready when its journal answers") || !strings.Contains(text, addr) {
		t.Errorf("the log says that the journal does not answer, and where, and no password, not\n%s", text)
	}
}

func TestServeStartsWithoutRedis(t *testing.T) {
	t.Parallel()
	// The journal that would be shared is away too, which is told first.
	s := serve(t, "--journal", "postgres://"+nobody(t)+"/x", "--broker", "redis://:s3cret@"+nobody(t))
	if detail := s.ready(503, "journal away"); strings.Contains(detail, "refused") {
		t.Errorf("/readyz leaves what is wrong to the log, not %s", detail)
	}
	if _, body := s.get("/readyz"); !strings.Contains(body, `"broker":{"ok":false,"detail":"`) {
		t.Errorf("/readyz says that the broker is away, not %s", body)
	}
	s.stop()
	if text := s.hello + s.stderr.String(); strings.Contains(text, "s3cret") {
		t.Errorf("no password is printed:\n%s", text)
	}
}

// A request whose body never comes does not hold its connection for ever.
func TestHandshakesHaveADeadline(t *testing.T) {
	t.Parallel()
	s := serve(t, "--journal", "memory:", "--limits-handshake", "1s")
	for _, begun := range []string{"", "GET /ws/room HTT", "POST /ws/room HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, begun); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("a request that is never complete, %q, ends with its deadline, not with %v", begun, err)
		}
		c.Close()
	}
	c := s.dial("/raw/room") // and the deadline is over once the handshake is complete
	time.Sleep(1200 * time.Millisecond)
	if err := c.WriteMessage(websocket.TextMessage, []byte("late")); err != nil || read(t, c) != "late" {
		t.Errorf("a connection that was opened in time stays: %v", err)
	}
	s.stop(c)
}

func TestServeOpensItsDebugEndpointsOnRequest(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"auto", "portable"} {
		s := serve(t, "--journal", "memory:", "--debug-endpoints", "--engine", engine)
		for path, want := range map[string]int{"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/debug/pprof/cmdline": 404, "/echo": 426, "/echo/": 404} {
			if status, _ := s.get(path); status != want {
				t.Errorf("with --debug-endpoints GET %s is answered with %d, not %d", path, want, status)
			}
		}
		c := s.dial("/echo")
		if err := c.WriteMessage(websocket.BinaryMessage, []byte{0, 255}); err != nil {
			t.Fatal(err)
		}
		if got := read(t, c); got != "\x00\xff" {
			t.Errorf("/echo gives back what it is sent, not %q", got)
		}
		s.stop(c)
		if !strings.Contains(s.stderr.String(), "/debug/pprof/") {
			t.Error("a node whose debug endpoints are open warns of it")
		}
	}
}

// A node starts although the keys of an issuer cannot be fetched, and goes on trying.
func TestServeWithAuthentication(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "barrage.yaml")
	if err := os.WriteFile(config, []byte("journal: 'memory:'\nauth:\n  secret: [a-secret-of-tests]\n  jwks: [me=http://127.0.0.1:1/keys]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--config", config, "--data", t.TempDir())
	if _, body := s.get("/metrics"); !strings.Contains(body, "\nbarrage_tokens_refused_total 0\n") {
		t.Error("with authentication there are metrics of tokens")
	}
	s.stop()
	if out := s.hello + s.stderr.String(); strings.Contains(out, "a-secret-of-tests") {
		t.Errorf("a secret is never told:\n%s", out)
	}
}
