package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build tells where the program comes from.
type build struct {
	version, revision, time, goVersion string
	modified                           bool
}

func buildVersion() build {
	b := build{version: "unknown", goVersion: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.version, b.goVersion = info.Main.Version, info.GoVersion
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.revision = s.Value
		case "vcs.time":
			b.time = s.Value
		case "vcs.modified":
			b.modified = s.Value == "true"
		}
	}
	return b
}

// short is one line.
func (b build) short() string {
	if b.version == "" {
		return "barrage (unknown version)"
	}
	return "barrage " + b.version
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the revision it was built from, and the Go version",
		Args:  noArgs,
		RunE: work(func(cmd *cobra.Command, _ []string) error {
			b := buildVersion()
			out := cmd.OutOrStdout()
			fmt.Fprintln(out, b.short())
			if b.revision != "" {
				state := ""
				if b.modified {
					state = ", with changes"
				}
				fmt.Fprintf(out, "revision %s of %s%s\n", b.revision, b.time, state)
			}
			_, err := fmt.Fprintf(out, "built with %s\n", b.goVersion)
			return err
		}),
	}
}

// noArgs is cobra.NoArgs with an error that says what is wrong.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(fmt.Errorf("%s takes no arguments, but %q was given", cmd.CommandPath(), args[0]))
	}
	return nil
}
