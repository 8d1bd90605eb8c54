package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"barrage/client"
	"barrage/config"
)

// connectFlags are those of every command that talks to a server.
type connectFlags struct {
	urls    []string
	name    string
	ca      string
	token   string
	timeout durationValue
	quiet   bool
}

func addConnectFlags(cmd *cobra.Command, timeoutHelp string) *connectFlags {
	f := &connectFlags{timeout: durationValue(15 * time.Second)}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.urls, "url", []string{"ws://127.0.0.1:8000"},
		"`URL` of a node or balancer, ws://host:port or wss://host:port; give several to move on when one is lost")
	flags.StringVar(&f.ca, "ca", "", "trust the certificates in `FILE` (PEM) besides the system's, for wss://")
	flags.StringVar(&f.token, "token", "",
		"`TOKEN` that says who you are; better in BARRAGE_TOKEN, because others on this machine can see command lines")
	flags.Var(&f.timeout, "timeout", timeoutHelp)
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no notices on standard error")
	return f
}

// tokens gives what the client shows to say who it is, nil for nothing.
func (f *connectFlags) tokens() func(context.Context) (string, error) {
	text := cmp.Or(f.token, os.Getenv("BARRAGE_TOKEN"))
	if text == "" {
		return nil
	}
	return client.StaticToken(text)
}

// advise adds to an error of a command that takes --ca what to do about a certificate that is not trusted.
func advise(cmd *cobra.Command, err error) error {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && cmd.Flags().Lookup("ca") != nil {
		return fmt.Errorf("%w; if it is yours, give the certificate of its authority with --ca FILE", err)
	}
	return err
}

// tls gives what wss:// needs beyond the defaults, nil when that is nothing.
func (f *connectFlags) tls() (*tls.Config, error) {
	if f.ca == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, usageError(fmt.Errorf("--ca: the file cannot be read: %w; give the path of a PEM file", err))
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, usageError(fmt.Errorf("--ca: the file %s holds no certificate in PEM; give that of the server's authority", f.ca))
	}
	return &tls.Config{RootCAs: pool}, nil
}

// durationValue is a flag that takes what the settings take: 250ms, 25s, 7d.
type durationValue time.Duration

func (d *durationValue) String() string { return config.FormatDuration(time.Duration(*d)) }
func (d *durationValue) Type() string   { return "DURATION" }
func (d *durationValue) Set(s string) error {
	v, err := config.ParseDuration(s)
	if err == nil && v < 0 {
		err = fmt.Errorf("%s is negative", s)
	}
	*d = durationValue(v)
	return err
}

// notices writes what happens to a connection for the person at the terminal.
type notices struct {
	w      io.Writer
	dim    bool
	joined bool
}

func newNotices(w io.Writer, quiet bool) *notices {
	if quiet {
		w = io.Discard
	}
	return &notices{w: w, dim: isTerminal(w) && os.Getenv("NO_COLOR") == ""}
}

func (n *notices) printf(format string, args ...any) {
	text := "barrage: " + fmt.Sprintf(format, args...)
	if n.dim {
		text = "\x1b[2m" + text + "\x1b[0m"
	}
	fmt.Fprintln(n.w, text)
}

func (n *notices) event(e client.Event) {
	switch {
	case e.Welcome != nil:
		how := "joined"
		if n.joined {
			how = "back in"
		}
		n.joined = true
		n.printf("%s %s on node %s at offset %d", how, visible(e.Welcome.Channel), visible(e.Welcome.Node), e.Welcome.Offset)
	case e.Reset != nil:
		n.printf("messages were missed (%s); going on after offset %d", visible(e.Reset.Reason), e.Reset.Offset)
	case e.Skipped != nil:
		n.printf("too slow for a live channel: %d messages were skipped", e.Skipped.Count)
	case e.Gap != nil:
		n.printf("the server left out messages %d to %d", e.Gap.From, e.Gap.To)
	case e.Disconnected != nil:
		n.printf("%s: %s; next attempt in %s", e.Disconnected.URL, visible(e.Disconnected.Err.Error()),
			e.Disconnected.Retry.Round(10*time.Millisecond))
	}
}

// isTerminal says whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
