package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	Trace        string
	Busiest      time.Duration
	Speed        float64
	Subscribers  int
	Processes    int
	Nodes        int
	KillAt       float64
	RestartAfter time.Duration
	Channel      string
	JSON         bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == audienceCommand {
		exit(runAudience(os.Args[2:]))
	}
	var s settings
	flag.StringVar(&s.Trace, "trace", "", "recorded chat: a CSV file with the columns t_ms, author, bytes")
	flag.DurationVar(&s.Busiest, "busiest", 5*time.Minute, "play the busiest stretch of this length; 0 plays everything")
	flag.Float64Var(&s.Speed, "speed", 1, "1 is the true speed")
	flag.IntVar(&s.Subscribers, "subscribers", 3000, "subscribers of the channel, on all nodes")
	flag.IntVar(&s.Processes, "processes", 2, "processes that the subscribers run in")
	flag.IntVar(&s.Nodes, "nodes", 3, "nodes of the cluster")
	flag.Float64Var(&s.KillAt, "kill-at", 0.5, "kill -9 a node after this part of the time; 0 kills none")
	flag.DurationVar(&s.RestartAfter, "restart-after", 30*time.Second, "start the killed node again after this time; 0 leaves it dead")
	flag.StringVar(&s.Channel, "channel", "live", "name of the channel")
	flag.BoolVar(&s.JSON, "json", false, "print one JSON object instead of a table")
	flag.Parse()
	if s.Trace == "" || flag.NArg() > 0 || s.Subscribers < 1 || s.Processes < 1 || s.Nodes < 1 || s.Speed <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	exit(run(s))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run does the whole demonstration and prints its report.
func run(s settings) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	show := &stage{settings: s, interrupted: interrupted, progress: os.Stderr}
	defer show.close()
	r, err := show.play()
	if err != nil {
		return err
	}
	if err := write(os.Stdout, r, s.JSON); err != nil {
		return err
	}
	return r.verdict()
}

func write(w io.Writer, r *report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.table(w)
}
