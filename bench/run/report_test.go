package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"barrage/internal/load"
)

func runOf(name, side string, cpu, p99 float64) measurement {
	return measurement{Case: name, Side: side, Result: load.Result{
		Traffic: &load.Traffic{ServerCPUus: cpu, Latency: load.Quantiles{P99: p99}},
	}}
}

func TestTableComparesMedians(t *testing.T) {
	r := report{
		cases: []benchCase{{name: "busy", ours: node(nil), beside: floor(nil), figures: traffic(1.25, 1.5)}},
		Runs: []measurement{
			runOf("busy", "floor", 2, 10), runOf("busy", "barrage", 90, 16),
			runOf("busy", "floor", 2, 10), runOf("busy", "barrage", 2.5, 16),
			runOf("busy", "floor", 8, 10), runOf("busy", "barrage", 1, 16),
		},
	}
	r.judge()
	var out strings.Builder
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	table := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"busy CPU µs per delivery floor 2.000 2.500 1.25 at most 1.25 times reached",
		"latency p99 ms 10.00 16.00 1.60 at most 1.5 times MISSED",
		"lost, repeated, out of order 0 0 0 reached",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table tells %q, got\n%s", want, out.String())
		}
	}
}

func TestOneBoundIsEnough(t *testing.T) {
	f := figure{ratio: 1.5, most: 45}
	for _, tc := range []struct {
		ours, floor float64
		want        bool
	}{{40, 10, true}, {50, 40, true}, {50, 10, false}} {
		if got := f.reached(tc.ours, tc.floor); got != tc.want {
			t.Errorf("%g beside %g is reached: %v, got %v", tc.ours, tc.floor, tc.want, got)
		}
	}
	if f = messageRate.atLeast(100); f.reached(99, 0) || !f.reached(100, 0) {
		t.Error("at least 100 is 100 and more")
	}
}

func TestCasesAreScaled(t *testing.T) {
	o := options{scale: 0.01, duration: time.Second}
	names := map[string]bool{}
	for _, c := range cases(&o) {
		if names[c.name] || len(c.figures) == 0 {
			t.Errorf("case %s has a name of its own and figures", c.name)
		}
		names[c.name] = true
		for _, s := range c.sides() {
			args := strings.Join(s.args, " ")
			if !strings.Contains(args, "--connections 100 ") && !strings.Contains(args, "--connections 180 ") {
				t.Errorf("case %s has a hundredth of the connections, got %s", c.name, args)
			}
		}
	}
}

func TestTheLongestPauseIsBounded(t *testing.T) {
	before, err := parsePauses(strings.NewReader("barrage_gc_pause_seconds_bucket{le=\"0.001\"} 3\nbarrage_gc_pause_seconds_bucket{le=\"0.005\"} 3\n" +
		"barrage_gc_pause_seconds_bucket{le=\"0.1\"} 4\nbarrage_gc_pause_seconds_bucket{le=\"+Inf\"} 4\nbarrage_other 7\n"))
	if err != nil || before[math.Inf(1)] != 4 {
		t.Fatalf("buckets are read, got %v, %v", before, err)
	}
	after := collected{0.001: 5, 0.005: 9, 0.1: 10, math.Inf(1): 10}
	if n, most := after.since(before); n != 6 || most != 5 {
		t.Errorf("6 more pauses took up to 5 ms, got %d, %g", n, most)
	}
}
