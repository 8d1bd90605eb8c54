// Command run measures a node beside the floor, the least that any server could do, and prints one table with the ratios.
//
// Each case runs against both, one directly after the other, each time against a freshly started server on loopback. All
// clients are those of "barrage bench". Figures of one table may be compared with each other and with nothing else.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"barrage/internal/load"
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
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&o.barrage, "barrage", "bin/barrage", "the program to measure, which also is the load generator")
	flags.StringVar(&o.floor, "floor", "bin/floor", "the floor")
	flags.StringVar(&o.json, "json", "bin/bench.json", "file for all results")
	flags.StringVar(&o.only, "only", "", "only cases whose name contains this")
	flags.DurationVar(&o.duration, "duration", 8*time.Second, "how long each case measures")
	flags.Float64Var(&o.scale, "scale", 1, "this many times the connections and rooms, and of the rate of many rooms")
	flags.IntVar(&o.rounds, "rounds", 1, "how often everything is run; the table shows medians")
	if err := flags.Parse(args); err != nil {
		return err
	}
	report := report{Began: time.Now(), Machine: thisMachine()}
	for round := range o.rounds {
		for _, c := range cases(&o) {
			if !strings.Contains(c.Name, o.only) {
				continue
			}
			for _, s := range servers(&o) {
				fmt.Fprintf(os.Stderr, "round %d: %s: %s\n", round+1, c.Name, s.name)
				m, err := measure(ctx, &o, c, s)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", c.Name, s.name, err)
				}
				report.Runs = append(report.Runs, m)
			}
		}
	}
	report.Seconds = time.Since(report.Began).Seconds()
	text, err := json.MarshalIndent(&report, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.json, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return report.write(out)
}

// benchCase is one row: what "barrage bench" is told besides the addresses.
type benchCase struct {
	Name string
	args []string
}

func cases(o *options) []benchCase {
	n := func(count float64) string { return strconv.Itoa(max(1, int(count*o.scale))) }
	send := func(connections, rooms, rate string) []string {
		return []string{
			"--connections", connections, "--rooms", rooms, "--rate", rate, "--size", "128", "--warmup", "2s",
			"--duration", o.duration.String(), "--drain", "10s",
		}
	}
	all := []benchCase{
		{nameStorm, []string{"--connections", n(10_000), "--storm"}},
		{nameIdle, []string{"--connections", n(10_000), "--idle", o.duration.String()}},
	}
	for _, rate := range []string{"5", "20", "50", "100"} {
		all = append(all, benchCase{"1 room, " + rate + "/s", send(n(10_000), "1", rate)})
	}
	for _, rate := range []float64{1_000, 10_000} {
		all = append(all, benchCase{fmt.Sprintf("1,000 rooms, %g/s", rate), send(n(10_000), n(1_000), n(rate))})
	}
	return all
}

const (
	nameStorm = "storm"
	nameIdle  = "idle"
)

// server is what is measured.
type server struct {
	name string
	// command starts it on a port of 127.0.0.1, with a folder of its own.
	command func(ctx context.Context, port int, dir string) *exec.Cmd
}

func servers(o *options) []server {
	return []server{
		{"floor", func(ctx context.Context, port int, _ string) *exec.Cmd {
			return exec.CommandContext(ctx, o.floor, "--port", strconv.Itoa(port))
		}},
		{"barrage", func(ctx context.Context, port int, dir string) *exec.Cmd {
			return exec.CommandContext(ctx, o.barrage, "serve", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--data", dir,
				"--journal", "memory:", "--broker", "local:", "--log-level", "warn")
		}},
	}
}

// measurement is one run of one case against one server.
type measurement struct {
	Case   string      `json:"case"`
	Server string      `json:"server"`
	Result load.Result `json:"result"`
}

// measure starts a server, runs a case against it and ends it.
func measure(ctx context.Context, o *options, c benchCase, s server) (measurement, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return measurement{}, err
	}
	defer os.RemoveAll(dir)
	port, err := freePort()
	if err != nil {
		return measurement{}, err
	}
	cmd := s.command(ctx, port, filepath.Join(dir, "data"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return measurement{}, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	defer func() {
		_ = cmd.Process.Kill() // there is nothing that it should keep
		<-ended
	}()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if err := reachable(ctx, address, ended); err != nil {
		return measurement{}, err
	}
	url := "ws://" + address + "/raw/{room}"
	args := append([]string{
		"bench", "--json", "--quiet", "--url", url, "--publish-url", url + "?echo=0",
		"--server-pid", strconv.Itoa(cmd.Process.Pid),
	}, c.args...)
	bench := exec.CommandContext(ctx, o.barrage, args...)
	bench.Cancel = func() error { return bench.Process.Signal(os.Interrupt) }
	bench.WaitDelay = 5 * time.Second
	var errs bytes.Buffer
	bench.Stderr = &errs
	text, err := bench.Output()
	if err != nil {
		return measurement{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	m := measurement{Case: c.Name, Server: s.name}
	return m, json.Unmarshal(text, &m.Result)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// reachable waits until a server accepts connections.
func reachable(ctx context.Context, address string, ended <-chan struct{}) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	give := time.After(20 * time.Second)
	for {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		select {
		case <-ticker.C:
		case <-ended:
			return errors.New("the server ended")
		case <-give:
			return errors.New("the server accepts no connections")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
