package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"barrage": func() { os.Exit(run()) }})
}

func TestScripts(t *testing.T) {
	small, err := filepath.Abs("../../testdata/traces/small.csv")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			node, url, stop := startFakeNode()
			e.Defer(stop)
			e.Values[nodeKey{}] = node
			e.Setenv("URL", url)
			e.Setenv("SMALL", small)
			return writeKeys(e.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode, "field": field, "members": members},
	})
}

// writeKeys makes a pair of keys for tokens: private.pem and public.pem.
func writeKeys(dir string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	open, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "private.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
		os.WriteFile(filepath.Join(dir, "public.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: open}), 0o600),
	)
}

// exitCode runs barrage and demands an exit code: exitcode CODE ARGS…. Its output is what stdout and stderr then look at.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("barrage", args[1:]...)
	got := "0"
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = itoa(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("barrage %v must end with exit code %s, got %s", args[1:], args[0], got)
	}
}

type nodeKey struct{}

// members waits until a channel has so many members: members CHANNEL N.
func members(ts *testscript.TestScript, _ bool, args []string) {
	node := ts.Value(nodeKey{}).(*fakeNode)
	for deadline := time.Now().Add(20 * time.Second); itoa(node.members(args[0])) != args[1]; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s must have %s members, it has %d", args[0], args[1], node.members(args[0]))
		}
	}
}

// field compares a field of a file with one JSON object: field FILE NAME VALUE.
func field(ts *testscript.TestScript, _ bool, args []string) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &object); err != nil {
		ts.Fatalf("%s holds one JSON object: %v", args[0], err)
	}
	if got := string(bytes.Trim(object[args[1]], `"`)); got != args[2] {
		ts.Fatalf("field %s must be %s, got %s", args[1], args[2], got)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// command prepares barrage, which is this test's own program under another name.
func command(t *testing.T, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	barrage := filepath.Join(t.TempDir(), "barrage")
	if err := os.Symlink(self, barrage); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), barrage, args...)
}

// A publisher that waits for its next line notices at once that the server sent it away.
func TestPubEndsWithItsConnection(t *testing.T) {
	_, url, stop := startFakeNode()
	defer stop()
	cmd := command(t, "pub", "room", "--url", url+"/closing")
	stdin, err := cmd.StdinPipe() // stays open and silent
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	output, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != exitConnection || string(output) != "barrage: close 3500: not you\n" {
		t.Errorf("a publisher that is sent away ends with exit code %d and says why, got %d, %s", exitConnection, code, output)
	}
}

// Ctrl-C ends a command that would go on for ever, with exit code 130.
func TestInterrupt(t *testing.T) {
	_, url, stop := startFakeNode()
	defer stop()
	cmd := command(t, "sub", "room", "--url", url)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	buf := make([]byte, 1000)
	if _, err := stderr.Read(buf); err != nil { // the notice that it joined
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("a command that is interrupted ends with exit code %d, got %d", exitInterrupted, code)
	}
}
