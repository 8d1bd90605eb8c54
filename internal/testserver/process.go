package testserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// startLimit is how long a server may take until it accepts connections.
const startLimit = 20 * time.Second

// process is a server program that can be ended, paused and started again with the same arguments. Its methods may be
// called from any goroutine.
type process struct {
	name string
	args []string
	addr string // where it accepts connections, to know that it is ready
	log  string // file for what it prints

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil while it does not run
	done chan struct{} // closed when cmd has been waited for
}

// Start starts the process and waits until it accepts connections. It is an error when it already runs.
func (p *process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("%s at %s runs already", p.name, p.addr)
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := Command(p.name, p.args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w; is it installed?", p.name, err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	p.cmd, p.done = cmd, done
	if err := p.waitReady(done); err != nil {
		_ = cmd.Process.Kill()
		<-done
		p.cmd = nil
		return err
	}
	return nil
}

// waitReady waits until the process accepts connections or has ended.
func (p *process) waitReady(done <-chan struct{}) error {
	ready := make(chan error, 1)
	go func() { ready <- WaitPort(p.addr, startLimit) }()
	select {
	case err := <-ready:
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: %w; it printed:\n%s", p.name, err, p.printed())
	case <-done:
		return fmt.Errorf("%s ended at once; it printed:\n%s", p.name, p.printed())
	}
}

// printed returns the last lines of the process's output.
func (p *process) printed() []byte {
	text, _ := os.ReadFile(p.log)
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-15):], nil)
}

// Stop asks the process to end (SIGTERM) and waits until it has; after 5 s it is killed.
func (p *process) Stop() error { return p.end(syscall.SIGTERM) }

// Kill ends the process at once (SIGKILL) and waits until it is gone.
func (p *process) Kill() error { return p.end(syscall.SIGKILL) }

func (p *process) end(how syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	err := p.cmd.Process.Signal(how)
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a paused process hears nothing but SIGKILL
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	p.cmd = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Pause stops the process without ending it (SIGSTOP): its connections stay open and say nothing.
func (p *process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s at %s does not run", p.name, p.addr)
	}
	return p.cmd.Process.Signal(s)
}

// freeAddr returns a loopback port that was free a moment ago, alone and as an address.
func freeAddr() (port, addr string, err error) {
	n, err := FreePort()
	if err != nil {
		return "", "", err
	}
	port = fmt.Sprint(n)
	return port, "127.0.0.1:" + port, nil
}

// subdir makes a folder below dir.
func subdir(dir, name string) (string, error) {
	d := filepath.Join(dir, name)
	return d, os.MkdirAll(d, 0o700)
}

// waitUntil asks ok again and again until it is true; what is the end of the sentence "… did not happen".
func waitUntil(limit time.Duration, what string, ok func() bool) error {
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("within %s it did not happen that %s", limit, what)
		}
	}
	return nil
}
