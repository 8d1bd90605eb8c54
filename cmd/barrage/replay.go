package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"barrage/client"
	"barrage/config"
	"barrage/internal/trace"
	"barrage/proto"
)

// replayOptions are the flags of replay.
type replayOptions struct {
	*connectFlags
	trace, channel    string
	speed             float64
	from, to, busiest traceTime
	connections       int
	seed              uint64
	json              bool
}

// traceTime is a flag with a time of a trace: milliseconds, or a duration with its unit.
type traceTime struct {
	at  time.Duration
	set bool
}

func (t *traceTime) Type() string { return "TIME" }
func (t *traceTime) String() string {
	if !t.set {
		return ""
	}
	return config.FormatDuration(t.at)
}

func (t *traceTime) Set(s string) error {
	d, err := config.ParseDuration(s)
	if err != nil {
		d, err = config.ParseDuration(s + "ms")
	}
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time; give milliseconds or a duration, such as 90000, 90s or 1m30s", s)
	}
	*t = traceTime{d, true}
	return nil
}

func newReplay() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay --trace FILE --channel NAME",
		Short: "Play a recorded chat into a channel",
		Long: `Plays a recorded chat with its true timing and message sizes, inventing the texts. A trace is a CSV file with the
header t_ms,author,bytes and one row per message.

The timing does not depend on the server: a slow answer delays no later message. Authors are spread over a few
connections, named viewer-1, viewer-2, …. Ends with exit code 1 when a message was not stored.`,
		Example: `  barrage replay --trace testdata/traces/small.csv --channel room
  barrage replay --trace chat.csv --channel room --busiest 5m --speed 2
  barrage replay --trace chat.csv --channel room --from 10m --to 12m30s --url ws://a:8000 --url ws://b:8000 --json`,
		Args: noArgs,
	}
	o := replayOptions{connectFlags: addConnectFlags(cmd,
		"give up when the first connections take longer, and wait so long for the last answers; 0 means for ever")}
	flags := cmd.Flags()
	flags.StringVar(&o.trace, "trace", "", "the recorded chat, a CSV `FILE`")
	flags.StringVar(&o.channel, "channel", "", "the channel `NAME` to publish to")
	flags.Float64Var(&o.speed, "speed", 1, "play `X` times as fast as it was recorded")
	flags.Var(&o.from, "from", "begin at this time of the trace, in milliseconds or with a unit")
	flags.Var(&o.to, "to", "end before this time of the trace")
	flags.Var(&o.busiest, "busiest", "play only the part of this length that has the most messages")
	flags.IntVar(&o.connections, "connections", 16, "the authors share `N` connections, 1 to 1000")
	flags.Uint64Var(&o.seed, "seed", 1, "another number `N` invents other texts")
	flags.BoolVar(&o.json, "json", false, "print the result as one JSON object")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error { return replay(cmd, &o) })
	return cmd
}

func (o *replayOptions) check() error {
	switch {
	case o.trace == "":
		return errors.New("give the recorded chat with --trace FILE")
	case o.channel == "":
		return errors.New("give the channel with --channel NAME")
	case !(o.speed >= 0.001 && o.speed <= 1e6):
		return errors.New("--speed must be from 0.001 to 1000000")
	case o.connections < 1 || o.connections > 1000:
		return errors.New("--connections must be from 1 to 1000")
	case o.busiest.set && (o.from.set || o.to.set):
		return errors.New("--busiest chooses the part by itself; leave out --from and --to")
	case o.busiest.set && o.busiest.at == 0:
		return errors.New("--busiest needs a length, such as 5m")
	}
	return proto.CheckChannel(o.channel)
}

