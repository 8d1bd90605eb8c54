package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"barrage/journal"
)

// measureBare measures inserts into one table with a journal's columns, without index and without offsets, in batches of
// journal.MaxBatch rows, each batch a transaction: by one connection and, where the database lets several write, by two.
func measureBare(ctx context.Context, o *options, kind, url, path string) ([]bare, error) {
	fmt.Fprintf(os.Stderr, "%s: bare insert\n", kind)
	if kind == "sqlite" {
		b, err := timed(ctx, o, 1, func(ctx context.Context) (inserter, error) { return openSQLite(ctx, o, path) })
		b.Journal = kind
		return []bare{b}, err
	}
	if err := preparePostgres(ctx, url); err != nil {
		return nil, err
	}
	var out []bare
	for _, connections := range []int{1, 2} {
		b, err := timed(ctx, o, connections, func(ctx context.Context) (inserter, error) { return openPostgres(ctx, o, url) })
		if err != nil {
			return nil, err
		}
		b.Journal = kind
		out = append(out, b)
	}
	return out, nil
}

// inserter stores batches over one connection.
type inserter interface {
	insert(ctx context.Context) error
	close() error
}

// timed has connections insert until the time is up, and tells how many rows a second were committed while measuring.
func timed(ctx context.Context, o *options, connections int, connect func(context.Context) (inserter, error)) (bare, error) {
	all := make([]inserter, connections)
	for i := range all {
		var err error
		if all[i], err = connect(ctx); err != nil {
			return bare{}, err
		}
		defer all[i].close()
	}
	from := time.Now().Add(o.warmup)
	to := from.Add(o.duration)
	rows, failed := make([]int, connections), make([]error, connections)
	var m meter
	end := m.start(o.warmup)
	var work sync.WaitGroup
	for i, in := range all {
		work.Go(func() {
			for now := time.Now(); now.Before(to) && failed[i] == nil; now = time.Now() {
				if failed[i] = in.insert(ctx); failed[i] == nil && now.After(from) {
					rows[i] += journal.MaxBatch
				}
			}
		})
	}
	work.Wait()
	sum := 0
	for _, n := range rows {
		sum += n
	}
	b := bare{Connections: connections, PerSecond: float64(sum) / o.duration.Seconds(), CPUus: end(float64(sum))}
	return b, errors.Join(failed...)
}

// columns of one batch: everybody's values are alike.
type columns struct {
	users, clients []string
	data           [][]byte
	keys           []*string
}

func newColumns(size int) columns {
	c := columns{keys: make([]*string, journal.MaxBatch)}
	for i := range journal.MaxBatch {
		c.users = append(c.users, fmt.Sprint("user-", i%256))
		c.clients = append(c.clients, fmt.Sprintf("client-%08d", i%256))
		text := make([]byte, size)
		for k := range text {
			text[k] = byte('a' + k%26)
		}
		c.data = append(c.data, text)
	}
	return c
}

// barePostgres inserts by one statement for each batch.
type barePostgres struct {
	conn *pgx.Conn
	columns
}

func preparePostgres(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `DROP TABLE IF EXISTS barrage_bench_bare; CREATE TABLE barrage_bench_bare (
		channel_id bigint NOT NULL, "offset" bigint NOT NULL, time bigint NOT NULL, user_id text NOT NULL,
		client_id text NOT NULL, idem text COLLATE "C", data bytea NOT NULL)`)
	return errors.Join(err, conn.Close(ctx))
}

func openPostgres(ctx context.Context, o *options, url string) (inserter, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	return &barePostgres{conn, newColumns(o.size)}, nil
}

func (b *barePostgres) insert(ctx context.Context) error {
	_, err := b.conn.Exec(ctx, `INSERT INTO barrage_bench_bare SELECT 1, 1, $1, t.usr, t.cli, t.idem, t.data
		FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[]) AS t(usr, cli, idem, data)`,
		time.Now().UnixMilli(), b.users, b.clients, b.keys, b.data)
	return err
}

func (b *barePostgres) close() error { return b.conn.Close(context.Background()) }

// bareSQLite inserts by a statement for each row, as the journal does, in a transaction for each batch.
type bareSQLite struct {
	db   *sql.DB
	conn *sql.Conn
	stmt *sql.Stmt
	columns
}

func openSQLite(ctx context.Context, o *options, path string) (inserter, error) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return nil, err
	}
	b := &bareSQLite{db: db, columns: newColumns(o.size)}
	if b.conn, err = db.Conn(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	for _, statement := range []string{
		"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=4000", "PRAGMA cache_size=-65536",
		"DROP TABLE IF EXISTS bare",
		`CREATE TABLE bare (channel_id INTEGER NOT NULL, "offset" INTEGER NOT NULL, time INTEGER NOT NULL, user_id TEXT NOT NULL,
			client_id TEXT NOT NULL, idem TEXT, data BLOB NOT NULL) STRICT`,
	} {
		if _, err := b.conn.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	if b.stmt, err = b.conn.PrepareContext(ctx, "INSERT INTO bare VALUES (1, 1, ?, ?, ?, NULL, ?)"); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bareSQLite) insert(ctx context.Context) error {
	if _, err := b.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	for i := range b.users {
		if _, err := b.stmt.ExecContext(ctx, now, b.users[i], b.clients[i], b.data[i]); err != nil {
			return err
		}
	}
	_, err := b.conn.ExecContext(ctx, "COMMIT")
	return err
}

func (b *bareSQLite) close() error {
	var errs []error
	if b.stmt != nil {
		errs = append(errs, b.stmt.Close())
	}
	return errors.Join(append(errs, b.conn.Close(), b.db.Close())...)
}
