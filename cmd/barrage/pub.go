package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"barrage/client"
	"barrage/config"
	"barrage/proto"
)

// pubOptions are the flags of pub.
type pubOptions struct {
	*connectFlags
	id      string
	json    bool
	verbose bool
	window  int
}

func newPub() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pub CHANNEL [TEXT]",
		Short: "Publish to a channel",
		Long: `Publishes TEXT, or without it each line of standard input as a message, and waits until the messages are stored.
Each is stored once, however often the connection is lost meanwhile. With --json the text or lines are JSON values.`,
		Example: `  barrage pub room hello
  barrage pub room --json '{"price": 12.5}'
  tail -f app.log | barrage pub logs --name app
  barrage pub orders paid --id order-4711     safe to repeat: stored once`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return usageError(fmt.Errorf("give a channel and at most one text (in quotes when it has spaces): %s", cmd.UseLine()))
			}
			return usageError(proto.CheckChannel(args[0]))
		},
	}
	o := pubOptions{connectFlags: addConnectFlags(cmd, "give up when there is no connection for so long; 0 means never")}
	flags := cmd.Flags()
	flags.StringVar(&o.name, "name", "", "display `NAME`, the user of the messages")
	flags.StringVar(&o.id, "id", "", "idempotency key `ID` of TEXT: publishing again with the same one stores nothing")
	flags.BoolVar(&o.json, "json", false, "TEXT or each line is a JSON value")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "print the offset of each message")
	flags.IntVar(&o.window, "window", 32, "at most `N` messages under way at once, 1 to 64")
	cmd.RunE = work(func(cmd *cobra.Command, args []string) error { return pub(cmd, args, &o) })
	return cmd
}

func pub(cmd *cobra.Command, args []string, o *pubOptions) error {
	if len(args) == 1 && o.id != "" {
		return usageError(errors.New("--id belongs to one message; give TEXT, or leave out --id"))
	}
	if err := proto.CheckKey(o.id); err != nil {
		return usageError(err)
	}
	lines := func(context.Context) <-chan input { return oneInput(args) }
	if len(args) == 1 {
		lines = func(ctx context.Context) <-chan input { return readInput(ctx, cmd.InOrStdin()) }
	} else if _, err := o.data(args[1]); err != nil {
		return usageError(err)
	}
	secure, err := o.tls()
	if err != nil {
		return err
	}
	c, err := client.New(client.Options{
		URLs: o.urls, TLS: secure, Token: o.tokens(), Channel: args[0], Name: o.name, NoEcho: true, Window: o.window,
		GiveUpFirst: time.Duration(o.timeout), GiveUpLost: time.Duration(o.timeout),
	})
	if err != nil {
		return err
	}
	notice := newNotices(cmd.ErrOrStderr(), o.quiet)
	return connected(cmd.Context(), c, func(e client.Event) {
		if e.Disconnected != nil {
			notice.event(e)
		}
	}, func(ctx context.Context) error { return o.publish(ctx, c, lines(ctx), cmd.OutOrStdout()) })
}

// connected runs work with a running client, and ends the client after it. When the client ends by itself, work's
// context ends too, and the client's reason is the error.
func connected(ctx context.Context, c *client.Client, handle func(client.Event), work func(context.Context) error) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	working, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		cancel(c.Run(running, handle))
		close(ended)
	}()
	err := work(working)
	if errors.Is(err, client.ErrEnded) {
		<-ended // Run is returning, and has the reason
	}
	reason := context.Cause(working)
	stop()
	<-ended
	if err != nil && reason != nil {
		return reason
	}
	return err
}

// input is one message to publish, with the line it stood on; 0 for TEXT.
type input struct {
	line int
	text string
	err  error
}

func oneInput(args []string) <-chan input {
	one := make(chan input, 1)
	one <- input{text: args[1]}
	close(one)
	return one
}

// readInput gives the lines of r. Its goroutine may stay in a read of r when ctx ends; the process ends then too.
func readInput(ctx context.Context, r io.Reader) <-chan input {
	lines := make(chan input)
	send := func(in input) bool {
		select {
		case lines <- in:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, config.MaxMessage)
		n := 0
		for scanner.Scan() {
			n++
			if !send(input{line: n, text: scanner.Text()}) {
				return
			}
		}
		if err := scanner.Err(); err != nil {
			send(input{line: n + 1, err: err})
		}
	}()
	return lines
}

// data gives the JSON value to publish for a text.
func (o *pubOptions) data(text string) (json.RawMessage, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("the text is not valid UTF-8")
	}
	if !o.json {
		return proto.RawToData([]byte(text)), nil
	}
	if !json.Valid([]byte(text)) {
		return nil, fmt.Errorf("%q is not JSON; without --json it is published as a text", visible(text))
	}
	return json.RawMessage(text), nil
}

// publish sends lines in order, many of them under way at once, and writes their offsets. It stops at the first failure,
// after those before it have come to their end.
func (o *pubOptions) publish(ctx context.Context, c *client.Client, lines <-chan input, out io.Writer) error {
	calls := make(chan *client.Call, o.window)
	done := make(chan error, 1)
	failed := make(chan struct{})
	go func() { done <- o.collect(calls, failed, out) }()
	err := o.send(ctx, c, lines, calls, failed)
	close(calls)
	return errors.Join(<-done, err)
}

// send starts a publish for each line.
func (o *pubOptions) send(ctx context.Context, c *client.Client, lines <-chan input, calls chan<- *client.Call,
	failed <-chan struct{},
) error {
	for {
		var in input
		var more bool
		select {
		case in, more = <-lines:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-failed:
			return nil
		}
		if !more {
			return nil
		}
		data, err := o.data(in.text)
		if err = errors.Join(in.err, err); err != nil {
			return fmt.Errorf("line %d: %w", in.line, err)
		}
		call, err := c.Start(ctx, data, o.id)
		if err != nil {
			return err
		}
		calls <- call
	}
}

// collect waits for the publishes in order. It closes failed at the first failure.
func (o *pubOptions) collect(calls <-chan *client.Call, failed chan<- struct{}, out io.Writer) (first error) {
	for call := range calls {
		offset, err := call.Wait()
		if err == nil && o.verbose {
			_, err = fmt.Fprintln(out, offset)
		}
		if err != nil && first == nil {
			first = err
			close(failed)
		}
	}
	return first
}
