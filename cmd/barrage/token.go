package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"barrage/auth"
	"barrage/config"
	"barrage/proto"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make and check tokens of clients",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreate(), newTokenVerify(), newTokenSecret())
	return cmd
}

// tokenFlags are where the keys of tokens come from.
type tokenFlags struct {
	file, secret string
	keys         []string
}

func addTokenFlags(cmd *cobra.Command) *tokenFlags {
	f := &tokenFlags{}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.file, "config", "", "settings `FILE` (YAML; default: the one that BARRAGE_CONFIG names)")
	flags.StringVar(&f.secret, "secret", "", "a `TEXT` instead of auth.secret; other users of this machine can see it")
	return f
}

// load gives the settings, with the keys of the flags instead of theirs when there are any.
func (f *tokenFlags) load() (config.Config, error) {
	c, err := config.Load(f.file, os.Environ(), nil)
	if err != nil {
		return c, usageError(err)
	}
	if f.secret != "" || len(f.keys) > 0 {
		c.Auth.Secrets, c.Auth.Keys, c.Auth.JWKS = nil, f.keys, nil
		if f.secret != "" {
			c.Auth.Secrets = []string{f.secret}
		}
	}
	return c, nil
}

const tokenCreateLong = `Makes a token and prints it: one for a connection, or with --channel one for a subscription. It is signed with the
first secret of the setting auth.secret (HS256), or with the private key of --key (RS256, ES256, ES384, ES512 or EdDSA, by its
kind), and gets the claims aud and iss that the settings demand. A token with a key in place of a secret is for trying things out:
in production your own service mints tokens, and private keys stay there.`

// createOptions are the flags of token create.
type createOptions struct {
	*tokenFlags
	user, channel, client, info, meta string
	key, algorithm, id                string
	channels                          []string
	expires                           durationValue
}

func newTokenCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token",
		Long:  tokenCreateLong,
		Example: `  barrage token create --config barrage.yaml --user alice
  barrage token create --user alice --expires 10m --channels news,room --info '{"name":"Alice"}'
  barrage token create --user alice --channel room          for a subscription
  barrage token create --key private.pem --user alice`,
		Args: noArgs,
	}
	o := &createOptions{tokenFlags: addTokenFlags(cmd), expires: durationValue(time.Hour)}
	flags := cmd.Flags()
	flags.StringVar(&o.key, "key", "", "PEM `FILE` with a private key to sign with")
	flags.StringVar(&o.algorithm, "algorithm", "", "`NAME` of an algorithm of the key other than the usual one, such as HS512 or PS256")
	flags.StringVar(&o.id, "kid", "", "`ID` of the key, in the token's header")
	flags.StringVar(&o.user, "user", "", "user `ID` (claim sub); without it the token is for an anonymous client")
	flags.Var(&o.expires, "expires", "how long the token is good; 0 means for ever")
	flags.StringVar(&o.info, "info", "", "a `JSON` value that others see of the client")
	flags.StringVar(&o.meta, "meta", "", "a `JSON` value for your own services")
	flags.StringSliceVar(&o.channels, "channels", nil, "a `LIST` of channels that the connection is subscribed to")
	flags.StringVar(&o.channel, "channel", "", "make a token for a subscription to this channel, by `NAME`")
	flags.StringVar(&o.client, "client", "", "the only connection, by its `ID`, that may use a token for a subscription")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		token, err := o.create(time.Now())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
		return err
	})
	return cmd
}

func (o *createOptions) create(now time.Time) (string, error) {
	cfg, err := o.load()
	if err != nil {
		return "", err
	}
	claims, err := o.claims(now)
	if err != nil {
		return "", usageError(err)
	}
	if cfg.Auth.Audience != "" {
		claims["aud"] = cfg.Auth.Audience
	}
	if cfg.Auth.Issuer != "" {
		claims["iss"] = cfg.Auth.Issuer
	}
	signer := auth.Signer{Algorithm: o.algorithm, ID: o.id}
	switch {
	case o.key != "":
		if signer.Key, err = auth.ReadPrivateKey(o.key); err != nil {
			return "", usageError(err)
		}
	case len(cfg.Auth.Secrets) > 0:
		signer.Key = []byte(cfg.Auth.Secrets[0])
	default:
		return "", usageError(errors.New("there is nothing to sign with; set auth.secret (BARRAGE_AUTH_SECRET), or give --secret or --key"))
	}
	token, err := signer.Sign(claims)
	if err == nil && len(token) > auth.MaxToken {
		err = fmt.Errorf("the token would have %d bytes, and at most %d are accepted; shorten its claims", len(token), auth.MaxToken)
	}
	return token, usageError(err)
}

