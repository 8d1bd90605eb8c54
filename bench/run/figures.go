package main

import (
	"fmt"
	"strings"
	"time"

	"barrage/internal/load"
)

// figure is one line of a case: a number to compare, and what it must be.
type figure struct {
	name   string
	format string
	value  func(m *measurement) float64
	// ratio is the most that the number may be of the one beside it, most the most that it may be itself; one of the two is
	// enough. least is what it must be at least. 0 means that there is no such bound.
	ratio, most, least float64
	// zero says that it must be 0.
	zero bool
}

// atMost gives f bounds.
func (f figure) atMost(ratio, most float64) figure {
	f.ratio, f.most = ratio, most
	return f
}

// atLeast gives f a bound.
func (f figure) atLeast(least float64) figure {
	f.least = least
	return f
}

func number(name, format string, value func(r *load.Result) float64) figure {
	return figure{name: name, format: format, value: func(m *measurement) float64 { return value(&m.Result) }}
}

func count(name string, value func(r *load.Result) int64) figure {
	return number(name, "%.0f", func(r *load.Result) float64 { return float64(value(r)) })
}

var (
	connectCPU  = number("CPU µs per connect", "%.1f", func(r *load.Result) float64 { return r.Connect.ServerCPUus })
	connectRate = number("connects/s", "%.0f", func(r *load.Result) float64 { return r.Connect.PerSecond })
	idleBytes   = number("bytes per connection", "%.0f", func(r *load.Result) float64 { return r.Idle.BytesPerConnection })
	idleCPU     = number("CPU % of a processor", "%.2f", func(r *load.Result) float64 { return r.Idle.CPUPercent })
	messageCPU  = number("CPU µs per message", "%.0f", func(r *load.Result) float64 { return r.Traffic.ServerCPUusPerMessage })
	messageRate = number("messages/s", "%.0f", func(r *load.Result) float64 {
		return float64(r.Traffic.MeasuredMessages) / r.MeasuredSeconds
	})
	pause  = figure{name: "longest pause of the collector ms", format: "%.2f", value: func(m *measurement) float64 { return m.PauseMax }}
	pauses = figure{name: "pauses of the collector", format: "%.0f", value: func(m *measurement) float64 { return float64(m.Pauses) }}
)

// stalledFigures say what became of those that did not read.
var stalledFigures = []figure{
	count("stalled", func(r *load.Result) int64 { return int64(r.Stalled) }),
	count("… ended by the server", func(r *load.Result) int64 { return int64(r.Dropped) }),
	count("… caught up at the end", func(r *load.Result) int64 { return int64(r.CaughtUp) }),
	count("… had missed some", func(r *load.Result) int64 { return int64(r.Skipped) }),
}

// traffic are the figures of messages; cpu and p99 bound the ratios of these, 0 not at all.
func traffic(cpu, p99 float64) []figure {
	lost := count("lost, repeated, out of order", func(r *load.Result) int64 {
		t := r.Traffic
		return t.Lost + t.Repeated + t.OutOfOrder + t.Unsent + int64(r.Closed)
	})
	lost.zero = true
	return []figure{
		number("CPU µs per delivery", "%.3f", func(r *load.Result) float64 { return r.Traffic.ServerCPUus }).atMost(cpu, 0),
		number("deliveries/s", "%.0f", func(r *load.Result) float64 { return r.Traffic.DeliveriesPerSecond }),
		number("latency p50 ms", "%.2f", func(r *load.Result) float64 { return r.Traffic.Latency.P50 }),
		number("latency p99 ms", "%.2f", func(r *load.Result) float64 { return r.Traffic.Latency.P99 }).atMost(p99, 0),
		lost,
		number("generator µs per delivery", "%.3f", func(r *load.Result) float64 { return r.Traffic.GeneratorCPUus }),
		number("others % of a processor", "%.0f", func(r *load.Result) float64 { return r.Traffic.OthersPercent }),
	}
}

// asks says what a number must be; empty when nothing is asked.
func (f *figure) asks() string {
	var asked []string
	if f.zero {
		asked = append(asked, "0")
	}
	if f.ratio > 0 {
		asked = append(asked, fmt.Sprintf("at most %g times", f.ratio))
	}
	if f.most > 0 {
		asked = append(asked, fmt.Sprintf("at most %g", f.most))
	}
	if f.least > 0 {
		asked = append(asked, fmt.Sprintf("at least %g", f.least))
	}
	return strings.Join(asked, " or ")
}

// reached says whether a number is what it must be.
func (f *figure) reached(ours, beside float64) bool {
	return f.zero && ours == 0 || f.ratio > 0 && ours <= f.ratio*beside || f.most > 0 && ours <= f.most || f.least > 0 && ours >= f.least
}

func durationOf(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}
