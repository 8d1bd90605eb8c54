package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"barrage/internal/machine"
)

// Process is a worker that was started: another process that calls Work, or a goroutine.
type Process struct {
	// In and Out are the worker's ends of Work. Closing In ends the worker.
	In  io.WriteCloser
	Out io.Reader
	// Wait blocks until the worker has ended; Out is at its end then.
	Wait func() error
}

// Options of a run.
type Options struct {
	// Spawn starts a worker.
	Spawn func() (Process, error)
	// Files is how many connections one worker may have, Processors how many run at a time.
	Files, Processors int
	// Progress, when it is set, is told how far the run is; it must be quick.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	// Phase is what is being done.
	Phase string
	// Open connections of Connections; Sent messages and Received deliveries so far.
	Open, Connections int
	Sent, Received    int64
	// Left is how much of the phase is left, when that is known.
	Left time.Duration
}

// Run carries out a plan and returns what was measured. The error tells why nothing could be measured; what a server loses
// or refuses later is in the result.
func Run(ctx context.Context, plan Plan, o Options) (Result, error) {
	p, err := plan.withDefaults()
	if err != nil {
		return Result{}, err
	}
	readers, publishers, err := p.jobs(ctx, o.Files, o.Processors)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &run{
		Plan: p, Options: o, clock: newClock(), events: make(chan told), ctx: ctx, usage: newUsage(p.Servers),
		result: Result{
			URLs: p.URLs, Connections: p.Connections, Rooms: p.Rooms, Publishers: p.Publishers, Rate: p.Rate, Size: p.Size, TraceMessages: len(p.Trace),
			Processes: len(readers) + len(publishers),
		},
	}
	err = r.all(readers, publishers)
	cancel()
	return r.result, errors.Join(err, r.end())
}

// run is the coordinator; its state belongs to the goroutine of Run.
type run struct {
	Plan
	Options
	ctx    context.Context
	clock  clock
	events chan told
	usage  *usage
	result Result

	members            []*member
	readers, publisher []*member
	listening          sync.WaitGroup
	sent               []*sent // what publishers told
	phase              string
	phaseEnd           int64 // 0 when nobody knows
}

// member is a worker as the coordinator sees it.
type member struct {
	Process
	orders *json.Encoder
	at     progress
}

// told is what a worker told, or why it cannot tell more.
type told struct {
	from *member
	event
	err error
}

func (r *run) all(readers, publishers []Job) error {
	r.enter("starting", 0)
	if err := r.start(readers, publishers); err != nil {
		return err
	}
	if err := r.connect(); err != nil {
		return err
	}
	if !r.sends() {
		return r.gather(&finish{Sent: make([]int32, r.Rooms*r.Publishers)})
	}
	r.enter("connecting publishers", 0)
	if err := r.tell(r.publisher, order{Connect: true}); err != nil {
		return err
	}
	if _, err := r.await(r.publisher, func(e event) bool { return e.Connected != nil }); err != nil {
		return err
	}
	return r.traffic()
}

// start starts all workers and gives them their jobs.
func (r *run) start(readers, publishers []Job) error {
	for i, job := range append(readers, publishers...) {
		process, err := r.Spawn()
		if err != nil {
			return fmt.Errorf("starting a client process: %w", err)
		}
		m := &member{Process: process, orders: json.NewEncoder(process.In)}
		r.members = append(r.members, m)
		r.listening.Go(func() { r.listen(m) })
		if err := m.orders.Encode(job); err != nil {
			return fmt.Errorf("starting a client process: %w", err)
		}
		if i < len(readers) {
			r.readers = append(r.readers, m)
		} else {
			r.publisher = append(r.publisher, m)
		}
	}
	_, err := r.await(r.members, func(e event) bool { return e.Ready })
	return err
}

// listen passes on what a worker tells, until it has ended or the run is over.
func (r *run) listen(m *member) {
	lines := bufio.NewScanner(m.Out)
	lines.Buffer(nil, maxLine)
	for {
		t := told{from: m}
		if !lines.Scan() {
			t.err = errors.Join(errors.New("a client process ended early"), lines.Err())
		} else if err := json.Unmarshal(lines.Bytes(), &t.event); err != nil {
			t.err = err
		}
		select {
		case r.events <- t:
		case <-r.ctx.Done():
			_, _ = io.Copy(io.Discard, m.Out)
			return
		}
		if t.err != nil || t.Done != nil {
			_, _ = io.Copy(io.Discard, m.Out)
			return
		}
	}
}

