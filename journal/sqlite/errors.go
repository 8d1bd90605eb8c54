package sqlite

import (
	"errors"
	"fmt"

	"barrage/journal"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// code returns the primary result code of an error of SQLite, 0 for any other.
func code(err error) int {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// explain says what an error of an open journal means and what to do. Whatever the storage itself reports makes the
// journal unavailable; it may work again later.
func explain(err error) error {
	var advice string
	switch code(err) {
	case 0, lib.SQLITE_CONSTRAINT, lib.SQLITE_TOOBIG, lib.SQLITE_MISMATCH, lib.SQLITE_INTERRUPT:
		return err
	case lib.SQLITE_FULL:
		advice = "the disk is full; make room, then it works again"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		advice = "another program holds a lock on the file; end its transaction"
	case lib.SQLITE_READONLY, lib.SQLITE_PERM:
		advice = "the file cannot be written; give this user the right to write to it and its folder"
	case lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN:
		advice = "the file cannot be read or written; look at the disk and at the limit of open files"
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		advice = "the file is damaged; stop the server and restore a backup, or save what can be saved with sqlite3's .recover"
	default:
		advice = "the database refuses"
	}
	return fmt.Errorf("%w: %s: %w", journal.ErrUnavailable, advice, err)
}

// explainCommit is explain for a COMMIT that failed. When the disk failed to flush it, the transaction is undone, but
// a power cut right now might bring it back.
func explainCommit(err error) error {
	if code(err) == lib.SQLITE_IOERR {
		return fmt.Errorf("%w: the disk failed during a commit: %w", journal.ErrUncertain, err)
	}
	return explain(err)
}
