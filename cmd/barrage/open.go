package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"time"

	"barrage/broker"
	brokeropen "barrage/broker/open"
	"barrage/channel"
	"barrage/config"
	"barrage/gateway"
	"barrage/httpapi"
	"barrage/httpapi/callback"
	"barrage/journal"
	journalopen "barrage/journal/open"
	"barrage/limit"
	"barrage/metrics"
	"barrage/node"
	"barrage/session"
	"barrage/session/centrifuge"
)

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
	if s.cfg.RPC.URL != "" {
		s.callback = callback.New(callback.Options{URL: s.cfg.RPC.URL, Timeout: s.cfg.RPC.Timeout, Log: s.log})
		clients.RPC = s.callback.Call
	}
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
		Origins: s.cfg.Origins, Hosts: s.hosts(), TrustedProxies: prefixes(s.cfg.TrustedProxies), TLS: s.tlsConfig(),
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
	if s.callback != nil {
		calls := s.callback.Stats()
		metrics.Callback(registry, &calls.Calls, &calls.Refused, &calls.Failed)
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
		s.answered = true
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