// end lets all workers end.
func (r *run) end() error {
	for _, m := range r.members {
		_ = m.In.Close()
	}
	r.listening.Wait()
	for _, m := range r.members {
		_ = m.Wait() // what went wrong was told
	}
	return nil
}

func (r *run) tell(members []*member, o order) error {
	for _, m := range members {
		if err := m.orders.Encode(o); err != nil {
			return fmt.Errorf("a client process is gone: %w", err)
		}
	}
	return nil
}

// await waits until each of the members has told what is wanted, and gives it.
func (r *run) await(members []*member, want func(event) bool) ([]event, error) {
	var got []event
	for len(got) < len(members) {
		e, err := r.hear(nil)
		if err != nil {
			return nil, err
		}
		if want(e) {
			got = append(got, e)
		}
	}
	return got, nil
}

var errTime = errors.New("time is up")

// hear gives the next event; errTime when until is earlier.
func (r *run) hear(until <-chan time.Time) (event, error) {
	select {
	case <-r.ctx.Done():
		return event{}, context.Cause(r.ctx)
	case <-until:
		return event{}, errTime
	case t := <-r.events:
		switch {
		case t.err != nil:
			return event{}, t.err
		case t.Error != "":
			return event{}, errors.New(t.Error)
		case t.Progress != nil:
			t.from.at = *t.Progress
			r.show()
		case t.Sent != nil:
			r.sent = append(r.sent, t.Sent)
		}
		return t.event, nil
	}
}

// enter begins a phase, which takes d when that is known.
func (r *run) enter(phase string, d time.Duration) {
	r.phase, r.phaseEnd = phase, 0
	if d > 0 {
		r.phaseEnd = r.clock.now() + int64(d)
	}
	r.show()
}

func (r *run) show() {
	if r.Progress == nil {
		return
	}
	p := Progress{Phase: r.phase, Connections: r.Connections}
	for _, m := range r.readers {
		p.Open += m.at.Open
		p.Received += m.at.Received
	}
	for _, m := range r.publisher {
		p.Sent += m.at.Sent
	}
	if r.phaseEnd > 0 {
		p.Left = max(0, time.Duration(r.phaseEnd-r.clock.now()))
	}
	r.Progress(p)
}

