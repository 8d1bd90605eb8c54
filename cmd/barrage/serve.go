package main

import (
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"barrage/config"
)

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start a node",
		Long: `Starts a node and serves until SIGINT or SIGTERM. Without any settings it listens on 127.0.0.1:8000 and keeps its
journal in ./barrage-data.

Settings come from a YAML file (--config), then from the environment (BARRAGE_LISTEN, BARRAGE_LIMITS_MESSAGE, …),
then from these flags; the later one wins. "barrage config print" shows what is in force, with explanations.`,
		Example: `  barrage serve
  barrage serve --listen :8000 --open --name a --journal postgres://barrage:secret@db/barrage --broker redis://cache:6379
  barrage serve --config /etc/barrage.yaml --log-format json`,
		Args: noArgs,
	}
	settings := addSettingFlags(cmd)
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.check()
		if err != nil {
			return err
		}
		if cfg.Name == "" {
			cfg.Name = defaultName()
		}
		return runServe(cmd.Context(), cfg, cmd.OutOrStdout(), newLogger(cmd.ErrOrStderr(), cfg.Log))
	})
	return cmd
}

// defaultName is the host's name with a random suffix, so that two nodes of one host differ.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "node"
	}
	host, _, _ = strings.Cut(host, ".")
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, host)
	return host[:min(len(host), 48)] + "-" + strings.ToLower(rand.Text()[:4])
}

// newLogger writes to w as the settings, which are valid, say.
func newLogger(w io.Writer, settings config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(settings.Level))
	options := &slog.HandlerOptions{Level: level}
	if settings.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
