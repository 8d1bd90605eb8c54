package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"barrage/config"
	"barrage/internal/load"
)

// benchOptions are the flags of bench. The plan is filled in from them.
type benchOptions struct {
	plan                         load.Plan
	rate                         float64
	size                         sizeValue
	stall                        string
	servers                      []string
	trace                        string
	busiest                      traceTime
	duration, warmup, idle       durationValue
	drain, connectTimeout        durationValue
	storm, json, strict, quiet   bool
	worker, rateSet, durationSet bool
}

// sizeValue is a flag with a number of bytes, as the settings take it: 128, 4KiB.
type sizeValue int64

func (s *sizeValue) String() string { return strconv.FormatInt(int64(*s), 10) }
func (s *sizeValue) Type() string   { return "SIZE" }
func (s *sizeValue) Set(text string) error {
	n, err := config.ParseSize(text)
	*s = sizeValue(n)
	return err
}

const benchLong = `Opens many WebSocket connections, publishes messages into their rooms at a true schedule, and accounts for every delivery:
expected, received, lost, repeated, out of order, and how long each took from the moment when it was due.

It works with every server where a text that one connection sends comes out at the others of its room, wherever in a text
frame. {room} in the URL stands for the room's name. Each room has one connection that publishes besides the readers, or
--publishers of them. With --publish-url they use another address, with --wrap the text is put into what the server
expects; --hello is sent first by readers that must subscribe, --publish-hello by publishers that must introduce themselves.

  open-loop    messages are sent when they are due, whatever the server does; latency counts from then on
  processes    the connections are spread over client processes; one may open as many files as "ulimit -n" allows
  ports        when the local ports run out, connections to 127.0.0.0/8 also come from 127.0.0.2, 127.0.0.3, …
  nodes        with several --url the readers and publishers of each room are spread over all of them; each publisher's
               messages must arrive everywhere once and in their order
  server       with --server-pid (once for each process) its CPU time and memory are measured at the same moments
  slow readers with --stall some do not read until everything was sent; they are counted apart: ended, caught up, or missed

Needs Linux. Measure on a machine that does nothing else, and compare only figures of one machine and day.`

const benchExample = `  barrage bench --connections 10000 --rate 20 --server-pid $(pgrep -f 'barrage serve')
  barrage bench --connections 10000 --rooms 1000 --rate 5000 --size 256 --duration 30s --json
  barrage bench --connections 18000 --idle 30s --server-pid 1234             memory and CPU without traffic
  barrage bench --connections 10000 --storm --server-pid 1234                connects per second
  barrage bench --connections 5000 --rate 50 --stall 1%                      one in a hundred does not read
  barrage bench --connections 10000 --trace chat.csv --busiest 2m            a recorded chat at its true timing
  barrage bench --url ws://127.0.0.1:8001/raw/{room},ws://127.0.0.1:8002/raw/{room} --publishers 2 \
      --server-pid nodes=12,nodes=34,redis=56                                two nodes and what is behind them
  barrage bench --url 'ws://127.0.0.1:9000/ws/{room}' --wrap '{"publish":{"data":"{text}"}}'   another wire format
  barrage bench --url ws://127.0.0.1:9000/connection/websocket --hello '{"id":1,"connect":{}}
{"id":2,"subscribe":{"channel":"{room}"}}' --publish-hello '{"id":1,"connect":{}}' \
      --wrap '{"id":3,"publish":{"channel":"{room}","data":"{text}"}}'       another server: one that speaks Centrifuge's JSON`

