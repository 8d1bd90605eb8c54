package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"barrage/auth"
	"barrage/config"
	"barrage/gateway"
	"barrage/httpapi"
	"barrage/httpapi/apikey"
	"barrage/httpapi/callback"
	"barrage/internal/keypair"
	"barrage/internal/spare"
	"barrage/journal"
	"barrage/node"
	"barrage/web"
)

// server is a running node with everything around it.
type server struct {
	cfg     config.Config
	log     *slog.Logger
	journal journal.Journal
	// answered says that the journal did when it was opened.
	answered bool

	node    *node.Node
	keys    *keypair.Pair // nil without TLS
	policy  *auth.Policy
	tokens  *auth.Verifier // nil without authentication
	gateway *gateway.Gateway
	api     *httpapi.API
	apiKeys *apikey.Ring
	server  *serverAPI
	// callback answers rpc; nil without rpc.url.
	callback *callback.Service
	http     *http.Server
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
	greet(out, cfg, listener.Addr(), s.answered)
	select {
	case err = <-failed:
		err = fmt.Errorf("serving failed: %w", err)
	case <-ctx.Done():
		s.log.Info("shutting down", "connections", s.gateway.Count(), "drain", cfg.Limits.Drain.String())
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
	guarded := s.gateway.Guard(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.gateway.Handles(r):
			s.gateway.ServeHTTP(w, r)
		case httpapi.IsHealth(r):
			mux.ServeHTTP(w, r)
		default:
			guarded.ServeHTTP(w, r)
		}
	})
}

// hosts are the names by which the node is asked: with authentication, or where it is open to everybody, all.
func (s *server) hosts() *gateway.Hosts {
	if !s.cfg.TrustsItsMachine(s.cfg.Listen) {
		return nil
	}
	return gateway.OwnHosts(s.cfg.Origins)
}

// close ends the node in order: tell load balancers, send clients elsewhere, store what was accepted.
func (s *server) close() error {
	s.api.Drain()
	drain, cancel := context.WithTimeout(context.Background(), s.cfg.Limits.Drain)
	s.gateway.Shutdown(drain)
	cancel()
	err := errors.Join(s.server.close(), shutdown(s.http))
	if s.callback != nil {
		s.callback.Close() // before the node, which answers may still go through
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = errors.Join(err, s.node.Close(ctx), s.journal.Close())
	if err == nil {
		s.log.Info("ended")
	}
	return err
}
