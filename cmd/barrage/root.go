package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
		Args:          knownCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       buildVersion().short(),

		SuggestionsMinimumDistance: 2,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(fmt.Errorf("%w; see: %s --help", plain(err), cmd.CommandPath()))
	})
	root.AddCommand(newServe(), newPub(), newSub(), newReplay(), newBench(), newConfig(), newToken(), newOpenAPI(), newVersion(),
		&cobra.Command{Use: "exit-codes", Short: "The exit codes of all commands", Long: exitHelp})
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// knownCommand refuses what is no command, and names those that may have been meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	meant := "see: " + cmd.CommandPath() + " --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		meant = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError(fmt.Errorf("unknown command %q; %s", cmd.CommandPath()+" "+args[0], meant))
}

// plain is the error of a flag without the words of its parser.
func plain(err error) error {
	wrong, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok || !errors.Is(err, strconv.ErrSyntax) && !errors.Is(err, strconv.ErrRange) {
		return err
	}
	flag := wrong.GetFlag()
	kind, fits := map[string]string{"bool": "true or false", "float64": "a number"}[flag.Value.Type()]
	if !fits {
		kind = "a whole number that fits"
	}
	return fmt.Errorf("--%s: %q is not %s", flag.Name, wrong.GetValue(), kind)
}
