package testserver

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Nginx balances nodes with the configuration in deploy/nginx, byte for byte: only the address to listen on and
// the list of nodes are written anew.
type Nginx struct {
	dir   string
	port  int
	cmd   *exec.Cmd
	guard *guard
	logs  *logFile
	done  chan struct{} // closed when the master process ended
}

// StartNginx starts nginx in front of backends (host:port) on a free port and waits until it accepts connections.
func StartNginx(backends []string) (*Nginx, error) {
	bin, err := findNginx()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "barrage-nginx-")
	if err != nil {
		return nil, err
	}
	n := &Nginx{dir: dir, done: make(chan struct{})}
	if err := n.start(bin, backends); err != nil {
		n.Close()
		return nil, fmt.Errorf("start nginx: %w\n%s", err, n.Logs())
	}
	return n, nil
}

func (n *Nginx) start(bin string, backends []string) (err error) {
	if n.port, err = FreePort(); err != nil {
		return err
	}
	if err := n.render(backends); err != nil {
		return err
	}
	if n.logs, err = newLogFile(n.dir, "nginx.log"); err != nil {
		return err
	}
	n.cmd = Command(bin, n.args("-g", fmt.Sprintf("daemon off; pid %s;", n.pidFile()))...)
	n.cmd.Stdout, n.cmd.Stderr = n.logs.file, n.logs.file
	if err := n.cmd.Start(); err != nil {
		return err
	}
	go func() {
		n.cmd.Wait()
		close(n.done)
	}()
	if n.guard, err = newGuard(n.cmd.Process.Pid); err != nil {
		return err
	}
	return WaitPort(n.Addr(), 10*time.Second)
}

func (n *Nginx) args(more ...string) []string {
	return append([]string{"-p", n.dir, "-c", filepath.Join(n.dir, "nginx.conf"), "-e", "stderr"}, more...)
}

func (n *Nginx) pidFile() string { return filepath.Join(n.dir, "nginx.pid") }

// render copies deploy/nginx and replaces listen.conf and the servers in nodes.conf.
func (n *Nginx) render(backends []string) error {
	root, err := RepoRoot()
	if err != nil {
		return err
	}
	from := filepath.Join(root, "deploy", "nginx")
	for _, name := range []string{"nginx.conf", "barrage.conf", "nodes.conf"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if name == "nodes.conf" {
			if text, err = withServers(text, backends); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(n.dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(n.dir, "listen.conf"), []byte(n.listenConf()), 0o644)
}

// listenConf is the listen directive, and temporary folders of its own, because the built-in ones belong to the
// system's nginx.
func (n *Nginx) listenConf() string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen 127.0.0.1:%d backlog=65535;\n", n.port)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "%s_temp_path %s;\n", kind, filepath.Join(n.dir, "temp-"+kind))
	}
	return b.String()
}

// withServers replaces the server lines of nodes.conf by backends, each with the options of the first line.
func withServers(conf []byte, backends []string) ([]byte, error) {
	var out [][]byte
	placed := false
	for line := range bytes.Lines(conf) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "server" {
			out = append(out, line)
			continue
		}
		if placed {
			continue
		}
		placed = true
		for _, b := range backends {
			out = append(out, []byte("    server "+b+" "+strings.Join(fields[2:], " ")+"\n"))
		}
	}
	if !placed {
		return nil, fmt.Errorf("nodes.conf has no server line to replace")
	}
	return bytes.Join(out, nil), nil
}

// Addr is where nginx accepts connections, host:port.
func (n *Nginx) Addr() string { return "127.0.0.1:" + strconv.Itoa(n.port) }

// URL is the address of the cluster for HTTP, without a slash at the end.
func (n *Nginx) URL() string { return "http://" + n.Addr() }

// Logs returns what nginx wrote to its error log.
func (n *Nginx) Logs() string { return n.logs.text() }

// Reload replaces the nodes and tells nginx to read its configuration again; connections that are open stay. It
// returns when the new configuration was found valid and the signal was sent.
func (n *Nginx) Reload(backends []string) error {
	if err := n.render(backends); err != nil {
		return err
	}
	check := exec.Command(n.cmd.Path, n.args("-t", "-g", fmt.Sprintf("pid %s;", n.pidFile()))...)
	if out, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("nginx refuses its new configuration: %w\n%s", err, out)
	}
	return n.cmd.Process.Signal(syscall.SIGHUP)
}

// Close kills nginx with all its workers and removes its files. It may be called more than once.
func (n *Nginx) Close() {
	if n.guard != nil {
		n.guard.release()
		n.guard = nil
	}
	if n.cmd != nil && n.cmd.Process != nil {
		// The group is killed before the master is waited for, so its number cannot have been given away.
		syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
		<-n.done
		n.cmd = nil
	}
	n.logs.close()
	os.RemoveAll(n.dir)
}

func findNginx() (string, error) {
	if p, err := exec.LookPath("nginx"); err == nil {
		return p, nil
	}
	for _, p := range []string{"/usr/sbin/nginx", "/usr/local/sbin/nginx", "/opt/homebrew/bin/nginx"} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("nginx is not installed: scripts/install-test-deps.sh installs it on Debian and Ubuntu")
}