// load reads the part of the trace that is to be played.
func (o *replayOptions) load() ([]trace.Entry, error) {
	f, err := os.Open(o.trace)
	if err != nil {
		return nil, fmt.Errorf("the trace cannot be read: %w", err)
	}
	defer f.Close()
	entries, err := trace.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.trace, err)
	}
	from, to := o.from.at, entries[len(entries)-1].At+1
	if o.to.set {
		to = o.to.at
	}
	if o.busiest.set {
		from, to = trace.Busiest(entries, o.busiest.at)
	}
	part := trace.Window(entries, from, to)
	if len(part) == 0 {
		return nil, fmt.Errorf("%s has no messages from %s to %s; it ends at %s", o.trace, config.FormatDuration(from),
			config.FormatDuration(to), config.FormatDuration(entries[len(entries)-1].At))
	}
	return part, nil
}

func replay(cmd *cobra.Command, o *replayOptions) error {
	if err := o.check(); err != nil {
		return usageError(err)
	}
	entries, err := o.load()
	if err != nil {
		return usageError(err)
	}
	p := newPlayer(entries, o.speed, o.seed)
	pool, err := o.clients(min(o.connections, len(entries)))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	ready, wait := startClients(ctx, pool, stop)
	defer wait()
	if err := ready(); err != nil {
		return err
	}
	bar := newProgress(cmd.ErrOrStderr(), p, o.quiet)
	stopBar := bar.start()
	playErr := p.play(ctx, pool, time.Duration(o.timeout))
	stopBar()
	result := p.result(pool)
	stop(nil)
	if err := printResult(cmd.OutOrStdout(), &result, o.json); err != nil {
		return err
	}
	if playErr == nil && result.Failed > 0 {
		playErr = fmt.Errorf("%d of %d messages were not stored; the first failure: %s", result.Failed, result.Sent, result.Error)
	}
	return playErr
}

// clients makes n clients, each beginning with another URL.
func (o *replayOptions) clients(n int) ([]*client.Client, error) {
	secure, err := o.tls()
	if err != nil {
		return nil, err
	}
	var pool []*client.Client
	for i := range n {
		first := i % len(o.urls)
		c, err := client.New(client.Options{
			URLs:    append(append([]string{}, o.urls[first:]...), o.urls[:first]...),
			Channel: o.channel, Name: fmt.Sprintf("viewer-%d", i+1), NoEcho: true, Window: 64, TLS: secure, Token: o.tokens(),
			GiveUpFirst: time.Duration(o.timeout),
		})
		if err != nil {
			return nil, err
		}
		pool = append(pool, c)
	}
	return pool, nil
}

// startClients runs all clients until ctx ends; when one ends by itself it stops all. ready blocks until each has
// joined; wait until all have ended.
func startClients(ctx context.Context, pool []*client.Client, stop context.CancelCauseFunc) (ready func() error, wait func()) {
	joined, ended := make(chan struct{}, len(pool)), make(chan struct{}, len(pool))
	for _, c := range pool {
		go func() {
			first := true
			err := c.Run(ctx, func(e client.Event) {
				if e.Welcome != nil && first {
					first = false
					joined <- struct{}{}
				}
			})
			stop(err)
			ended <- struct{}{}
		}()
	}
	ready = func() error {
		for range pool {
			select {
			case <-joined:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	return ready, func() {
		stop(nil)
		for range pool {
			<-ended
		}
	}
}

func printResult(w io.Writer, r *result, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	_, err := fmt.Fprintf(w, `sent      %d in %.1f s (%.1f/s), %d bytes of text
acked     %d
failed    %d
retried   %d, over %d connections (%d reconnects)
ack       p50 %s  p90 %s  p99 %s  max %s
lateness  p50 %s  p99 %s  max %s
under way at most %d; the bound of %d held messages back %d times
`, r.Sent, r.Seconds, r.Rate, r.Bytes, r.Acked, r.Failed, r.Retried, r.Connections, r.Reconnects,
		millis(r.Ack.P50), millis(r.Ack.P90), millis(r.Ack.P99), millis(r.Ack.Max),
		millis(r.Late.P50), millis(r.Late.P99), millis(r.Late.Max), r.UnderWay, maxUnderWay, r.HeldBack)
	return err
}

func millis(ms float64) string { return fmt.Sprintf("%.1f ms", ms) }
