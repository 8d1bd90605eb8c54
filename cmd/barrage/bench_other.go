//go:build !unix

package main

import (
	"os/exec"

	"barrage/internal/load"
)

func openFiles() (int, error) { return 0, load.ErrNeedsLinux }

func workerCommand(self string) *exec.Cmd { return exec.Command(self, "bench", "--worker") }
