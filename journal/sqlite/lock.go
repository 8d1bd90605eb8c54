package sqlite

import (
	"fmt"
	"os"

	"barrage/journal"
)

// fileLock is an exclusive lock on a file, which the operating system takes away when the process ends.
type fileLock struct{ file *os.File }

// lockFile takes the lock or fails at once with journal.ErrInUse. The file stays when the lock is released: whoever
// removed it could pull it from under the next holder.
func lockFile(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(f)
	if err == nil && ok {
		return &fileLock{f}, nil
	}
	_ = f.Close() // nothing was written
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, journal.ErrInUse
}

func (l *fileLock) release() error { return l.file.Close() }
