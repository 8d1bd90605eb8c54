// Command barrage is a WebSocket cluster server for very large rooms, and its tools for the terminal.
//
// Standard output carries results only; notices and errors go to standard error. The exit codes are listed by
// "barrage help exit-codes".
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	// The first signal asks to end; after it a second one ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot()
	err := root.ExecuteContext(ctx)
	return report(root.ErrOrStderr(), err)
}
