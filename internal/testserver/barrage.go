package testserver

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Binary builds ./cmd/barrage once for this process and returns its path. BARRAGE_TEST_BINARY names one that is
// already built; BARRAGE_TEST_RACE=1 builds with the race detector.
func Binary() (string, error) { return buildOnce() }

var buildOnce = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("BARRAGE_TEST_BINARY"); path != "" {
		return path, nil
	}
	root, err := RepoRoot()
	if err != nil {
		return "", err
	}
	// The name carries the process: test programs that run at the same time build for themselves, from one cache.
	path := filepath.Join(os.TempDir(), fmt.Sprintf("barrage-test-%d", os.Getpid()))
	args := []string{"build", "-o", path}
	if os.Getenv("BARRAGE_TEST_RACE") == "1" {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./cmd/barrage")...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ./cmd/barrage: %w\n%s", err, out)
	}
	return path, nil
})

// RemoveBinary removes what Binary built; TestMain calls it at the end.
func RemoveBinary() {
	if os.Getenv("BARRAGE_TEST_BINARY") == "" {
		os.Remove(filepath.Join(os.TempDir(), fmt.Sprintf("barrage-test-%d", os.Getpid())))
	}
}

// NodeOptions says how a node is started. The zero value is a node with all defaults, on a free port, with a data
// folder of its own.
type NodeOptions struct {
	// Name is --name; empty leaves it to the node.
	Name string
	// Journal and Broker are --journal and --broker; empty leaves the defaults.
	Journal, Broker string
	// Data is --data; empty leaves the default, barrage-data in the working folder, which is a temporary one of
	// this node that Close removes.
	Data string
	// TLS, when set, is how clients reach the node over TLS: its files are then given in Args.
	TLS *tls.Config
	// Args are appended to the command line.
	Args []string
	// Env is added to the environment, NAME=value.
	Env []string
}

// Node is a process running barrage serve.
type Node struct {
	options NodeOptions
	addr    string
	dir     string // holds the log, and the data unless told otherwise
	cmd     *exec.Cmd
	logs    *logFile
	done    chan struct{} // closed when the process of cmd ended
	spent   Spent         // by processes that ended; written before done is closed
}

// Spent is what a server used.
type Spent struct {
	// CPU is user and system time together.
	CPU time.Duration
	// MaxRSS is the largest resident memory, in bytes.
	MaxRSS int64
}

// add counts one process that ended.
func (s *Spent) add(state *os.ProcessState) {
	s.CPU += state.UserTime() + state.SystemTime()
	if use, ok := state.SysUsage().(*syscall.Rusage); ok {
		s.MaxRSS = max(s.MaxRSS, use.Maxrss*1024)
	}
}

// StartNode starts a node and waits until it is ready.
func StartNode(o NodeOptions) (*Node, error) {
	n, err := LaunchNode(o)
	if err != nil {
		return nil, err
	}
	if err := n.WaitReady(20 * time.Second); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// LaunchNode starts a node and returns at once, for nodes that cannot become ready.
func LaunchNode(o NodeOptions) (*Node, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "barrage-node-")
	if err != nil {
		return nil, err
	}
	n := &Node{options: o, addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir}
	if n.logs, err = newLogFile(dir, "node.log"); err == nil {
		err = n.launch()
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("start node %q: %w", o.Name, err)
	}
	return n, nil
}

func (n *Node) launch() error {
	bin, err := Binary()
	if err != nil {
		return err
	}
	o := n.options
	args := []string{"serve", "--listen", n.addr}
	for _, f := range [][2]string{{"--name", o.Name}, {"--data", o.Data}, {"--journal", o.Journal}, {"--broker", o.Broker}} {
		if f[1] != "" {
			args = append(args, f[0], f[1])
		}
	}
	n.cmd = Command(bin, append(args, n.options.Args...)...)
	n.cmd.Dir = n.dir
	n.cmd.Env = append(CleanEnv(), n.options.Env...)
	n.cmd.Stdout, n.cmd.Stderr = n.logs.file, n.logs.file
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		cmd.Wait()
		n.spent.add(cmd.ProcessState)
		close(done)
	}(n.cmd, n.done)
	return nil
}

// CleanEnv is this process's environment without barrage's own settings.
func CleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "BARRAGE_") {
			env = append(env, e)
		}
	}
	return env
}

// Name is the name the node was given.
func (n *Node) Name() string { return n.options.Name }

// Addr is where the node accepts connections, host:port. It stays the same over Restart.
func (n *Node) Addr() string { return n.addr }

// URL is the node's address for HTTP, without a slash at the end.
func (n *Node) URL() string {
	if n.options.TLS != nil {
		return "https://" + n.addr
	}
	return "http://" + n.addr
}

// PID is the number of the node's process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Data is the node's data folder.
func (n *Node) Data() string {
	if n.options.Data != "" {
		return n.options.Data
	}
	return filepath.Join(n.dir, "barrage-data")
}

// Logs returns everything that the node printed, over all its restarts.
func (n *Node) Logs() string { return n.logs.text() }

// Ready asks /readyz once; nil means the node is ready.
func (n *Node) Ready() error {
	client := http.Client{Timeout: 2 * time.Second}
	if n.options.TLS != nil {
		transport := &http.Transport{TLSClientConfig: n.options.TLS}
		defer transport.CloseIdleConnections()
		client.Transport = transport
	}
	resp, err := client.Get(n.URL() + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return nil
}

// WaitReady waits until the node is ready. It fails at once when the process ends.
func (n *Node) WaitReady(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := n.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-n.done:
			return fmt.Errorf("node %q ended (%s) before it was ready:\n%s", n.options.Name, n.cmd.ProcessState, n.Logs())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("node %q is not ready after %s: %w\n%s", n.options.Name, limit, err, n.Logs())
		}
	}
}

// ErrStillRunning says that a process did not end in time.
var ErrStillRunning = errors.New("the process is still running")

// Wait waits for the end of the process and returns its exit code, -1 when a signal ended it.
func (n *Node) Wait(limit time.Duration) (code int, err error) {
	select {
	case <-n.done:
		return n.cmd.ProcessState.ExitCode(), nil
	case <-time.After(limit):
		return 0, fmt.Errorf("node %q: %w after %s\n%s", n.options.Name, ErrStillRunning, limit, n.Logs())
	}
}

// Kill ends the node as a power cut would: SIGKILL, no goodbye.
func (n *Node) Kill() error {
	if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_, err := n.Wait(10 * time.Second)
	return err
}

// Stop sends SIGTERM, waits for the end, and returns the exit code.
func (n *Node) Stop() (code int, err error) {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	return n.Wait(45 * time.Second)
}

// Restart starts the node again, with the same options at the same address, after Kill or Stop.
func (n *Node) Restart() error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.WaitReady(20 * time.Second)
}

// Spent is what the node's ended processes used so far; stop the node first.
func (n *Node) Spent() Spent { return n.spent }

// Close kills the node and removes its files. It may be called more than once.
func (n *Node) Close() {
	if n.cmd != nil && n.cmd.Process != nil {
		n.cmd.Process.Kill()
		<-n.done
	}
	n.logs.close()
	os.RemoveAll(n.dir)
}
