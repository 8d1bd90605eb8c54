package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// StartStandby starts a server that follows p by streaming replication, with the same options, and makes p wait for it with every
// commit: what p has acknowledged is at the standby. p must outlive it. Promote makes it a server of its own.
func (p *Postgres) StartStandby() (*Postgres, error) {
	standby, err := startPostgres(p.options, func(s *Postgres) error { return s.copyOf(p) })
	if err != nil {
		return nil, err
	}
	// The copy was taken before, so that nobody is waited for once it is promoted.
	_, err = p.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
	if err == nil {
		_, err = p.ask("SELECT pg_reload_conf()")
	}
	if err == nil {
		err = waitUntil(postgresLimit, "the standby was waited for", func() bool {
			state, err := p.ask("SELECT sync_state FROM pg_stat_replication")
			return err == nil && state == "sync"
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("testserver: start a standby: %w", err), standby.Close())
	}
	return standby, nil
}

// copyOf fills the data folder with a copy of what another server has, and the settings to follow it.
func (p *Postgres) copyOf(primary *Postgres) error {
	out, err := p.command("pg_basebackup", "-D", p.dataFolder(), "-d", primary.URL(), "-R", "-X", "stream", "-c", "fast", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	return os.WriteFile(filepath.Join(p.dataFolder(), "pg_hba.conf"), []byte(p.hostRules()), 0o600)
}

// Promote makes a standby take writes, and waits until it does.
func (p *Postgres) Promote() error {
	done, err := p.ask("SELECT pg_promote(true, 30)")
	if err == nil && done != "t" {
		err = errors.New("the standby was not promoted within 30 s")
	}
	return err
}

// ask runs one statement and returns the first value of its first row as text, empty when there is none.
func (p *Postgres) ask(statement string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, p.URL())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, statement).ReadAll()
	if err != nil {
		return "", fmt.Errorf("%s: %w", statement, err)
	}
	for _, r := range results {
		if len(r.Rows) > 0 && len(r.Rows[0]) > 0 {
			return string(r.Rows[0][0]), nil
		}
	}
	return "", nil
}