// sleep waits until a moment.
func (r *run) sleep(until int64) error {
	timer := time.NewTimer(time.Duration(until - r.clock.now()))
	defer timer.Stop()
	for {
		if _, err := r.hear(timer.C); errors.Is(err, errTime) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// connect opens the readers' connections, lets them rest, and measures both.
func (r *run) connect() error {
	before, err := r.usage.takeMemory()
	if err != nil {
		return err
	}
	cpu, err := r.usage.takeCPU()
	if err != nil {
		return err
	}
	r.enter("connecting", 0)
	if err := r.tell(r.readers, order{Connect: true}); err != nil {
		return err
	}
	events, err := r.await(r.readers, func(e event) bool { return e.Connected != nil })
	if err != nil {
		return err
	}
	after, err := r.usage.takeCPU()
	if err != nil {
		return err
	}
	r.result.Connect = connectOf(events, r.Connections, sum(after)-sum(cpu))
	idle := max(r.Idle, r.Settle)
	if r.Idle > r.Settle { // what the last joins still cost is no idleness
		r.enter("settling", r.Settle)
		if err := r.sleep(r.clock.now() + int64(r.Settle)); err != nil {
			return err
		}
		idle = r.Idle
	}
	return r.idle(idle, before)
}

func connectOf(events []event, connections int, cpu time.Duration) Connect {
	c, first, last := Connect{}, events[0].Connected.First, int64(0)
	var took Histogram
	for _, e := range events {
		first, last = min(first, e.Connected.First), max(last, e.Connected.Last)
		c.Retries += e.Connected.Retry
		took.Merge(&e.Connected.Took)
	}
	c.Seconds = time.Duration(last - first).Seconds()
	c.PerSecond = float64(connections) / max(c.Seconds, 1e-6)
	c.Took = took.Quantiles()
	c.ServerCPUsec = cpu.Seconds()
	c.ServerCPUus = float64(cpu.Microseconds()) / float64(connections)
	return c
}

// idle leaves the connections alone for d.
func (r *run) idle(d time.Duration, before []int64) error {
	r.enter("idle", d)
	from, err := r.usage.takeCPU()
	if err != nil {
		return err
	}
	if err := r.sleep(r.clock.now() + int64(d)); err != nil {
		return err
	}
	if len(r.Servers) == 0 {
		return nil
	}
	to, err := r.usage.takeCPU()
	if err != nil {
		return err
	}
	now, err := r.usage.takeMemory()
	if err != nil {
		return err
	}
	r.result.Idle = &Idle{
		Seconds: d.Seconds(), Memory: r.usage.kind, BytesBefore: sum(before), Bytes: sum(now),
		BytesPerConnection: float64(sum(now)-sum(before)) / float64(r.Connections),
		CPUPercent:         100 * (sum(to) - sum(from)).Seconds() / d.Seconds(),
	}
	r.usage.idle(before, now, from, to, d)
	r.result.Servers = r.usage.groups
	return nil
}

// traffic has the messages sent and measures what becomes of them.
func (r *run) traffic() error {
	w := window{From: r.clock.now() + int64(100*time.Millisecond)}
	w.Measure = w.From + int64(r.Warmup)
	w.To = w.Measure + int64(r.Duration)
	r.enter("sending", r.Warmup+r.Duration)
	if err := r.tell(r.members, order{Begin: &w}); err != nil {
		return err
	}
	if err := r.sleep(w.Measure); err != nil {
		return err
	}
	from, err := r.usage.takeCPU()
	if err != nil {
		return err
	}
	began, busy := r.clock.now(), machine.Busy().Busy
	if err := r.sleep(w.To); err != nil {
		return err
	}
	to, err := r.usage.takeCPU()
	if err != nil {
		return err
	}
	wall := time.Duration(r.clock.now() - began)
	r.result.Traffic = &Traffic{machine: machine.Busy().Busy - busy}
	if err := r.usage.busy(from, to, wall); err != nil {
		return err
	}
	r.result.WarmupSeconds, r.result.MeasuredSeconds = r.Warmup.Seconds(), r.Duration.Seconds()
	f, err := r.counts()
	if err != nil {
		return err
	}
	f.Until = r.clock.now() + int64(r.Drain)
	r.enter("waiting for deliveries", r.Drain)
	if err := r.gather(f); err != nil {
		return err
	}
	r.result.Traffic.cost(sum(to)-sum(from), wall)
	return nil
}

// counts waits until all publishers have told what they sent.
func (r *run) counts() (*finish, error) {
	for len(r.sent) < len(r.publisher) {
		if _, err := r.hear(nil); err != nil {
			return nil, err
		}
	}
	f := &finish{Sent: make([]int32, r.Rooms*r.Publishers)}
	var late Histogram
	t := r.result.Traffic
	for _, s := range r.sent {
		copy(f.Sent[s.First:], s.Counts)
		for _, n := range s.Counts {
			t.Sent += int64(n)
		}
		t.Unsent += s.Unsent
		t.MeasuredMessages += s.Measured
		late.Merge(&s.Late)
	}
	t.Late = late.Quantiles()
	return f, nil
}

// gather has the workers finish and adds up what they counted.
func (r *run) gather(f *finish) error {
	if err := r.tell(r.members, order{Finish: f}); err != nil {
		return err
	}
	events, err := r.await(r.members, func(e event) bool { return e.Done != nil })
	if err != nil {
		return err
	}
	r.result.add(events)
	return nil
}

// add adds the outcomes of all workers.
func (res *Result) add(events []event) {
	var latency Histogram
	for _, e := range events {
		o := e.Done
		res.Closed += o.Closed
		res.Reason = or(res.Reason, o.Reason)
		res.Stalled += o.Stalled
		res.Dropped += o.Dropped
		res.CaughtUp += o.CaughtUp
		res.Skipped += o.Skipped
		res.Missed += o.Missed
		if t := res.Traffic; t != nil {
			t.add(o.Account)
			t.measured += o.Measured
			t.Echoes += o.Echoes
			t.generator += o.CPU
			latency.Merge(&o.Latency)
		}
	}
	if t := res.Traffic; t != nil {
		t.Latency = latency.Quantiles()
		t.DeliveriesPerSecond = float64(t.measured) / res.MeasuredSeconds
	}
}

// cost divides CPU time by deliveries; wall is how long it was measured.
func (t *Traffic) cost(server, wall time.Duration) {
	deliveries := float64(max(1, t.measured+t.Echoes))
	t.ServerCPUus = float64(server.Microseconds()) / deliveries
	t.ServerCPUusPerMessage = float64(server.Microseconds()) / float64(max(1, t.MeasuredMessages))
	t.ServerCPUPercent = 100 * server.Seconds() / wall.Seconds()
	t.GeneratorPercent = 100 * t.generator.Seconds() / wall.Seconds()
	t.GeneratorCPUus = float64(t.generator.Microseconds()) / deliveries
	if server > 0 {
		t.OthersPercent = max(0, 100*(t.machine-server-t.generator).Seconds()/wall.Seconds())
	}
}
