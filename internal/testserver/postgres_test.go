//go:build system

package testserver

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPostgresKeepsItsDataOverStopAndKill(t *testing.T) {
	p, err := StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(p.dir); !os.IsNotExist(err) {
			t.Errorf("Close leaves %s behind", p.dir)
		}
	}()
	exec := func(sql string) (n int) {
		t.Helper()
		conn, err := pgx.Connect(context.Background(), p.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if err := conn.QueryRow(context.Background(), sql).Scan(&n); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(err)
		}
		return n
	}
	exec("CREATE TABLE t AS SELECT 7 AS n")
	for name, end := range map[string]func() error{"Stop": p.Stop, "Kill": p.Kill} {
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := p.Start(); err != nil {
			t.Fatalf("Start after %s: %v", name, err)
		}
		if n := exec("SELECT n FROM t"); n != 7 {
			t.Errorf("after %s and Start the table holds %d, want 7", name, n)
		}
	}
}
