package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"barrage/auth"
	"barrage/broker"
	brokeropen "barrage/broker/open"
	"barrage/channel"
	"barrage/config"
	"barrage/gateway"
	"barrage/httpapi"
	"barrage/httpapi/apikey"
	"barrage/internal/keypair"
	"barrage/internal/spare"
	"barrage/journal"
	journalopen "barrage/journal/open"
	"barrage/limit"
	"barrage/metrics"
	"barrage/node"
	"barrage/session"
	"barrage/session/centrifuge"
	"barrage/web"
)

// server is a running node with everything around it.
type server struct {
	cfg     config.Config
	log     *slog.Logger
	journal journal.Journal
	node    *node.Node
	keys    *keypair.Pair // nil without TLS
	policy  *auth.Policy
	tokens  *auth.Verifier // nil without authentication
	gateway *gateway.Gateway
	api     *httpapi.API
	apiKeys *apikey.Ring
	server  *serverAPI
	http    *http.Server
}

// runServe runs a node until ctx ends, and then lets it end in order.
func runServe(ctx context.Context, cfg config.Config, out io.Writer, log *slog.Logger) error {
	// The port first: a second node on it must not touch the journal.
	listener, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	s := &server{cfg: cfg, log: log.With("node", cfg.Name)}
	if cfg.TLS.Enabled() {
		if s.keys, err = keypair.Open(cfg.TLS.Cert, cfg.TLS.Key, s.log); err != nil {
			return usageError(err)
		}
		go s.keys.Watch(ctx, keysInterval)
	}
	stop, err := s.identify(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if s.apiKeys, err = apiKeys(cfg.API, s.log); err != nil {
		return usageError(err)
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	rest, err := s.gateway.Listen(listener, cfg.Limits.Handshake, cfg.Engine == "portable")
	if err != nil {
		return errors.Join(err, s.close())
	}
	go spare.Run(ctx)
	go s.apiKeys.Watch(ctx, keysInterval)
	failed := make(chan error, 2)
	if err := s.server.serve(ctx, failed); err != nil {
		return errors.Join(err, s.close())
	}
	go func() { failed <- fmt.Errorf("%s: %w", listener.Addr(), s.http.Serve(rest)) }()
	greet(out, cfg, listener.Addr())
	select {
	case err = <-failed:
		err = fmt.Errorf("serving failed: %w", err)
	case <-ctx.Done():
		s.log.Info("shutting down", "connections", s.gateway.Count(), "drain", cfg.Limits.Drain)
	}
	return errors.Join(err, s.close())
}

// identify prepares to tell who clients are and what they may do. Keys of tokens are fetched and renewed until stop is called.
func (s *server) identify(ctx context.Context) (stop func(), err error) {
	if s.policy, err = newPolicy(&s.cfg); err != nil {
		return nil, err
	}
	if s.tokens, err = newTokens(&s.cfg, s.log); err != nil || s.tokens == nil {
		return func() {}, err
	}
	// Clients are let go after ctx has ended, and may show tokens until they are.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		s.tokens.Run(ctx)
		close(ended)
	}()
	return func() { cancel(); <-ended }, nil
}

// verifier is nil without authentication.
func (s *server) verifier() auth.Tokens {
	if s.tokens == nil {
		return nil
	}
	return s.tokens
}

// keysInterval is how often the files of the certificate and of API keys are looked at.
const keysInterval = 2 * time.Second

// tlsConfig is nil without TLS.
func (s *server) tlsConfig() *tls.Config {
	if s.keys == nil {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: s.keys.GetCertificate,
		// A WebSocket is opened by HTTP/1.1. A client that offers other protocols alone is refused.
		NextProtos: []string{"http/1.1"},
		// Small records at first help browsers to render pages; here they would only cost system calls.
		DynamicRecordSizingDisabled: true,
	}
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w; %s", addr, reason(err), listenAdvice(err))
	}
	return l, nil
}

