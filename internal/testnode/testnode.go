// Package testnode runs a node with its gateway and its HTTP server inside the process of a test, so that the test can
// look into it. Its journal is in memory and it has no broker. For real processes see internal/testserver.
package testnode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"barrage/broker"
	"barrage/broker/local"
	"barrage/gateway"
	"barrage/journal"
	"barrage/journal/memory"
	"barrage/node"
	"barrage/session"
	"barrage/session/centrifuge"
)

// Options of a server. The zero value works.
type Options struct {
	// Portable chooses the portable engine.
	Portable bool
	// Gateway is passed on; its Node, Backend, Writers and, when there are none, Forwarder and Log are filled in.
	Gateway gateway.Options
	// Retention and Linger are as in node.Options.
	Retention journal.Retention
	Linger    time.Duration
	// Handshake is how long a request may take to arrive; 0 means 10 s.
	Handshake time.Duration
}

// Server is a running node.
type Server struct {
	// Addr is host:port.
	Addr    string
	Node    *node.Node
	Gateway *gateway.Gateway

	journal journal.Journal
	http    *http.Server
	served  chan error
}

// Engines names what Portable chooses between, for subtests.
var Engines = map[string]bool{"auto": false, "portable": true}

// Start starts a server on a free port of the loopback interface.
func Start(o Options) (*Server, error) {
	if o.Handshake == 0 {
		o.Handshake = 10 * time.Second
	}
	s := &Server{journal: memory.New(), served: make(chan error, 1)}
	codecs := session.Codecs()
	if o.Gateway.Compression != nil {
		codecs = session.DeflatedCodecs(o.Gateway.Compression)
	}
	if o.Gateway.Centrifuge == nil {
		o.Gateway.Centrifuge = &centrifuge.Server{}
	}
	o.Gateway.Centrifuge.First = len(codecs)
	codecs = append(codecs, centrifuge.Codecs(o.Gateway.Compression)...)
	var err error
	s.Node, err = node.New(node.Options{
		Name: "test", Journal: s.journal, Codecs: codecs, Writers: 2,
		Retention: journal.Policy{Default: o.Retention}, Trim: 100 * time.Millisecond, Linger: o.Linger,
		OpenBroker: func(_ string, h broker.Handler) (broker.Broker, error) { return local.Open(h), nil },
	})
	if err != nil {
		return nil, errors.Join(err, s.journal.Close())
	}
	o.Gateway.Node, o.Gateway.Backend, o.Gateway.Writers = "test", s.Node, s.Node.Writers()
	if o.Gateway.Forwarder == nil {
		o.Gateway.Forwarder = s.Node
	}
	if o.Gateway.Log == nil {
		o.Gateway.Log = slog.New(slog.DiscardHandler)
	}
	s.Gateway = gateway.New(o.Gateway)
	// As in the program: requests have the same limits wherever they are judged.
	s.http = &http.Server{
		Handler: s, MaxHeaderBytes: 16 << 10, IdleTimeout: time.Minute, ReadTimeout: o.Handshake, WriteTimeout: o.Handshake + 30*time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	if err := s.listen(o); err != nil {
		s.served <- http.ErrServerClosed
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) listen(o Options) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rest, err := s.Gateway.Listen(l, o.Handshake, o.Portable)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s.Addr = l.Addr().String()
	go func() { s.served <- s.http.Serve(rest) }()
	return nil
}

// ServeHTTP answers what the gateway does not: /healthz with ok.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.Gateway.Handles(r):
		s.Gateway.ServeHTTP(w, r)
	case r.URL.Path == "/healthz":
		// A client that is gone does not need to be told.
		_, _ = io.WriteString(w, "ok\n")
	default:
		http.NotFound(w, r)
	}
}

// Close cuts all connections and ends the node.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // at once
	s.Gateway.Shutdown(ctx)
	err := s.http.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) && !errors.Is(served, net.ErrClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, s.Node.Close(context.Background()), s.journal.Close())
}
