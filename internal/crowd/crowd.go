// Package crowd puts very many connections into one room of a whole cluster and accounts for every delivery: nodes, PostgreSQL,
// Redis, and for a first test of handshakes nginx, all started for it on loopback; the load is that of "barrage bench", by several
// client processes.
//
// The benchmark of 100,000 connections and its small form among the tests are the same program with other numbers.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"barrage/internal/load"
	"barrage/internal/machine"
	"barrage/internal/testserver"
	"barrage/internal/trace"
)

// Options of a run. Connections and Trace are needed.
type Options struct {
	// Connections that read, on Nodes nodes (6), by Processes client processes (as many as nodes).
	Connections, Nodes, Processes int
	// Files is how many files one process may open; connections are refused when they would need more.
	Files int
	// ConnectRate is how many connections are opened in a second (3,000).
	ConnectRate float64
	// Trace is what is played, Speed times as fast as it was recorded (1). As many connections publish it as there are nodes.
	Trace []trace.Entry
	Speed float64
	// Serve are further flags of the nodes.
	Serve []string
	// Merge is the merge window that these flags set; it only moves what the latency must be.
	Merge time.Duration
	// Idle is how long the connections are left alone before the trace is played, to measure memory (5 s).
	Idle time.Duration
	// Drain is how long to wait for deliveries after the last message (30 s).
	Drain time.Duration
	// Path of a room on the nodes ("/raw/{room}").
	Path string
	// Unsafe runs PostgreSQL without fsync, for tests.
	Unsafe bool
	// Log, when it is set, is told what is being done.
	Log io.Writer
}

func (o Options) withDefaults() Options {
	o.Nodes = or(o.Nodes, 6)
	o.Processes, o.Files, o.ConnectRate = or(o.Processes, o.Nodes), or(o.Files, 19_900), or(o.ConnectRate, 3000)
	o.Speed, o.Idle, o.Drain = or(o.Speed, 1), or(o.Idle, 5*time.Second), or(o.Drain, 30*time.Second)
	o.Path = or(o.Path, "/raw/{room}")
	if o.Log == nil {
		o.Log = io.Discard
	}
	return o
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Run starts the cluster, opens the connections, plays the trace and reports. The error tells why nothing was measured; what was
// lost or late is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	o = o.withDefaults()
	if each := (o.Connections + o.Nodes - 1) / o.Nodes; each+nodeFiles > o.Files {
		return nil, fmt.Errorf("%d connections on %d nodes are %d for each, and a process may open %d files; start more nodes",
			o.Connections, o.Nodes, each, o.Files)
	}
	c := &crowd{Options: o}
	defer c.close()
	if err := c.start(); err != nil {
		return nil, err
	}
	r := &Report{Began: time.Now(), Machine: machine.Describe(), Nodes: o.Nodes, MergeMS: float64(o.Merge) / 1e6}
	var err error
	if r.Handshakes, err = c.handshakes(ctx); err != nil {
		return nil, fmt.Errorf("through nginx: %w", err)
	}
	fmt.Fprintf(o.Log, "%d connections through nginx got every message\n", r.Handshakes)
	if r.Load, err = c.play(ctx); err != nil {
		return nil, err
	}
	r.fill()
	return r, nil
}

// nodeFiles is how many files a node may need besides its connections.
const nodeFiles = 200

// crowd is what was started.
type crowd struct {
	Options
	postgres *testserver.Postgres
	redis    *testserver.Redis
	nodes    []*testserver.Node
}

