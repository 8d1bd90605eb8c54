// Package sqlite is the embedded journal: one file, one process, no server.
//
// The file is in WAL mode; one connection writes, a few read, and reading never waits for writing. Every Append is
// one transaction. A lock file beside the database (PATH.lock) keeps a second process out; it vanishes with the
// process that holds it, however that ends. Other programs may read the file meanwhile, but a lock that they
// hold for longer than 5 seconds fails appends.
//
// # What can be lost
//
// When only the process ends, kill -9 included, nothing that was acknowledged is lost, whatever the setting. What a power
// cut or a crash of the operating system can take depends on the parameter synchronous of the URL:
//
//   - full (default): nothing acknowledged. Every commit is on the disk, as far as the disk tells the truth about
//     flushing, before it is acknowledged.
//   - extra: the same; the folder is synchronised too, which matters to other journal modes than WAL.
//   - normal: the last commits, from about the last checkpoint on (some 4,000 pages, 16 MB); what is left is
//     consistent and without gaps, but its heads are older: offsets that were handed out are handed out again,
//     to other messages, in the same epoch.
//   - off: as normal, and the database may be damaged beyond repair.
//
// Use normal or off only where messages may vanish, and clients may have seen others under the same offsets.
//
// The file does not shrink when messages are trimmed; their room is used again.
package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync/atomic"

	"barrage/journal"
	"barrage/proto"

	_ "modernc.org/sqlite" // the driver named sqlite
)

// Journal is a journal in a SQLite file. Open makes one.
type Journal struct {
	path  string
	log   *slog.Logger
	lock  *fileLock
	epoch proto.Epoch // cannot change while the file is locked

	reads  *sql.DB // a few connections that cannot write
	writes *sql.DB // the pool of the one connection that writes

	// turn is held by whoever uses writer: it has one place.
	turn   chan struct{}
	writer *sql.Conn
	stmts  statements
	closed atomic.Bool // set with turn held
}

// readers is the number of connections that read at the same time; further calls wait.
const readers = 4

// Shared implements journal.Journal: one process has the file to itself.
func (j *Journal) Shared() bool { return false }

// Close waits for the append under way, then closes the file. Reads under way fail.
func (j *Journal) Close() error {
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	if j.closed.Swap(true) {
		return nil
	}
	return j.release()
}

// begin waits for the writing connection.
func (j *Journal) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case j.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if j.closed.Load() {
		<-j.turn
		return journal.ErrClosed
	}
	return nil
}

func (j *Journal) end() { <-j.turn }

// transaction runs f in one transaction of the writing connection, which the caller has. It does not stop half-way
// when a context ends: what it waits for is a local disk.
func (j *Journal) transaction(f func(ctx context.Context) error) error {
	ctx := context.Background()
	if _, err := j.writer.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return explain(err)
	}
	if err := f(ctx); err != nil {
		j.rollback(ctx)
		return explain(err)
	}
	if _, err := j.writer.ExecContext(ctx, "COMMIT"); err != nil {
		j.rollback(ctx)
		return explainCommit(err)
	}
	return nil
}

// rollback ends a transaction. Its error does not matter: after some errors SQLite has rolled back by itself, and if
// it really failed, the next BEGIN does too.
func (j *Journal) rollback(ctx context.Context) {
	_, _ = j.writer.ExecContext(ctx, "ROLLBACK")
}

// failed adds what was attempted to the error of a call.
func (j *Journal) failed(what string, err error) error {
	if j.closed.Load() {
		err = journal.ErrClosed
	}
	return fmt.Errorf("sqlite: %s: %w", what, err)
}
