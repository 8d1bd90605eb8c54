package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"barrage/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show the settings of a node",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheck(), newConfigPrint(), newConfigReference())
	return cmd
}

func newConfigCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the settings",
		Long: `Reads the settings as serve does, from file, environment and flags, and says what is wrong with them. The exit code
is 0 when nothing is and 2 otherwise. Nothing is started, connected or created.`,
		Example: `  barrage config check --config /etc/barrage.yaml`,
		Args:    noArgs,
	}
	settings := addSettingFlags(cmd)
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		if _, err := settings.check(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the settings are valid")
		return err
	})
	return cmd
}

func newConfigPrint() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Show the settings that are in force, with explanations",
		Long: `Shows the settings that serve would run with, from file, environment and flags, as a file for --config. Passwords,
secrets and keys are masked unless --show-secrets is given; a file with masked ones is not accepted.`,
		Example: `  barrage config print
  barrage config print --show-secrets > barrage.yaml
  BARRAGE_LIMITS_MESSAGE=1MB barrage config print`,
		Args: noArgs,
	}
	secrets := cmd.Flags().Bool("show-secrets", false, "do not mask passwords, secrets and keys")
	settings := addSettingFlags(cmd)
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		c, err := settings.load()
		if err != nil {
			return err
		}
		return c.Print(cmd.OutOrStdout(), *secrets)
	})
	return cmd
}

func newConfigReference() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reference",
		Short: "Write the reference page of all settings (docs/settings.md)",
		Args:  noArgs,
	}
	file := cmd.Flags().StringP("output", "o", "", "write to `FILE` instead of standard output")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		var page bytes.Buffer
		if err := config.Reference(&page); err != nil {
			return err
		}
		if *file == "" {
			_, err := page.WriteTo(cmd.OutOrStdout())
			return err
		}
		return os.WriteFile(*file, page.Bytes(), 0o644)
	})
	return cmd
}
