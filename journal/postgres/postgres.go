// Package postgres is the journal of clusters: any number of nodes share one PostgreSQL database.
//
// What is acknowledged is as durable as the database's own settings make it: with synchronous_commit on (the
// default) a crash of the server loses nothing; with synchronous replication neither does losing the machine.
//
// The journal has two tables, barrage_channels and barrage_messages, a small one for its epoch and version, barrage_meta,
// and a function, all in the connection's default schema: choose another one with the URL parameter search_path, also for
// several journals in one database. Connections carry settings, so a pooler in between must pool whole sessions.
//
// The database may be away: Open does not connect. Calls fail with journal.ErrUnavailable until it is there, and work
// again as soon as it is back. No call waits longer than 10 seconds. The URL parameter pool_max_conns sets the number
// of connections, 8 by default; appends never wait for reads.
//
// A node with a newer schema migrates the journal under the nodes of the version before, which go on; one of those that is started
// afterwards is refused with journal.ErrNewerSchema. A migration waits for the locks of tables 2 seconds at a time, and lets others go on
// in between.
//
// After restoring a backup, delete the row epoch of barrage_meta: offsets that were handed out after the backup are
// handed out again, and a new epoch tells clients so.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"barrage/journal"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// callTimeout bounds every call but Trim.
	callTimeout = 10 * time.Second
	// statementTimeout is when the server gives up a statement: before the client does, so that the outcome is known.
	statementTimeout = 8 * time.Second
	// setupTimeout bounds connecting and migrating.
	setupTimeout = 5 * time.Minute
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// connections is the size of the pool when the URL does not say.
	connections = 8
	// reserved is how many connections reads must leave to appends and trimming.
	reserved = lanes + 1
	// lanes is the number of batches under way at once that was fastest.
	lanes = 2
)

// Journal is a journal in a PostgreSQL database. Open makes one.
type Journal struct {
	pool  *pgxpool.Pool
	log   *slog.Logger
	reads chan struct{} // has a place for each read that may use a connection

	life context.Context // ends with Close
	end  context.CancelFunc

	ready  atomic.Bool // the schema is known to be there
	down   atomic.Bool // the last call found the database unavailable; for the log
	closed atomic.Bool

	mu      sync.Mutex
	setup   *setup         // under way, or nil; guarded by mu
	refusal error          // a newer schema: nothing will help but another program; guarded by mu
	running sync.WaitGroup // setups
}

// Open prepares a journal for postgres://user:password@host:port/database?parameters. It does not connect, so it
// fails only when the URL is wrong (journal.ErrURL). Call Ready to find out whether the database can be used.
func Open(_ context.Context, url string, log *slog.Logger) (*Journal, error) {
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return nil, fmt.Errorf("%w: it does not begin with postgres://", journal.ErrURL)
	}
	if err := checkPath(url); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, badURL(err)
	}
	if err := checkHosts(config.ConnConfig); err != nil {
		return nil, err
	}
	configure(config, url)
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", journal.ErrURL, err)
	}
	j := &Journal{pool: pool, log: log, reads: make(chan struct{}, max(1, config.MaxConns-reserved))}
	j.life, j.end = context.WithCancel(context.Background())
	return j, nil
}

// configure sets what the URL leaves open, and what the journal depends on.
func configure(config *pgxpool.Config, url string) {
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = connections
	}
	config.MaxConns = max(config.MaxConns, reserved+1)
	conn := config.ConnConfig
	if conn.ConnectTimeout <= 0 {
		conn.ConnectTimeout = connectTimeout
	}
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = "barrage"
	}
	// Plans must stay with the indexes, also when they are made while the tables are empty; compiling them never pays.
	settings := "SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off; SET jit = off"
	if conn.RuntimeParams["statement_timeout"] == "" {
		settings += fmt.Sprintf("; SET statement_timeout = %d", statementTimeout.Milliseconds())
	}
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, settings, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	config.PingTimeout = 2 * time.Second
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > time.Second || pending(p.Conn.PgConn().Conn())
	}
}

// Shared implements journal.Journal: it is.
func (j *Journal) Shared() bool { return true }

// Lanes implements journal.Laner.
func (j *Journal) Lanes() int { return lanes }

// Close breaks off the calls under way and closes all connections.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closed.Store(true)
	j.mu.Unlock()
	j.end()
	j.running.Wait()
	j.pool.Close()
	return nil
}

// bound returns a context for one call, which ends with the journal and after limit.
func (j *Journal) bound(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(j.life, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// connect returns a connection to a database that is set up. Its error means that nothing was sent.
func (j *Journal) connect(ctx context.Context) (*pgxpool.Conn, error) {
	if err := j.ensure(ctx); err != nil {
		if errors.Is(err, journal.ErrNewerSchema) || errors.Is(err, journal.ErrUnavailable) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", journal.ErrUnavailable, err)
	}
	c, err := j.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", journal.ErrUnavailable, err)
	}
	return c, nil
}

// query runs f, which only reads, with a connection, and once more with another when that one turns out to be broken.
func (j *Journal) query(ctx context.Context, f func(ctx context.Context, c *pgxpool.Conn) error) error {
	ctx, cancel := j.bound(ctx, callTimeout)
	defer cancel()
	select {
	case j.reads <- struct{}{}:
		defer func() { <-j.reads }()
	case <-ctx.Done():
		return fmt.Errorf("%w: all connections for reading are busy: %w", journal.ErrUnavailable, ctx.Err())
	}
	for again := true; ; again = false {
		c, err := j.connect(ctx)
		if err != nil {
			return err
		}
		err = f(ctx, c)
		c.Release()
		err = j.explain(err)
		if !again || !errors.Is(err, errLost) || ctx.Err() != nil {
			return err
		}
	}
}

// failed finishes a call: it adds what was attempted to its error, and logs when the database goes away or comes back.
func (j *Journal) failed(what string, err error) error {
	switch {
	case err == nil:
		if j.down.CompareAndSwap(true, false) {
			j.log.Info("the journal's database is available again")
		}
		return nil
	case j.closed.Load() && !errors.Is(err, journal.ErrUncertain):
		err = journal.ErrClosed
	case errors.Is(err, journal.ErrUnavailable) && !errors.Is(err, context.Canceled):
		if j.down.CompareAndSwap(false, true) {
			j.log.Warn("the journal's database is unavailable", "error", err)
		}
	}
	return fmt.Errorf("postgres: %s: %w", what, err)
}
