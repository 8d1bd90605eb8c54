package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"barrage/internal/machine"
)

// report is everything that was measured.
type report struct {
	Began   time.Time           `json:"began"`
	Seconds float64             `json:"seconds"`
	Machine machine.Description `json:"machine"`
	Rows    []row               `json:"rows"`
	Runs    []measurement       `json:"runs"`

	cases []benchCase
}

// row is one line of the table: medians over all rounds.
type row struct {
	Case   string  `json:"case"`
	Figure string  `json:"figure"`
	Ours   float64 `json:"barrage"`
	// Beside is the figure of what Other names; both are left out where nothing is measured beside a node.
	Beside float64 `json:"beside,omitempty"`
	Other  string  `json:"other,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"`
	// MustBe says what is asked for, and Verdict whether it was reached; empty where nothing is.
	MustBe  string `json:"must_be,omitempty"`
	Verdict string `json:"verdict,omitempty"`

	format string
}

// median of what a side reached in a case, over all rounds; ok is false when it was not measured.
func (r *report) median(name, side string, value func(*measurement) float64) (v float64, ok bool) {
	var all []float64
	for i := range r.Runs {
		if m := &r.Runs[i]; m.Case == name && m.Side == side {
			all = append(all, value(m))
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2, true
}

// judge makes the rows.
func (r *report) judge() {
	for i := range r.cases {
		c := &r.cases[i]
		for _, f := range c.figures {
			got, ok := r.median(c.name, c.ours.name, f.value)
			if !ok {
				continue
			}
			line := row{Case: c.name, Figure: f.name, Ours: got, MustBe: f.asks(), format: f.format}
			if c.beside != nil {
				line.Other = c.beside.name
				if line.Beside, _ = r.median(c.name, line.Other, f.value); line.Beside > 0 {
					line.Ratio = got / line.Beside
				}
			}
			if line.MustBe != "" {
				line.Verdict = "reached"
				if !f.reached(got, line.Beside) {
					line.Verdict = "MISSED"
				}
			}
			r.Rows = append(r.Rows, line)
		}
	}
}

// write writes the table.
func (r *report) write(out io.Writer) error {
	fmt.Fprintf(out, "%v\n%s, %.0f s in all\n\n", r.Machine, r.Began.Format(time.DateTime), r.Seconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\tfigure\tbeside\t\tbarrage\tratio\tmust be\t\t")
	last := ""
	for _, line := range r.Rows {
		name, other := line.Case, line.Other
		if name == last {
			name, other = "", ""
		}
		last = line.Case
		beside, ratio := "", ""
		if line.Other != "" {
			beside = fmt.Sprintf(line.format, line.Beside)
		}
		if line.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", line.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t"+line.format+"\t%s\t%s\t%s\t\n", name, line.Figure, other, beside, line.Ours, ratio, line.MustBe, line.Verdict)
	}
	return w.Flush()
}
