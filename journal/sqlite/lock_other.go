//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package sqlite

import "os"

// tryLock cannot lock on this system: two processes on one file are not noticed here.
func tryLock(*os.File) (bool, error) { return true, nil }
