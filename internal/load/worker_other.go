//go:build !linux

package load

import "io"

// Work is a worker. It needs Linux.
func Work(io.Reader, io.Writer) error { return ErrNeedsLinux }

type clock struct{}

func newClock() clock { return clock{} }

func (clock) now() int64 { return 0 }
