//go:build system

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
)

// TestMain lets the program of the tests be the audience too, as the demonstration starts itself for that.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == audienceCommand {
		exit(runAudience(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestDemonstrationInSmall(t *testing.T) {
	root, err := testserver.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	st := &stage{progress: &progress, settings: settings{
		Trace: filepath.Join(root, "testdata", "traces", "small.csv"), Busiest: 10 * time.Second, Speed: 2,
		Subscribers: 150, Processes: 2, Nodes: 3, KillAt: 0.4, RestartAfter: time.Second, Channel: "live",
	}}
	defer st.close()
	r, err := st.play()
	if err != nil {
		t.Fatalf("the demonstration runs to its end: %v\n%s", err, progress.String())
	}
	var table strings.Builder
	if err := write(&table, r, false); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
	if err := r.verdict(); err != nil {
		t.Errorf("%v\n%s", err, progress.String())
	}
	if len(r.OnNodes) != 3 || r.CPU["node a"] <= 0 || r.Replay["failed"] != 0.0 && r.Replay["failed"] != nil {
		t.Errorf("subscribers were on three nodes, CPU time was measured, and every publish was stored: %v, %v, %v", r.OnNodes, r.CPU, r.Replay)
	}
	var object strings.Builder
	if err := write(&object, r, true); err != nil || !strings.Contains(object.String(), `"out_of_order": 0`) {
		t.Errorf("--json prints one object with the same figures: %v\n%s", err, object.String())
	}
}
