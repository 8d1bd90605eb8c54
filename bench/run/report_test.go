package main

import (
	"strings"
	"testing"

	"barrage/internal/load"
)

func runOf(name, server string, cpu, p99 float64) measurement {
	return measurement{name, server, load.Result{Traffic: &load.Traffic{ServerCPUus: cpu, Latency: load.Quantiles{P99: p99}}}}
}

func TestTableComparesMedians(t *testing.T) {
	r := report{Runs: []measurement{
		runOf("1 room, 100/s", "floor", 2, 10), runOf("1 room, 100/s", "barrage", 90, 16),
		runOf("1 room, 100/s", "floor", 2, 10), runOf("1 room, 100/s", "barrage", 2.5, 16),
		runOf("1 room, 100/s", "floor", 8, 10), runOf("1 room, 100/s", "barrage", 1, 16),
	}}
	var out strings.Builder
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	table := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"1 room, 100/s CPU µs per delivery 2.000 2.500 1.25 at most 1.25 times: reached",
		"latency p99 ms 10.00 16.00 1.60 at most 1.5 times: MISSED",
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
		want        string
	}{{40, 10, "reached"}, {50, 40, "reached"}, {50, 10, "MISSED"}} {
		if got := f.verdict(tc.ours, tc.floor); !strings.HasSuffix(got, tc.want) {
			t.Errorf("%g beside %g is %s, got %q", tc.ours, tc.floor, tc.want, got)
		}
	}
}

func TestCasesAreScaled(t *testing.T) {
	o := options{scale: 0.01}
	for _, c := range cases(&o) {
		if args := strings.Join(c.args, " "); !strings.Contains(args, "--connections 100") || len(figuresOf(c.Name)) == 0 {
			t.Errorf("case %s has a hundredth of the connections, got %s", c.Name, args)
		}
	}
}
