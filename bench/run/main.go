// Command run measures a node beside the floor, the least that any server could do, and prints one table with the ratios and
// whether they are as good as they must be.
//
// Each case runs against what it is compared with and against the node, one directly after the other, each time freshly started
// on loopback. All clients are those of "barrage bench". Figures of one table may be compared with each other and with nothing
// else.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"barrage/internal/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	barrage, floor, json, only string
	duration                   time.Duration
	scale                      float64
	rounds                     int
	list                       bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&o.barrage, "barrage", "bin/barrage", "the program to measure, which also is the load generator")
	flags.StringVar(&o.floor, "floor", "bin/floor", "the floor")
	flags.StringVar(&o.json, "json", "bin/bench.json", "file for all results")
	flags.StringVar(&o.only, "only", "", "only cases whose name contains this")
	flags.DurationVar(&o.duration, "duration", 6*time.Second, "how long a case measures, unless it needs longer")
	flags.Float64Var(&o.scale, "scale", 1, "this many times the connections and rooms, and of the rate of many rooms")
	flags.IntVar(&o.rounds, "rounds", 1, "how often everything is run; the table shows medians")
	flags.BoolVar(&o.list, "list", false, "only tell the names of the cases")
	if err := flags.Parse(args); err != nil {
		return err
	}
	path, err := filepath.Abs(o.barrage)
	if err != nil {
		return err
	}
	if err := os.Setenv("BARRAGE_TEST_BINARY", path); err != nil { // what the nodes are started from
		return err
	}
	r := report{Began: time.Now(), Machine: machine.Describe()}
	for _, c := range cases(&o) {
		if strings.Contains(c.name, o.only) {
			r.cases = append(r.cases, c)
		}
	}
	if o.list {
		for _, c := range r.cases {
			fmt.Fprintln(out, c.name)
		}
		return nil
	}
	return r.all(ctx, &o, out)
}

// all measures every case in every round, writes the file and the table.
func (r *report) all(ctx context.Context, o *options, out io.Writer) error {
	for round := range o.rounds {
		for i := range r.cases {
			c := &r.cases[i]
			for _, s := range c.sides() {
				fmt.Fprintf(os.Stderr, "round %d: %s: %s\n", round+1, c.name, s.name)
				m, err := measure(ctx, o, c, s)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", c.name, s.name, err)
				}
				r.Runs = append(r.Runs, m)
			}
		}
	}
	r.Seconds = time.Since(r.Began).Seconds()
	r.judge()
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.json, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return r.write(out)
}
