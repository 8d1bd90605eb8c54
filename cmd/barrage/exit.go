package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"barrage/client"
	"barrage/proto"
)

// Exit codes; exitHelp explains them to people.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitConnection  = 3
	exitInterrupted = 130
)

const exitHelp = `Exit codes of every command:

  0    it worked
  1    it failed while running
  2    the command line or the settings are wrong; nothing was done
  3    the server could not be reached, or it refused
  130  a signal ended it (serve ends with 0: a signal is how it is stopped)
`

// exitError carries the exit code of a failure.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, err}
}

// work makes the errors of a command's work distinct from those of its command line.
func work(f func(cmd *cobra.Command, args []string) error) func(cmd *cobra.Command, args []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := advise(cmd, f(cmd, args))
		var coded *exitError
		if err == nil || errors.As(err, &coded) {
			return err
		}
		return &exitError{codeOf(err), err}
	}
}

func codeOf(err error) int {
	var (
		refused *client.RefusedError
		closed  proto.Close
		failed  *proto.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, client.ErrOptions):
		return exitUsage
	case errors.Is(err, client.ErrUnreachable), errors.As(err, &refused), errors.As(err, &closed), errors.As(err, &failed):
		return exitConnection
	}
	return exitFailed
}

// report writes what went wrong, one line each with the program's name in front, and gives the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	code := exitUsage // cobra's own errors are about the command line
	if coded, ok := errors.AsType[*exitError](err); ok {
		code = coded.code
	}
	if code == exitInterrupted {
		fmt.Fprintln(w, "barrage: interrupted")
		return code
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(w, "barrage: "+line)
	}
	return code
}