// defaultBenchURL reads the plain format of a node of this machine; publishers do not read.
const (
	defaultBenchURL   = "ws://127.0.0.1:8000/raw/{room}"
	defaultPublishURL = "ws://127.0.0.1:8000/raw/{room}?echo=0"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure a WebSocket server under load",
		Long:    benchLong,
		Example: benchExample,
		Args:    noArgs,
	}
	o := &benchOptions{
		size: 128, duration: durationValue(10 * time.Second), warmup: durationValue(2 * time.Second),
		drain: durationValue(10 * time.Second), connectTimeout: durationValue(time.Minute),
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.plan.URLs, "url", nil, "`URL` of the server with {room} in it (default "+defaultBenchURL+
		"); give several, by commas or again, to spread the members of each room")
	flags.StringArrayVar(&o.plan.PublishURLs, "publish-url", nil, "`URL` to publish at (default: --url; "+
		"for the default of that the same with ?echo=0)")
	flags.IntVar(&o.plan.Connections, "connections", 1000, "`N` connections that read")
	flags.IntVar(&o.plan.Rooms, "rooms", 1, "in `N` rooms")
	flags.IntVar(&o.plan.Publishers, "publishers", 1, "`N` connections that publish into each room")
	flags.Float64Var(&o.rate, "rate", 10, "`N` messages a second in all rooms together")
	flags.Var(&o.size, "size", "length of a message, at least "+strconv.Itoa(load.MarkerSize)+" bytes")
	flags.Var(&o.duration, "duration", "how long to measure; a trace is played to its end")
	flags.Var(&o.warmup, "warmup", "how long to send before measuring")
	flags.Var(&o.drain, "drain", "how long to wait for deliveries after the last message")
	flags.Var(&o.idle, "idle", "leave the connections alone so long, to measure memory and CPU; without --rate nothing is sent then")
	flags.BoolVar(&o.storm, "storm", false, "connect as quickly as possible; without --rate nothing is sent then")
	flags.StringVar(&o.stall, "stall", "0%", "part of the readers that do not read, a `PERCENTAGE`")
	flags.StringVar(&o.trace, "trace", "", "play a recorded chat, a CSV `FILE`; see barrage help replay")
	flags.Var(&o.busiest, "busiest", "play only the part of the trace of this length that has the most messages")
	flags.Float64Var(&o.plan.Speed, "speed", 1, "play a trace `X` times as fast as it was recorded")
	flags.IntVar(&o.plan.Processes, "processes", 0, "`N` client processes for the readers; 0 chooses")
	flags.Var(&o.connectTimeout, "connect-timeout", "how long connecting may take in all")
	flags.Float64Var(&o.plan.ConnectRate, "connect-rate", 0, "open at most `N` connections a second; 0 means no limit")
	flags.StringSliceVar(&o.servers, "server-pid", nil,
		"`PID` of a process of the server to measure, with all that it started; may be repeated, and named: redis=PID")
	flags.StringVar(&o.plan.Room, "room", "bench-", "`NAME` that rooms begin with; their number follows")
	flags.StringArrayVar(&o.plan.Header, "header", nil, "`FIELD` of every handshake, such as 'Origin: http://a'; may be repeated")
	flags.StringVar(&o.plan.Hello, "hello", "", "a `TEXT` that readers send first; {room} stands for the room")
	flags.StringVar(&o.plan.PublishHello, "publish-hello", "", "a `TEXT` that publishers send first")
	flags.StringVar(&o.plan.Wrap, "wrap", "", "a `TEXT` with {text} in it to publish instead of the text alone")
	flags.BoolVar(&o.json, "json", false, "print the result as one JSON object")
	flags.BoolVar(&o.strict, "strict", false, "end with exit code 1 unless every message arrived everywhere once and in order")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "no progress on standard error")
	flags.BoolVar(&o.worker, "worker", false, "be a client process")
	_ = flags.MarkHidden("worker")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		if o.worker {
			return load.Work(cmd.InOrStdin(), cmd.OutOrStdout())
		}
		o.rateSet, o.durationSet = flags.Changed("rate"), flags.Changed("duration")
		return bench(cmd, o)
	})
	return cmd
}

