package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"barrage/internal/load"
	"barrage/internal/testserver"
)

// measurement is one run of one case against one side.
type measurement struct {
	Case   string      `json:"case"`
	Side   string      `json:"side"`
	Result load.Result `json:"result"`
	// Pauses of a node's garbage collector meanwhile, connecting included, and an upper bound of the longest, in ms.
	Pauses   uint64  `json:"collector_pauses,omitempty"`
	PauseMax float64 `json:"collector_pause_max_ms,omitempty"`
}

// target is what was started to be measured.
type target struct {
	addresses []string
	pids      []string // as --server-pid takes them
	metrics   string   // URL of a node's metrics; empty for the floor
	ends      []func()
}

// close ends what was started, the last first. There is nothing that it should keep.
func (t *target) close() {
	for _, end := range slices.Backward(t.ends) {
		end()
	}
}

// measure starts what a side needs, runs the load against it and ends it.
func measure(ctx context.Context, o *options, c *benchCase, s side) (m measurement, err error) {
	t := &target{}
	defer t.close()
	if s.floor {
		err = t.startFloor(ctx, o)
	} else {
		err = t.startNodes(s)
	}
	if err != nil {
		return m, err
	}
	before, err := t.pauses(ctx)
	if err != nil {
		return m, err
	}
	m = measurement{Case: c.name, Side: s.name}
	if m.Result, err = generate(ctx, o, t, s); err != nil {
		return m, err
	}
	after, err := t.pauses(ctx)
	m.Pauses, m.PauseMax = after.since(before)
	return m, err
}

// startFloor starts the floor.
func (t *target) startFloor(ctx context.Context, o *options) error {
	port, err := testserver.FreePort()
	if err != nil {
		return err
	}
	cmd := testserver.Command(o.floor, "--port", strconv.Itoa(port), "--ping", "25") // as often as a node does
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	t.ends = append(t.ends, func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	t.addresses, t.pids = []string{address}, []string{"floor=" + strconv.Itoa(cmd.Process.Pid)}
	return errors.Join(testserver.WaitPort(address, 20*time.Second), ctx.Err())
}

// startNodes starts one node, or several with Redis and PostgreSQL. PostgreSQL is not among the processes that are measured: what
// is measured on several nodes stores nothing.
func (t *target) startNodes(s side) error {
	journal, broker := "memory:", "local:"
	if s.nodes > 1 {
		postgres, err := testserver.StartPostgres()
		if err != nil {
			return err
		}
		t.ends = append(t.ends, func() { _ = postgres.Close() })
		redis, err := testserver.StartRedis()
		if err != nil {
			return err
		}
		t.ends = append(t.ends, func() { _ = redis.Close() })
		t.pids = append(t.pids, "redis="+strconv.Itoa(redis.PID()))
		journal, broker = postgres.URL(), redis.URL()
	}
	for i := range s.nodes {
		n, err := testserver.StartNode(testserver.NodeOptions{
			Name: "n" + strconv.Itoa(i+1), Journal: journal, Broker: broker, Args: append([]string{"--log-level", "warn"}, s.serve...),
		})
		if err != nil {
			return err
		}
		t.ends = append(t.ends, n.Close)
		t.addresses, t.pids, t.metrics = append(t.addresses, n.Addr()), append(t.pids, "nodes="+strconv.Itoa(n.PID())), n.URL()+"/metrics"
	}
	return nil
}

// generate runs "barrage bench".
func generate(ctx context.Context, o *options, t *target, s side) (r load.Result, err error) {
	args := []string{"bench", "--json", "--quiet", "--server-pid", strings.Join(t.pids, ",")}
	w := s.wire
	if w == (wire{}) {
		w = rawWire
	}
	in := func(text string) string { return strings.ReplaceAll(text, "{room}", s.room) }
	for _, address := range t.addresses {
		url := "ws://" + address + in(w.path)
		args = append(args, "--url", url, "--publish-url", url+w.query)
	}
	for flag, text := range map[string]string{"--hello": w.hello, "--publish-hello": w.publisherHello, "--wrap": w.wrap} {
		if text != "" {
			args = append(args, flag, in(text))
		}
	}
	bench := exec.CommandContext(ctx, o.barrage, append(args, s.args...)...)
	bench.Cancel = func() error { return bench.Process.Signal(os.Interrupt) }
	bench.WaitDelay = 5 * time.Second
	var errs bytes.Buffer
	bench.Stderr = &errs
	text, err := bench.Output()
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return r, json.Unmarshal(text, &r)
}