// reason is what a network operation failed for, without its name and address.
func reason(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

func listenAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop what uses it, or choose another address with --listen"
	case errors.Is(err, syscall.EACCES):
		return "this user may not use that port: choose one above 1023 with --listen"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine does not have that address: choose one that it has with --listen"
	}
	return "choose another address with --listen"
}

// open opens the journal and starts the node.
func (s *server) open(ctx context.Context) error {
	if err := s.openJournal(ctx); err != nil {
		return err
	}
	appends := metrics.NewJournal()
	codecs, compression := session.Codecs(), (*session.Compression)(nil)
	if s.cfg.Compression {
		compression = &session.Compression{Threshold: s.cfg.CompressionThreshold}
		codecs = session.DeflatedCodecs(compression)
	}
	// One list for the whole node: the plain protocols', then those of the Centrifuge protocol.
	clients := &centrifuge.Server{First: len(codecs), Personal: s.cfg.Auth.Personal, Version: buildVersion().short()}
	codecs = append(codecs, centrifuge.Codecs(compression)...)
	n, err := node.New(node.Options{
		Name: s.cfg.Name, Version: buildVersion().version, Journal: s.journal, Codecs: codecs, Namespaces: namespaces(s.cfg.Namespaces),
		Log: s.log, Observe: appends.Observe,
		Retention: retention(s.cfg), Trim: s.cfg.History.Trim,
		OpenBroker: func(id string, h broker.Handler) (broker.Broker, error) {
			return brokeropen.Broker(s.cfg.Broker, brokeropen.Options{NodeID: id, Handler: h, Logger: s.log})
		},
	})
	if err != nil {
		if errors.Is(err, broker.ErrURL) {
			err = usageError(err)
		}
		return errors.Join(err, s.journal.Close())
	}
	s.node = n
	limits := s.cfg.Limits
	s.gateway = gateway.New(gateway.Options{
		Node: s.cfg.Name, Backend: n, Writers: n.Writers(), Log: s.log,
		Compression: compression, MaxMessage: limits.Message, MaxConnections: limits.Connections, MaxPerAddress: limits.ConnectionsPerAddress,
		Limits: limiter(limits, n.Usage()), Queue: limits.Queue,
		Ping: limits.Ping, Pong: limits.Pong, Write: limits.Write,
		Origins: s.cfg.Origins, TrustedProxies: prefixes(s.cfg.TrustedProxies), TLS: s.tlsConfig(),
		Policy: s.policy, Tokens: s.verifier(), UserHeader: s.cfg.Auth.UserHeader, Anonymous: s.cfg.Auth.Anonymous,
		Centrifuge: clients, Forwarder: n, Echo: s.cfg.DebugEndpoints,
	})
	n.SetConnections(s.gateway)
	registry := metrics.New(n, s.gateway, appends)
	if s.keys != nil {
		metrics.Certificate(registry, s.keys)
	}
	if s.tokens != nil {
		metrics.Tokens(registry, &s.tokens.Stats)
	}
	s.api = httpapi.New(n, registry)
	s.openServerAPI(registry)
	s.http = &http.Server{
		Handler: s.handler(), MaxHeaderBytes: 16 << 10, IdleTimeout: time.Minute,
		// Of the body too, which net/http reads before it sends an answer; and nobody waits for ever for who reads none.
		ReadTimeout: limits.Handshake, WriteTimeout: limits.Handshake + limits.Write,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// readyWait is how long a start waits for a journal that does not answer; afterwards the node starts without it.
const readyWait = 3 * time.Second

func (s *server) openJournal(ctx context.Context) error {
	url := s.cfg.JournalURL()
	if s.cfg.Journal == "" {
		if err := os.MkdirAll(s.cfg.Data, 0o750); err != nil {
			return fmt.Errorf("the data folder cannot be made: %w; choose another with --data", err)
		}
	}
	var err error
	if s.journal, err = journalopen.Journal(ctx, url, s.log); err != nil {
		if errors.Is(err, journal.ErrURL) {
			return usageError(err)
		}
		return err
	}
	ready, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	switch err := journalopen.Ready(ready, s.journal); {
	case err == nil:
	case errors.Is(err, journal.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		s.log.Warn("the journal does not answer yet; starting without it, /readyz stays at 503 until it does", "error", err)
	default:
		return errors.Join(err, s.journal.Close())
	}
	return nil
}

// namespaces are the settings as the node takes them.
func namespaces(settings config.Namespaces) channel.Namespaces {
	out := channel.Namespaces{Named: map[string]channel.Namespace{}}
	for name, s := range settings {
		ns := channel.Namespace{Live: s.Class == config.ClassLive, Merge: s.Merge}
		if name == config.DefaultNamespace {
			out.Default = ns
		}
		out.Named[name] = ns
	}
	return out
}

// retention is what channels keep, as the settings say. What a namespace leaves open holds as for all others.
func retention(c config.Config) journal.Policy {
	all := journal.Retention{Count: c.History.Count, Age: c.History.Age}
	p := journal.Policy{Default: all, Named: map[string]journal.Retention{}}
	for name, ns := range c.Namespaces {
		r := journal.Retention{Count: cmp.Or(ns.Count, all.Count), Age: cmp.Or(ns.Age, all.Age)}
		if p.Named[name] = r; name == config.DefaultNamespace {
			p.Default = r
		}
	}
	return p
}

// limiter holds the limits of clients.
func limiter(l config.Limits, usage limit.Usage) *limit.Limiter {
	return limit.New(limit.Options{
		Usage:    usage,
		Commands: limit.PerSecond(l.Commands), Publishes: limit.PerSecond(l.Publishes),
		UserConnections: l.UserConnections, UserPublishes: limit.PerSecond(l.UserPublishes),
		AddressConnects: limit.PerSecond(l.AddressConnects), ChannelPublishes: limit.PerSecond(l.ChannelPublishes),
	})
}

func prefixes(list []string) (out []netip.Prefix) {
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		} else if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// handler routes requests. Channels come first and by the path as it was sent: a mux would clean names like "a//b".
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	s.api.Register(mux)
	if s.cfg.API.Listen == "" {
		s.server.api.Register(mux)
	}
	if s.cfg.DebugEndpoints {
		s.log.Warn("the debug endpoints /echo and /debug/pprof/ are open to everyone who can connect")
		httpapi.RegisterProfiles(mux)
	}
	mux.Handle("/", web.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.gateway.Handles(r) {
			s.gateway.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// close ends the node in order: tell load balancers, send clients elsewhere, store what was accepted.
func (s *server) close() error {
	s.api.Drain()
	drain, cancel := context.WithTimeout(context.Background(), s.cfg.Limits.Drain)
	s.gateway.Shutdown(drain)
	cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(s.server.close(), shutdown(s.http), s.node.Close(ctx), s.journal.Close())
	if err == nil {
		s.log.Info("ended")
	}
	return err
}

// greet tells a person where everything is.
func greet(out io.Writer, cfg config.Config, addr net.Addr) {
	host := strings.NewReplacer("[::]", "localhost", "0.0.0.0", "localhost").Replace(addr.String())
	secure := ""
	if cfg.TLS.Enabled() {
		secure = "s"
	}
	fmt.Fprintf(out, `barrage is ready: node %s

  live room    http%[5]s://%[2]s/
  plain text   ws%[5]s://%[2]s/raw/lobby
  JSON         ws%[5]s://%[2]s/ws/lobby
  health       http%[5]s://%[2]s/healthz  http%[5]s://%[2]s/readyz  http%[5]s://%[2]s/metrics

  journal      %[3]s
  broker       %[4]s

`, cfg.Name, host, config.Mask(cfg.JournalURL()), config.Mask(cfg.Broker), secure)
}
