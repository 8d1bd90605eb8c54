package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "barrage",
		Short: "A WebSocket cluster server for very large rooms",
		Long: `Barrage is a WebSocket cluster server for very large rooms. A client opens one URL; whichever node it reaches,
it sees the same channels, the same messages, in the same order.`,
		Example: `  barrage serve                                 start a node on 127.0.0.1:8000
  barrage sub room                              follow a channel
  barrage pub room hello                        publish to it
  barrage replay --trace testdata/traces/small.csv --channel room`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       buildVersion().short(),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath()))
	})
	root.AddCommand(newServe(), newPub(), newSub(), newReplay(), newBench(), newConfig(), newToken(), newOpenAPI(), newVersion(),
		&cobra.Command{Use: "exit-codes", Short: "The exit codes of all commands", Long: exitHelp})
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}
