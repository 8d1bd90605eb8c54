package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"barrage/internal/load"
)

// report is everything that was measured.
type report struct {
	Began   time.Time     `json:"began"`
	Seconds float64       `json:"seconds"`
	Machine machine       `json:"machine"`
	Runs    []measurement `json:"runs"`
}

// machine is what it was measured on.
type machine struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	// Load is the load average when the run began: of what else the machine did.
	Load string `json:"load"`
}

func thisMachine() machine {
	m := machine{CPU: runtime.GOARCH, Processors: runtime.NumCPU(), Go: runtime.Version()}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	average, _ := os.ReadFile("/proc/loadavg")
	m.Load = strings.TrimSpace(string(average))
	return m
}

// figure is one line of a case: a number to compare with the floor's, and what it must not exceed.
type figure struct {
	name   string
	format string
	value  func(r *load.Result) float64
	// ratio is the most that the number may be of the floor's, most the most that it may be itself; 0 means that there is no bound.
	ratio, most float64
}

// figuresOf tells which lines a case has.
func figuresOf(name string) []figure {
	cpu := figure{"CPU µs per delivery", "%.3f", func(r *load.Result) float64 { return r.Traffic.ServerCPUus }, 0, 0}
	p99 := figure{"latency p99 ms", "%.2f", func(r *load.Result) float64 { return r.Traffic.Latency.P99 }, 0, 0}
	switch {
	case name == nameStorm:
		return []figure{
			{"CPU µs per connect", "%.1f", func(r *load.Result) float64 { return r.Connect.ServerCPUus }, 1.5, 45},
			{"connects/s", "%.0f", func(r *load.Result) float64 { return r.Connect.PerSecond }, 0, 0},
		}
	case name == nameIdle:
		return []figure{
			{"bytes per connection", "%.0f", func(r *load.Result) float64 { return r.Idle.BytesPerConnection }, 0, 600},
			{"CPU %", "%.2f", func(r *load.Result) float64 { return r.Idle.CPUPercent }, 0, 0},
		}
	case name == "1 room, 100/s":
		cpu.ratio, p99.ratio = 1.25, 1.5
	case strings.HasPrefix(name, "1 room"):
		cpu.ratio = 1.25
	case strings.HasSuffix(name, "10000/s"):
		cpu.ratio, p99.ratio = 1.5, 2
	}
	return []figure{
		cpu,
		{"deliveries/s", "%.0f", func(r *load.Result) float64 { return r.Traffic.DeliveriesPerSecond }, 0, 0},
		{"latency p50 ms", "%.2f", func(r *load.Result) float64 { return r.Traffic.Latency.P50 }, 0, 0},
		p99,
		{"lost, repeated, out of order", "%.0f", func(r *load.Result) float64 {
			t := r.Traffic
			return float64(t.Lost + t.Repeated + t.OutOfOrder + t.Unsent)
		}, 0, 0},
		{"generator µs per delivery", "%.3f", func(r *load.Result) float64 { return r.Traffic.GeneratorCPUus }, 0, 0},
		{"others % of a processor", "%.0f", func(r *load.Result) float64 { return r.Traffic.OthersPercent }, 0, 0},
	}
}

// median of what a server reached in a case, over all rounds.
func (r *report) median(name, server string, value func(*load.Result) float64) float64 {
	var all []float64
	for i := range r.Runs {
		if m := &r.Runs[i]; m.Case == name && m.Server == server {
			all = append(all, value(&m.Result))
		}
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// write writes the table.
func (r *report) write(out io.Writer) error {
	fmt.Fprintf(out, "%s, %d processors, Linux %s, %s, load %s\n%s, %.0f s in all\n\n", r.Machine.CPU, r.Machine.Processors,
		r.Machine.Kernel, r.Machine.Go, r.Machine.Load, r.Began.Format(time.DateTime), r.Seconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\tfigure\tfloor\tbarrage\tratio\tmust be\t")
	var seen []string
	for _, run := range r.Runs {
		if slices.Contains(seen, run.Case) {
			continue
		}
		seen = append(seen, run.Case)
		for i, f := range figuresOf(run.Case) {
			name := run.Case
			if i > 0 {
				name = ""
			}
			floor, ours := r.median(run.Case, "floor", f.value), r.median(run.Case, "barrage", f.value)
			fmt.Fprintf(w, "%s\t%s\t"+f.format+"\t"+f.format+"\t%s\t%s\t\n", name, f.name, floor, ours, ratio(ours, floor), f.verdict(ours, floor))
		}
	}
	return w.Flush()
}

func ratio(ours, floor float64) string {
	if floor <= 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", ours/floor)
}

// verdict says what is asked for and whether it holds: one of the bounds is enough.
func (f *figure) verdict(ours, floor float64) string {
	var asked []string
	good := false
	if f.ratio > 0 {
		asked = append(asked, fmt.Sprintf("at most %g times", f.ratio))
		good = ours <= f.ratio*floor
	}
	if f.most > 0 {
		asked = append(asked, fmt.Sprintf("at most %g", f.most))
		good = good || ours <= f.most
	}
	if len(asked) == 0 {
		return ""
	}
	return strings.Join(asked, " or ") + cmp.Or(map[bool]string{true: ": reached"}[good], ": MISSED")
}