// claims are what the flags say.
func (o *createOptions) claims(now time.Time) (map[string]any, error) {
	if err := proto.CheckUser(o.user); err != nil {
		return nil, err
	}
	claims := map[string]any{"sub": o.user, "iat": now.Unix()}
	if o.expires != 0 {
		claims["exp"] = now.Add(time.Duration(o.expires)).Unix()
	}
	for name, text := range map[string]string{"info": o.info, "meta": o.meta} {
		if text == "" {
			continue
		}
		if !json.Valid([]byte(text)) {
			return nil, fmt.Errorf("--%s %q is not JSON", name, visible(text))
		}
		claims[name] = json.RawMessage(text)
	}
	for _, channel := range append(o.channels, o.channel) {
		if channel == "" {
			continue
		}
		if err := proto.CheckChannel(channel); err != nil {
			return nil, err
		}
	}
	switch {
	case o.channel == "" && o.client != "":
		return nil, errors.New("--client belongs to a token for a subscription; give --channel too")
	case o.channel != "" && (len(o.channels) > 0 || o.meta != ""):
		return nil, errors.New("--channels and --meta belong to a token for a connection; leave out --channel")
	case o.channel != "":
		claims["channel"] = o.channel
	}
	if o.client != "" {
		claims["client"] = o.client
	}
	if len(o.channels) > 0 {
		claims["channels"] = o.channels
	}
	return claims, nil
}

const tokenVerifyLong = `Verifies a token as a node with these settings would, and prints its claims as JSON. Without TOKEN it is read from
standard input. The exit code is 0 when the token is good; otherwise it is 1, the claims are printed all the same, and standard
error says why it is refused. Keys of auth.jwks are fetched.`

func newTokenVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [TOKEN]",
		Short: "Say what a token says, and whether it is good",
		Long:  tokenVerifyLong,
		Example: `  barrage token verify --config barrage.yaml eyJhbGciOi…
  barrage token create --user alice | barrage token verify
  barrage token verify --key public.pem < token.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(fmt.Errorf("give one token: %s", cmd.UseLine()))
			}
			return nil
		},
	}
	f := addTokenFlags(cmd)
	cmd.Flags().StringArrayVar(&f.keys, "key", nil, "PEM `FILE` with a public key instead of the settings' keys; may be repeated")
	cmd.RunE = work(func(cmd *cobra.Command, args []string) error {
		token, err := givenToken(cmd.InOrStdin(), args)
		if err != nil {
			return err
		}
		return verifyToken(cmd, f, token)
	})
	return cmd
}

// givenToken is the argument, or what standard input holds.
func givenToken(in io.Reader, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	text, err := io.ReadAll(io.LimitReader(in, 2*auth.MaxToken))
	return strings.TrimSpace(string(text)), err
}

func verifyToken(cmd *cobra.Command, f *tokenFlags, token string) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	v, err := newTokens(&cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	claims, err := peek(token)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), claims.text); err != nil {
		return err
	}
	if v == nil {
		return usageError(errors.New("there is no key to verify with; set auth.secret, auth.keys or auth.jwks, or give --secret or --key"))
	}
	if err := v.Fetch(cmd.Context()); err != nil {
		return err
	}
	var refused *proto.Error
	if claims.channel != nil {
		_, refused = v.Subscription(token, *claims.channel, claims.user, claims.client)
	} else {
		_, refused = v.Connection(token)
	}
	if refused != nil {
		return errors.New("the token is refused: " + refused.Message)
	}
	return nil
}

// peeked is what a token says of itself, whoever made it.
type peeked struct {
	text         string  // all claims, for people
	channel      *string // claim channel; nil for a token of a connection
	user, client string  // claims sub and client
}

// peek reads the claims without verifying anything.
func peek(token string) (p peeked, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return p, errors.New("this is no JSON Web Token: it must have three parts with dots between them")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var b bytes.Buffer
	if err != nil || json.Indent(&b, payload, "", "  ") != nil {
		return p, errors.New("this is no JSON Web Token: its second part is not JSON in base64url")
	}
	p.text = visibleJSON(b.String())
	var claims map[string]json.RawMessage // by their exact names, as the verifier takes them
	_ = json.Unmarshal(payload, &claims)
	for name, at := range map[string]any{"channel": &p.channel, "sub": &p.user, "client": &p.client} {
		if text, ok := claims[name]; ok {
			_ = json.Unmarshal(text, at) // claims of a wrong type are the verifier's business
		}
	}
	return p, nil
}

// visibleJSON makes bytes that would control a terminal visible: in JSON they can only stand where they are not valid.
func visibleJSON(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = visible(lines[i])
	}
	return strings.Join(lines, "\n")
}

func newTokenSecret() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Make a random secret for the setting auth.secret",
		Long:  `Prints 32 random bytes as 43 letters, digits, dashes and underscores: a secret for auth.secret, and for what mints tokens.`,
		Args:  noArgs,
	}
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // it never fails
		_, err := fmt.Fprintln(cmd.OutOrStdout(), base64.RawURLEncoding.EncodeToString(secret))
		return err
	})
	return cmd
}
