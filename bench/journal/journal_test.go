package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSQLiteIsMeasuredBesideABareInsert(t *testing.T) {
	var out strings.Builder
	args := []string{"--only", "sqlite", "--duration", "150ms", "--warmup", "50ms", "--publishers", "1,8", "--channels", "2", "--json"}
	if err := run(t.Context(), args, &out); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != 2 || len(r.Bare) != 2 {
		t.Fatalf("two cells stand between two bare inserts, got %+v", r)
	}
	for _, c := range r.Cells {
		if c.PerSecond <= 0 || c.P50 <= 0 || c.P99 < c.P50 || c.Batch < 1 || c.Ratio <= 0 || c.Channels != 2 {
			t.Errorf("a cell has a rate, latencies and a ratio, got %+v", c)
		}
	}
	var table strings.Builder
	if err := r.write(&table); err != nil || !strings.Contains(table.String(), "sqlite, bare insert") {
		t.Errorf("the table has the bare insert too, got %v\n%s", err, table.String())
	}
}

func TestTheBareInsertIsTheBetterOfOneAndTwoConnections(t *testing.T) {
	r := report{Bare: []bare{{"postgres", 1, 100, 0}, {"postgres", 2, 150, 0}, {"sqlite", 1, 999, 0}, {"postgres", 1, 300, 0}, {"postgres", 2, 170, 0}}}
	if got := r.best("postgres"); got != 200 {
		t.Errorf("one connection inserts 200 a second on average, two 160: want 200, got %g", got)
	}
	c := cell{Journal: "postgres", Publishers: 256, Channels: 1}
	r.Cells = []cell{{Journal: "postgres", Publishers: 256, Channels: 1, PerSecond: 100}, c, {Journal: "postgres", Publishers: 256, Channels: 1, PerSecond: 120}}
	if r.collapse(); len(r.Cells) != 1 || r.Cells[0].PerSecond != 100 || r.Cells[0].Ratio != 0.5 {
		t.Errorf("of 100, 0 and 120 the median is 100, half of 200, got %+v", r.Cells)
	}
	if got := verdict(0.61, c.bound()); got != "at least 60 %: reached" {
		t.Errorf("61 %% is enough, got %q", got)
	}
	if got := verdict(0.59, c.bound()); got != "at least 60 %: MISSED" {
		t.Errorf("59 %% is not, got %q", got)
	}
}
