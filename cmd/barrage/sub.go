package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"barrage/client"
	"barrage/proto"
)

// subOptions are the flags of sub.
type subOptions struct {
	*connectFlags
	since uint64
	epoch string
	last  int
	json  bool
	count int64
}

func newSub() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sub CHANNEL",
		Short: "Follow a channel",
		Long: `Follows a channel and prints one line per message: its text, or its data as JSON when that is no string. Control
characters in texts are shown as escapes, so that nobody can play tricks with the terminal.

A lost connection comes back by itself and goes on where it was. What happens to the connection, and messages that
were missed, is said on standard error. With --json each line is the whole message, {"offset":…,"time":…,"user":…,
"client":…,"data":…}, and missed messages are lines {"reset":{"epoch":…,"offset":…,"reason":…}} or
{"gap":{"from":…,"to":…}}.`,
		Example: `  barrage sub room
  barrage sub room --since 0                  from the beginning
  barrage sub room --last 20 --json | jq .data
  barrage sub room --count 1 --quiet          wait for one message`,
		Args: oneChannel,
	}
	o := subOptions{connectFlags: addConnectFlags(cmd, "give up when the first connection takes longer; 0 means never")}
	flags := cmd.Flags()
	flags.StringVar(&o.name, "name", "", "display `NAME`")
	flags.Uint64Var(&o.since, "since", 0, "start after offset `N`; 0 is the beginning (default: the next new message)")
	flags.StringVar(&o.epoch, "epoch", "", "the epoch `E` that --since belongs to")
	flags.IntVar(&o.last, "last", 0, "start with the last `N` messages")
	flags.BoolVar(&o.json, "json", false, "print whole messages as JSON")
	flags.Int64Var(&o.count, "count", 0, "end after `N` messages; 0 means never")
	cmd.RunE = work(func(cmd *cobra.Command, args []string) error { return sub(cmd, args[0], &o) })
	return cmd
}

func oneChannel(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError(fmt.Errorf("give one channel: %s", cmd.UseLine()))
	}
	return usageError(proto.CheckChannel(args[0]))
}

// errCounted ends sub after --count messages.
var errCounted = errors.New("all messages have come")

func sub(cmd *cobra.Command, channel string, o *subOptions) error {
	secure, err := o.tls()
	if err != nil {
		return err
	}
	opt := client.Options{
		URLs: o.urls, TLS: secure, Token: o.tokens(), Channel: channel, Name: o.name, Epoch: proto.Epoch(o.epoch), Last: o.last,
		GiveUpFirst: time.Duration(o.timeout),
	}
	if cmd.Flags().Changed("since") {
		since := proto.Offset(o.since)
		opt.Since = &since
	}
	c, err := client.New(opt)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	notice := newNotices(cmd.ErrOrStderr(), o.quiet)
	printer := subPrinter{w: bufio.NewWriter(cmd.OutOrStdout()), json: o.json}
	seen := int64(0)
	err = c.Run(ctx, func(e client.Event) {
		if ctx.Err() != nil {
			return
		}
		notice.event(e)
		if err := printer.event(e); err != nil {
			stop(fmt.Errorf("write to standard output: %w", err))
		}
		if e.Message != nil {
			if seen++; seen == o.count {
				stop(errCounted)
			}
		}
	})
	if errors.Is(err, errCounted) {
		return nil
	}
	return err
}

// subPrinter writes messages as lines.
type subPrinter struct {
	w    *bufio.Writer
	json bool
}

func (p *subPrinter) event(e client.Event) error {
	switch {
	case e.Message != nil && p.json:
		line := proto.AppendMessage(nil, e.Message)
		p.line(line[len(`{"message":`) : len(line)-1])
	case e.Message != nil:
		p.line([]byte(visible(string(proto.AppendRawText(nil, e.Message.Data)))))
	case e.Reset != nil && p.json:
		p.line(proto.AppendReset(nil, *e.Reset))
	case e.Skipped != nil && p.json:
		p.line(proto.AppendSkipped(nil, *e.Skipped))
	case e.Gap != nil && p.json:
		line, err := json.Marshal(map[string]any{"gap": map[string]proto.Offset{"from": e.Gap.From, "to": e.Gap.To}})
		if err != nil {
			return err
		}
		p.line(line)
	default:
		return nil
	}
	return p.w.Flush()
}

// line keeps errors in the buffer until Flush.
func (p *subPrinter) line(b []byte) {
	_, _ = p.w.Write(b)
	_ = p.w.WriteByte('\n')
}