// start starts PostgreSQL, Redis and the nodes.
func (c *crowd) start() (err error) {
	fmt.Fprintf(c.Log, "starting PostgreSQL, Redis and %d nodes\n", c.Nodes)
	if _, err = testserver.Binary(); err != nil {
		return err
	}
	if c.postgres, err = testserver.StartPostgresWith(testserver.PostgresOptions{Unsafe: c.Unsafe}); err != nil {
		return err
	}
	if c.redis, err = testserver.StartRedis(); err != nil {
		return err
	}
	for i := range c.Nodes {
		n, err := testserver.StartNode(testserver.NodeOptions{
			Name: fmt.Sprint("n", i+1), Journal: c.postgres.URL(), Broker: c.redis.URL(),
			Env:  []string{"BARRAGE_TRUSTED_PROXIES=127.0.0.1"},
			Args: append([]string{"--log-level", "warn", "--limits-connections", fmt.Sprint(c.Files)}, c.Serve...),
		})
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	return nil
}

// close ends everything.
func (c *crowd) close() {
	for _, n := range c.nodes {
		n.Close()
	}
	if c.redis != nil {
		_ = c.redis.Close() // nothing of it is needed any more
	}
	if c.postgres != nil {
		_ = c.postgres.Close()
	}
}

// handshakes opens a few connections through nginx, which must get every message, and tells how many.
func (c *crowd) handshakes(ctx context.Context) (int, error) {
	var addresses []string
	for _, n := range c.nodes {
		addresses = append(addresses, n.Addr())
	}
	nginx, err := testserver.StartNginx(addresses)
	if err != nil {
		return 0, err
	}
	defer nginx.Close()
	url := "ws://" + nginx.Addr() + c.Path
	p := load.Plan{
		URLs: []string{url}, PublishURLs: []string{url + "?echo=0"}, Connections: 4 * c.Nodes, Publishers: 2, Room: "nginx-",
		Rate: 20, Duration: time.Second, Settle: time.Millisecond, Drain: c.Drain,
	}
	r, err := load.Run(ctx, p, c.options())
	if err == nil && !r.Flawless() {
		err = fmt.Errorf("not every message arrived everywhere once and in order: %+v; %d connections ended, %s", r.Traffic.Account, r.Closed, r.Reason)
	}
	return p.Connections, err
}

// play opens all connections and plays the trace.
func (c *crowd) play(ctx context.Context) (load.Result, error) {
	p := load.Plan{
		Connections: c.Connections, Processes: c.Processes, Publishers: c.Nodes, ConnectRate: c.ConnectRate, Room: "crowd-",
		Trace: c.Trace, Speed: c.Speed, Idle: c.Idle, Drain: c.Drain,
		OpenFor: time.Minute + time.Duration(2*float64(c.Connections)/c.ConnectRate*float64(time.Second)),
		Servers: []load.Server{{Name: "redis", PID: c.redis.PID()}, {Name: "postgres", PID: c.postgres.PID()}},
	}
	for _, n := range c.nodes {
		url := "ws://" + n.Addr() + c.Path
		p.URLs, p.PublishURLs = append(p.URLs, url), append(p.PublishURLs, url+"?echo=0")
		p.Servers = append(p.Servers, load.Server{Name: "nodes", PID: n.PID()})
	}
	return load.Run(ctx, p, c.options())
}

// options start client processes from the program that the nodes run.
func (c *crowd) options() load.Options {
	phase := ""
	return load.Options{
		Spawn: spawn, Files: c.Files, Processors: c.Processes,
		Progress: func(p load.Progress) {
			if p.Phase != phase {
				phase = p.Phase
				fmt.Fprintf(c.Log, "%s: %d of %d connections open, %d sent, %d received\n", phase, p.Open, p.Connections, p.Sent, p.Received)
			}
		},
	}
}

// spawn starts a client process.
func spawn() (load.Process, error) {
	bin, err := testserver.Binary()
	if err != nil {
		return load.Process{}, err
	}
	cmd := testserver.Command(bin, "bench", "--worker")
	in, err := cmd.StdinPipe()
	if err != nil {
		return load.Process{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return load.Process{}, errors.Join(err, in.Close())
	}
	return load.Process{In: in, Out: out, Wait: cmd.Wait}, cmd.Start()
}
