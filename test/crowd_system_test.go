//go:build system

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barrage/internal/crowd"
	"barrage/internal/testserver"
	"barrage/internal/trace"
)

// The benchmark of 100,000 connections in one room, with fewer of them and a shorter trace.
func TestACrowdInOneRoomOfSixNodes(t *testing.T) {
	root, err := testserver.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(root, "testdata", "traces", "small.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, err := trace.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	from, to := trace.Busiest(entries, 8*time.Second)
	var progress strings.Builder
	r, err := crowd.Run(t.Context(), crowd.Options{
		Connections: 6000, Trace: trace.Window(entries, from, to), ConnectRate: 2000, Idle: time.Millisecond, Unsafe: true, Log: &progress,
	})
	if err != nil {
		t.Fatalf("the crowd is measured: %v\n%s", err, progress.String())
	}
	var table strings.Builder
	if err := r.Write(&table); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
	if !r.Flawless() {
		t.Errorf("every message reaches all 6,000 connections on six nodes once and in order:\n%s", table.String())
	}
	if r.Handshakes != 24 || r.Load.Connections != 6000 || r.IdleBytes <= 0 || len(r.Load.Servers) != 3 || r.Load.Processes < 7 {
		t.Errorf("24 connections went through nginx, and memory of nodes, Redis and PostgreSQL was measured, got %+v", r)
	}
}
