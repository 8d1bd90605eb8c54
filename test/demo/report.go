package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"barrage/internal/load"
	"barrage/internal/machine"
)

// report is the outcome, as --json prints it.
type report struct {
	Machine     machine.Description `json:"machine"`
	Trace       string              `json:"trace"`
	Speed       float64             `json:"speed"`
	Seconds     float64             `json:"seconds"`
	Nodes       int                 `json:"nodes"`
	Subscribers int                 `json:"subscribers"`
	// OnNodes is how many subscribers were on each node at the start.
	OnNodes map[string]int `json:"on_nodes"`
	// Killed is the node that was killed; empty for none.
	Killed string `json:"killed,omitempty"`

	Messages   uint64 `json:"messages"`
	Deliveries uint64 `json:"deliveries"`
	Expected   uint64 `json:"expected"`
	Lost       uint64 `json:"lost"`
	Repeated   uint64 `json:"repeated"`
	OutOfOrder uint64 `json:"out_of_order"`
	Resets     uint64 `json:"resets"`
	// Errors are lines and frames that no subscriber should be sent.
	Errors uint64 `json:"errors"`
	Bytes  uint64 `json:"bytes"`

	Reconnects int `json:"reconnects"`
	// Pause is from the loss of a connection to the welcome on the next one.
	Pause load.Quantiles `json:"pause"`
	// Latency is from the time that the journal gave the message to its arrival at a subscriber.
	Latency load.Quantiles `json:"latency"`

	// CPU is the time that processes used during the replay, in seconds.
	CPU         usage  `json:"cpu_seconds"`
	MachineBusy string `json:"machine_busy"`
	// Replay is what barrage replay reported.
	Replay map[string]any `json:"replay"`

	latency, pauses load.Histogram
}

// add counts what one process of the audience found.
func (r *report) add(f *findings) {
	r.Deliveries += f.Deliveries
	r.Lost += f.Lost
	r.Repeated += f.Repeated
	r.OutOfOrder += f.OutOfOrder
	r.Resets += f.Resets
	r.Errors += f.Errors
	r.Bytes += f.Bytes
	r.Reconnects += f.Reconnects
	r.latency.Merge(&f.Latency)
	r.pauses.Merge(&f.Pauses)
	if r.OnNodes == nil {
		r.OnNodes = map[string]int{}
	}
	for node, n := range f.Nodes {
		r.OnNodes[node] += n
	}
}

func (r *report) summarise() {
	r.Latency, r.Pause = r.latency.Quantiles(), r.pauses.Quantiles()
}

// verdict is an error unless every subscriber had every message once and in order.
func (r *report) verdict() error {
	switch {
	case r.Messages == 0:
		return fmt.Errorf("no message was published")
	case r.Deliveries != r.Expected || r.Lost+r.Repeated+r.OutOfOrder+r.Resets+r.Errors > 0:
		return fmt.Errorf("not every subscriber had every message once and in order: %d deliveries, expected %d; lost %d, repeated %d, out of order %d, resets %d, errors %d",
			r.Deliveries, r.Expected, r.Lost, r.Repeated, r.OutOfOrder, r.Resets, r.Errors)
	case r.Killed != "" && r.Reconnects == 0:
		return fmt.Errorf("node %s was killed and nobody had to reconnect: it had no subscribers", r.Killed)
	}
	return nil
}

// table prints the report for people.
func (r *report) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("machine", "%v", r.Machine)
	row("messages", "%d in %.0f s", r.Messages, r.Seconds)
	row("subscribers", "%d on %d nodes (%s)", r.Subscribers, r.Nodes, list(r.OnNodes, "%s %d"))
	row("deliveries", "%d of %d", r.Deliveries, r.Expected)
	row("lost", "%d", r.Lost)
	row("repeated", "%d", r.Repeated)
	row("out of order", "%d", r.OutOfOrder)
	row("resets", "%d", r.Resets)
	if r.Errors > 0 {
		row("errors", "%d", r.Errors)
	}
	if r.Killed != "" {
		row("node killed", "%s; %d subscribers came back", r.Killed, r.Reconnects)
		row("pause", "%v", r.Pause)
	}
	row("latency", "%v", r.Latency)
	row("CPU seconds", "%s", list(r.CPU, "%s %.1f"))
	row("machine busy", "%s", r.MachineBusy)
	return t.Flush()
}

// list is the entries of a map in the order of their keys.
func list[V any](m map[string]V, format string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf(format, key, m[key]))
	}
	return strings.Join(parts, ", ")
}
