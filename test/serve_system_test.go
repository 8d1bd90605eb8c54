//go:build system

package test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"

	_ "modernc.org/sqlite" // to write a journal of a newer schema
)

func TestOneCommandStartsANodeThatKeepsItsHistory(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	for _, want := range []string{n.URL() + "/", "/ws/", "/raw/"} {
		if !strings.Contains(n.Logs(), want) {
			t.Errorf("a node prints the addresses of its pages and endpoints: %q is missing in\n%s", want, n.Logs())
		}
	}
	resp, err := http.Get(n.URL() + "/")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || !bytes.Contains(page, []byte("<html")) {
		t.Fatalf("/ is the live room: got %s, %s, %.200s", resp.Status, resp.Header.Get("Content-Type"), page)
	}
	if _, err := os.Stat(filepath.Join(n.Data(), "journal.db")); err != nil {
		t.Errorf("the default journal is in ./barrage-data: %v", err)
	}

	c, before := join(t, n.URL(), "room")
	for i := range 3 {
		publish(t, c, fmt.Sprint(i))
	}
	if code, err := n.Stop(); err != nil || code != 0 {
		t.Fatalf("SIGTERM ends a node cleanly: exit code %d, %v", code, err)
	}
	for {
		if _, err := c.Next(defaultWait); err != nil {
			if code := CloseCode(err); code != 3001 {
				t.Errorf("a node that shuts down closes its connections with 3001: got %v", err)
			}
			break
		}
	}

	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	c, after := join(t, n.URL(), "room", "since=0", "epoch="+before.Welcome.Epoch)
	if after.Welcome.Epoch != before.Welcome.Epoch || after.Welcome.Offset != 3 {
		t.Fatalf("a restart keeps the epoch %s and the head 3: got %s", before.Welcome.Epoch, after.Text)
	}
	for i := range 3 {
		if m := nextMessage(t, c); m.Offset != uint64(i+1) || string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("message %d is %d after a restart: got %+v", i+1, i, m)
		}
	}
	if offset := publish(t, c, "3"); offset != 4 {
		t.Fatalf("counting goes on after a restart: got offset %d, want 4", offset)
	}
}

func TestAcknowledgedMessagesSurviveAKill(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, _ := join(t, n.URL(), "room", "echo=0")
	var last uint64
	for i := range 200 {
		last = publish(t, c, fmt.Sprint(i))
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, w := join(t, n.URL(), "room"); w.Welcome.Offset != last {
		t.Fatalf("all %d acknowledged messages are there after kill -9: the head is %d", last, w.Welcome.Offset)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Name: "alpha"})
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/nowhere": 404} {
		resp, err := http.Get(n.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s answers %d: got %s", path, want, resp.Status)
		}
	}
	if _, w := join(t, n.URL(), "room"); w.Welcome.Node != "alpha" || w.Welcome.Channel != "room" || w.Welcome.Client == "" || w.Welcome.Epoch == "" {
		t.Errorf("the welcome names node, channel, client and epoch: got %s", w.Text)
	}
}

// serve runs the binary until it ends by itself, and returns its exit code and what it printed.
func serve(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	bin, err := testserver.Binary()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := testserver.Command(bin, args...)
	c.Dir = t.TempDir()
	c.Env = testserver.CleanEnv()
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
	err = c.Wait()
	if !timer.Stop() {
		t.Fatalf("barrage %s ends by itself with an error: it ran for 20 s and printed\n%s", strings.Join(args, " "), out.String())
	}
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String()
}

func TestWhatCannotWorkIsRefusedWithOneSentence(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	running := startNode(t, testserver.NodeOptions{Data: filepath.Join(t.TempDir(), "data")})
	newer := newerJournal(t)

	free := "127.0.0.1:0"
	for _, tt := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"port in use", []string{"--listen", busy.Addr().String()}, []string{busy.Addr().String(), "in use"}},
		{"data folder below a file", []string{"--listen", free, "--data", filepath.Join(file, "data")}, []string{file}},
		{"second process on one SQLite file", []string{"--listen", free, "--data", running.Data()}, []string{"another process"}},
		{"network broker, journal not shared", []string{"--listen", free, "--broker", "redis://127.0.0.1:6379"}, []string{"journal", "shared", "postgres"}},
		{"network broker, memory journal", []string{"--listen", free, "--journal", "memory:", "--broker", "redis://127.0.0.1:6379"}, []string{"journal", "shared"}},
		{"unknown journal", []string{"--listen", free, "--journal", "mysql://localhost/x"}, []string{"journal", "mysql"}},
		{"journal that is no URL", []string{"--listen", free, "--journal", "postgres://%zz"}, []string{"journal"}},
		{"unknown broker", []string{"--listen", free, "--broker", "kafka://localhost"}, []string{"broker", "kafka"}},
		{"journal of a newer schema", []string{"--listen", free, "--journal", "sqlite:" + newer}, []string{"newer"}},
		{"open to the network without a key", []string{"--listen", "0.0.0.0:0"}, []string{"open", "127.0.0.1"}},
		{"unknown flag", []string{"--lisen", free}, []string{"--lisen"}},
		{"listen that is no address", []string{"--listen", "nonsense"}, []string{"listen", "nonsense"}},
		{"argument too many", []string{"here"}, []string{"here"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, output := serve(t, append([]string{"serve"}, tt.args...)...)
			if code <= 0 {
				t.Errorf("the exit code is above 0: got %d", code)
			}
			oneSentence(t, output, tt.words...)
		})
	}

	t.Run("the running node was not disturbed", func(t *testing.T) {
		if err := running.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// newerJournal makes a SQLite journal as a later barrage would leave it: with a higher schema number.
func newerJournal(t *testing.T) string {
	t.Helper()
	n := startNode(t, testserver.NodeOptions{Data: filepath.Join(t.TempDir(), "data")})
	if code, err := n.Stop(); err != nil || code != 0 {
		t.Fatalf("the node ends: %d, %v", code, err)
	}
	path := filepath.Join(n.Data(), "journal.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("UPDATE meta SET value = '999' WHERE name = 'schema'"); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSettingsComeFromFileEnvironmentAndFlags(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	os.WriteFile(good, []byte("name: from-file\nlimits:\n  message: 2000\n"), 0o600)
	os.WriteFile(bad, []byte("nmae: x\n"), 0o600)

	n := startNode(t, testserver.NodeOptions{Args: []string{"--config", good}, Env: []string{"BARRAGE_NAME=from-env"}})
	if _, w := join(t, n.URL(), "room"); w.Welcome.Node != "from-env" {
		t.Errorf("the environment wins over the file: the node's name is %s", w.Welcome.Node)
	}
	if code, out := serve(t, "config", "check", "--config", good); code != 0 {
		t.Errorf("a good file passes config check: exit code %d\n%s", code, out)
	}
	for _, command := range [][]string{{"config", "check", "--config", bad}, {"serve", "--config", bad}} {
		code, out := serve(t, command...)
		if code <= 0 {
			t.Errorf("%v: an unknown key is an error: exit code %d", command, code)
		}
		oneSentence(t, out, "nmae", "name")
	}
	if code, out := serve(t, "version"); code != 0 || !strings.Contains(out, "barrage") {
		t.Errorf("barrage version says what it is: exit code %d, %s", code, out)
	}
}
