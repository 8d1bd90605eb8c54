//go:build unix

package main

import (
	"fmt"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// spareFiles is how many files a client process opens besides its connections.
const spareFiles = 64

// openFiles is how many connections one client process can have. Go raises the soft limit to the hard one by itself.
func openFiles() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("the limit of open files: %w", err)
	}
	n := int(min(limit.Max, 1<<20)) - spareFiles
	if n < 1 {
		return 0, fmt.Errorf("a process may open only %d files; raise it with ulimit -n", limit.Max)
	}
	return n, nil
}

// workerCommand is a client process. It is not in the foreground of a terminal, so that Ctrl-C reaches this one alone, which then ends it.
func workerCommand(self string) *exec.Cmd {
	cmd := exec.Command(self, "bench", "--worker")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}