func bench(cmd *cobra.Command, o *benchOptions) error {
	if runtime.GOOS != "linux" {
		return load.ErrNeedsLinux
	}
	if err := o.fill(); err != nil {
		return usageError(err)
	}
	files, err := openFiles()
	if err != nil {
		return err
	}
	bar := newBenchProgress(cmd.ErrOrStderr(), o.quiet)
	result, err := load.Run(cmd.Context(), o.plan, load.Options{
		Spawn: spawnWorker, Files: files, Processors: runtime.NumCPU(), Progress: bar.draw,
	})
	bar.end()
	if errors.Is(err, load.ErrPlan) {
		return usageError(err)
	}
	if err != nil {
		return err
	}
	if o.json {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(&result)
	} else {
		err = result.WriteTable(cmd.OutOrStdout())
	}
	if err == nil && o.strict && !result.Flawless() {
		err = errors.New("not every message arrived everywhere once and in order")
	}
	return err
}

// fill completes the plan from the flags.
func (o *benchOptions) fill() error {
	p := &o.plan
	p.URLs, p.PublishURLs = splitURLs(p.URLs), splitURLs(p.PublishURLs)
	var err error
	if p.Servers, err = parseServers(o.servers); err != nil {
		return err
	}
	if len(p.URLs) == 0 {
		p.URLs = []string{defaultBenchURL}
		if len(p.PublishURLs) == 0 {
			p.PublishURLs = []string{defaultPublishURL}
		}
	}
	p.Size, p.Warmup, p.Duration = int(o.size), time.Duration(o.warmup), time.Duration(o.duration)
	p.Idle, p.Drain, p.OpenFor = time.Duration(o.idle), time.Duration(o.drain), time.Duration(o.connectTimeout)
	if o.rateSet || !o.storm && o.idle == 0 {
		p.Rate = o.rate
	}
	if o.storm {
		p.Opening = 1024
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(o.stall, "%"), 64)
	if err != nil {
		return fmt.Errorf("--stall %q is no percentage, such as 1%%", o.stall)
	}
	p.Stall = percent / 100
	for _, h := range p.Header {
		if name, _, ok := strings.Cut(h, ":"); !ok || name == "" || strings.ContainsAny(h, "\r\n") {
			return fmt.Errorf("--header %q is no field, such as 'Origin: http://a'", h)
		}
	}
	if o.trace == "" {
		if o.busiest.set {
			return errors.New("--busiest chooses a part of a --trace")
		}
		return nil
	}
	r := replayOptions{trace: o.trace, busiest: o.busiest}
	if p.Rate = 0; !o.durationSet {
		p.Duration = 0
	}
	p.Trace, err = r.load()
	if err == nil && len(p.Trace) < 2 {
		err = fmt.Errorf("%s has only one message there", o.trace)
	}
	return err
}

// splitURLs divides lists at the commas that another address follows.
func splitURLs(lists []string) (urls []string) {
	for _, list := range lists {
		for {
			at := strings.Index(list, ",ws")
			if at < 0 {
				break
			}
			urls, list = append(urls, list[:at]), list[at+1:]
		}
		urls = append(urls, list)
	}
	return urls
}

// parseServers reads numbers of processes, each with a name or without.
func parseServers(texts []string) (servers []load.Server, err error) {
	for _, text := range texts {
		name, number, named := strings.Cut(text, "=")
		if !named {
			name, number = "server", text
		}
		pid, err := strconv.Atoi(number)
		if err != nil || pid < 1 || name == "" {
			return nil, fmt.Errorf("--server-pid %q is no number of a process, such as 1234 or redis=1234", text)
		}
		servers = append(servers, load.Server{Name: name, PID: pid})
	}
	return servers, nil
}

// spawnWorker starts this program once more, as a client process.
func spawnWorker() (load.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return load.Process{}, err
	}
	cmd := workerCommand(self)
	in, err := cmd.StdinPipe()
	if err != nil {
		return load.Process{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return load.Process{}, err
	}
	return load.Process{In: in, Out: out, Wait: cmd.Wait}, cmd.Start()
}
