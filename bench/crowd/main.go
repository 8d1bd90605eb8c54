// Command crowd measures one room with very many connections on a cluster: six nodes, PostgreSQL and Redis, all on this machine,
// and the busiest part of a recorded chat at its true speed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"barrage/internal/crowd"
	"barrage/internal/trace"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-100k:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o := crowd.Options{Log: os.Stderr}
	var binary, file string
	var busiest time.Duration
	var asJSON bool
	flags := flag.NewFlagSet("crowd", flag.ContinueOnError)
	flags.StringVar(&binary, "barrage", "bin/barrage", "the program to measure, which also is the load generator")
	flags.IntVar(&o.Connections, "connections", 100_000, "how many connections read")
	flags.IntVar(&o.Nodes, "nodes", 6, "on how many nodes")
	flags.IntVar(&o.Processes, "processes", 0, "by how many client processes; 0 means as many as nodes")
	flags.Float64Var(&o.ConnectRate, "connect-rate", 3000, "how many connections are opened in a second")
	flags.StringVar(&file, "trace", "testdata/traces/small.csv", "the recorded chat to play")
	flags.DurationVar(&busiest, "busiest", 2*time.Minute, "play only the part of this length with the most messages")
	flags.Float64Var(&o.Speed, "speed", 1, "how many times as fast as it was recorded")
	flags.DurationVar(&o.Merge, "merge", 2*time.Second, "merge window of the nodes; 0 leaves it to them")
	flags.StringVar(&o.Path, "path", "/raw/{room}", "the path of a room on the nodes")
	flags.DurationVar(&o.Idle, "idle", 10*time.Second, "how long the connections are left alone before")
	flags.DurationVar(&o.Drain, "drain", 30*time.Second, "how long to wait for deliveries after the last message")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object instead of the table")
	if err := flags.Parse(args); err != nil {
		return err
	}
	path, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	if err := os.Setenv("BARRAGE_TEST_BINARY", path); err != nil {
		return err
	}
	if o.Trace, err = window(file, busiest); err != nil {
		return err
	}
	if o.Merge > 0 {
		o.Serve = []string{"--namespaces", "default:merge=" + o.Merge.String()}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	o.Files = int(min(limit.Max, 1<<20)) - 100
	r, err := crowd.Run(ctx, o)
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", " ")
		err = e.Encode(r)
	} else {
		err = r.Write(out)
	}
	if err == nil && !r.Reached() {
		err = errors.New("not everything that was asked for was reached")
	}
	return err
}

// window reads the busiest part of a trace.
func window(file string, d time.Duration) ([]trace.Entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := trace.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	from, to := trace.Busiest(entries, d)
	return trace.Window(entries, from, to), nil
}
