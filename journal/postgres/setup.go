package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"barrage/journal"
	"barrage/journal/internal/migration"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations
var migrationFiles embed.FS

var migrations = migration.MustLoad(migrationFiles)

// setup is one attempt to connect and bring the schema up to date, shared by all calls that need it.
type setup struct {
	done chan struct{}
	err  error // valid when done is closed
}

// Ready connects, migrates the schema if it has to, and says whether the journal can be used. An error that matches
// journal.ErrUnavailable may pass by itself: go on, calls try again. journal.ErrNewerSchema and every other one needs a
// person.
func (j *Journal) Ready(ctx context.Context) error {
	ctx, cancel := j.bound(ctx, setupTimeout)
	defer cancel()
	if err := j.ensure(ctx); err != nil {
		return j.failed("connect", err)
	}
	err := j.query(ctx, func(ctx context.Context, c *pgxpool.Conn) error { return c.Ping(ctx) })
	return j.failed("connect", err)
}

// ensure waits until the schema is known to be there, or for the end of the attempt under way.
func (j *Journal) ensure(ctx context.Context) error {
	if j.ready.Load() {
		return nil
	}
	s, err := j.startSetup()
	if err != nil {
		return err
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("%w: connecting: %w", journal.ErrUnavailable, ctx.Err())
	}
}

// startSetup returns the attempt under way, or starts one.
func (j *Journal) startSetup() (*setup, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed.Load() {
		return nil, journal.ErrClosed
	}
	if j.refusal != nil || j.setup != nil {
		return j.setup, j.refusal
	}
	s := &setup{done: make(chan struct{})}
	j.setup = s
	j.running.Go(func() {
		ctx, cancel := context.WithTimeout(j.life, setupTimeout)
		defer cancel()
		s.err = j.prepare(ctx)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.setup = nil
		j.ready.Store(s.err == nil)
		if errors.Is(s.err, journal.ErrNewerSchema) {
			j.refusal = s.err
		}
		close(s.done)
	})
	return s, nil
}

// prepare checks the schema and migrates it when it is old.
func (j *Journal) prepare(ctx context.Context) error {
	looking, cancel := context.WithTimeout(ctx, 2*connectTimeout) // only migrating may take longer
	defer cancel()
	c, err := j.pool.Acquire(looking)
	if err != nil {
		return explainConnect(j.pool.Config().ConnConfig, err)
	}
	defer c.Release()
	var encoding string
	if err := c.QueryRow(looking, "SHOW server_encoding").Scan(&encoding); err != nil {
		return explainSetup(err)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s; create one with encoding UTF8", encoding)
	}
	current, err := j.current(looking, c)
	if err != nil || current {
		return err
	}
	return j.migrate(ctx, c)
}

// current says whether the schema is exactly the one that this program needs, without taking a lock.
func (j *Journal) current(ctx context.Context, c *pgxpool.Conn) (bool, error) {
	var exists bool
	if err := c.QueryRow(ctx, "SELECT to_regclass('barrage_meta') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return false, wrapSetup(err)
	}
	var version, epoch *string
	err := c.QueryRow(ctx, `SELECT (SELECT value FROM barrage_meta WHERE name = 'schema'),
		(SELECT value FROM barrage_meta WHERE name = 'epoch'), to_regclass('barrage_messages') IS NOT NULL`).
		Scan(&version, &epoch, &exists)
	if err != nil || version == nil {
		return false, wrapSetup(err)
	}
	n, err := checkVersion(*version)
	return n == len(migrations) && epoch != nil && exists, err
}

// wrapSetup is explainSetup that leaves success alone.
func wrapSetup(err error) error {
	if err == nil {
		return nil
	}
	return explainSetup(err)
}

// checkVersion parses the schema's version and refuses one that this program does not know.
func checkVersion(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("barrage_meta says that the schema's version is %q; restore it", text)
	}
	if n > len(migrations) {
		return n, fmt.Errorf("%w: version %d, and this program knows only up to %d; use the newer barrage that wrote it",
			journal.ErrNewerSchema, n, len(migrations))
	}
	return n, nil
}

// migratePause is how long nobody waits for a migration between two attempts at its locks; see migrateOnce.
const migratePause = 2 * time.Second

// migrate runs the missing migrations in one transaction, under a lock that makes other nodes wait. Where their own locks are not to be
// had, it gives them up and tries again, until ctx ends.
func (j *Journal) migrate(ctx context.Context, c *pgxpool.Conn) error {
	start := time.Now()
	from := 0
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		err := execAll(ctx, tx, "SET LOCAL statement_timeout = 0",
			"SELECT pg_advisory_xact_lock(hashtextextended('barrage migrate ' || coalesce(current_schema(), ''), 0))")
		for err == nil {
			if from, err = migrateOnce(ctx, tx); !isCode(err, lockNotAvailable) {
				break
			}
			j.log.Warn("the journal's migration waits for statements that take long; trying again", "error", err, "pause", migratePause)
			if !sleep(ctx, migratePause) {
				break
			}
			err = nil
		}
		return err
	})
	if err == nil && from < len(migrations) {
		j.log.Info("migrated the journal", "from", from, "to", len(migrations), "took", time.Since(start))
	}
	return err
}

// sleep waits; false means that ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// migrateOnce runs the missing migrations behind a savepoint, so that a failure keeps no lock but that of the transaction. It does not
// wait long for the locks of tables: whoever comes after it waits as well.
func migrateOnce(ctx context.Context, outer pgx.Tx) (from int, err error) {
	err = pgx.BeginFunc(ctx, outer, func(tx pgx.Tx) (err error) {
		err = execAll(ctx, tx, "SET LOCAL lock_timeout = '2s'",
			"CREATE TABLE IF NOT EXISTS barrage_meta (name text PRIMARY KEY, value text NOT NULL)",
			"INSERT INTO barrage_meta VALUES ('schema', '0') ON CONFLICT DO NOTHING",
			"INSERT INTO barrage_meta VALUES ('epoch', '"+string(journal.NewEpoch())+"') ON CONFLICT DO NOTHING")
		if err != nil {
			return err
		}
		var version string
		if err := tx.QueryRow(ctx, "SELECT value FROM barrage_meta WHERE name = 'schema'").Scan(&version); err != nil {
			return wrapSetup(err)
		}
		if from, err = checkVersion(version); err != nil {
			return err
		}
		for _, step := range migrations[from:] {
			if err := execAll(ctx, tx, step.SQL); err != nil {
				return fmt.Errorf("migration %s: %w", step.Name, err)
			}
		}
		_, err = tx.Exec(ctx, "UPDATE barrage_meta SET value = $1 WHERE name = 'schema'", strconv.Itoa(len(migrations)))
		return wrapSetup(err)
	})
	return from, err
}

// execAll runs statements one after the other.
func execAll(ctx context.Context, tx pgx.Tx, statements ...string) error {
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return wrapSetup(err)
		}
	}
	return nil
}
