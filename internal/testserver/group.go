package testserver

import (
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// A guard ends a process group when this process dies. The death signal of Command reaches only the child itself;
// a server of several processes needs this, because those that its master started would live on.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser // held open by this process; its end is what the guard waits for
}

// newGuard starts a shell that waits for the end of its input and then kills the group.
func newGuard(group int) (*guard, error) {
	c := exec.Command("/bin/sh", "-c", fmt.Sprintf("read -r _; kill -KILL -%d", group))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start the guard of a process group: %w", err)
	}
	return &guard{cmd: c, pipe: pipe}, nil
}

// release ends the guard without killing anything: first the guard, then its pipe.
func (g *guard) release() {
	g.cmd.Process.Kill()
	g.cmd.Wait()
	g.pipe.Close()
}
