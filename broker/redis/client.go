package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// rebuildAfter is how long nothing at all may work before the client is thrown away and made anew, with fresh
// addresses. It makes sure that nothing a client remembers can keep the broker down.
const rebuildAfter = 20 * time.Second

// Sizes of one connection, in bytes and (as a power of two) commands under way. The client's own defaults are ten
// times as much for each of many connections.
const (
	connBuffer = 64 << 10
	connRing   = 8
)

// topologyEvery is how often masters are looked up although nothing seems to have changed.
const topologyEvery = 10 * time.Second

// run makes clients, one after the other, and lets all partitions work with them.
func (b *Broker) run(ctx context.Context) {
	pause := b.o.backoff()
	for {
		err := b.life(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			b.health.reportAll(err)
		} else {
			pause.reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause.next()):
		}
	}
}

// life is that of one client. Its error is why there is none.
func (b *Broker) life(ctx context.Context) error {
	var s sockets
	defer s.close()
	defer context.AfterFunc(ctx, s.close)()
	client, err := rueidis.NewClient(b.clientOption(ctx, &s))
	if client != nil { // there may be one in spite of an error
		defer client.Close()
	}
	if err == nil {
		b.work(ctx, client)
	}
	return err
}

// work runs all partitions until ctx ends or nothing has worked for rebuildAfter.
func (b *Broker) work(ctx context.Context, client rueidis.Client) {
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	for i := range b.links {
		parts.Go(func() { b.pubs[i].run(ctx, client) })
		parts.Go(func() { b.links[i].run(ctx, client) })
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for worked := time.Now(); ctx.Err() == nil && time.Since(worked) < rebuildAfter; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if !b.health.allDown() {
				worked = time.Now()
			}
		}
	}
	cancel()
	parts.Wait()
}

// clientOption translates the target. Every wait of the client is bounded by ProbeTimeout.
func (b *Broker) clientOption(ctx context.Context, s *sockets) rueidis.ClientOption {
	t := b.target
	dialer := net.Dialer{Timeout: b.o.ProbeTimeout, KeepAlive: b.o.ProbeEvery}
	option := rueidis.ClientOption{
		InitAddress:         append([]string(nil), t.addrs...),
		Username:            t.user,
		Password:            t.password,
		SelectDB:            t.db,
		ClientName:          clientName(b.o.NodeID),
		TLSConfig:           t.tls,
		Dialer:              dialer,
		ConnWriteTimeout:    b.o.ProbeTimeout,
		DisableCache:        true, // it would need CLIENT TRACKING, and nothing is read
		DisableRetry:        true, // retries are the links' business
		PipelineMultiplex:   -1,   // one connection to publish: with several the order would be lost
		ReadBufferEachConn:  connBuffer,
		WriteBufferEachConn: connBuffer,
		RingScaleEachConn:   connRing,
		DialCtxFn: func(dialing context.Context, addr string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
			return s.dial(ctx, dialing, addr, d, secure)
		},
	}
	switch t.kind {
	case single:
		option.ForceSingleClient = true
	case sentinel:
		option.Sentinel = rueidis.SentinelOption{
			MasterSet: t.master, Username: t.watchUser, Password: t.watchPassword,
			Dialer: dialer, TLSConfig: t.tls, TopologyRefreshInterval: topologyEvery,
		}
	case cluster:
		option.ShuffleInit = true
		option.ClusterOption = rueidis.ClusterOption{ShardsRefreshInterval: topologyEvery, MaxMovedRedirections: 3}
	}
	return option
}

// clientName makes a name that CLIENT SETNAME takes: it refuses spaces and control characters.
func clientName(node string) string {
	name := []byte("barrage-" + node)
	for i, c := range name {
		if c <= ' ' || c > '~' {
			name[i] = '_'
		}
	}
	return string(name)
}

// sockets knows all connections of one client. Closing them ends every wait of the client at once, and whatever it has
// left running: a client for a cluster looks at the servers again up to a second after its own end.
type sockets struct {
	mu     sync.Mutex
	open   map[*socket]bool
	closed bool
}

// socket is a connection that leaves sockets when it is closed.
type socket struct {
	net.Conn
	owner *sockets
}

// dial connects until either context ends, and for d.Timeout at most: the handshake of TLS is part of that.
func (s *sockets) dial(life, dialing context.Context, addr string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(dialing, d.Timeout)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &socket{Conn: raw, owner: s}
	if !s.add(c) {
		raw.Close()
		return nil, net.ErrClosed
	}
	if secure == nil {
		return c, nil
	}
	conn, err := handshake(ctx, c, addr, secure)
	if err != nil {
		c.Close()
		return nil, err
	}
	return conn, nil
}

// handshake makes a TLS connection to addr over c.
func handshake(ctx context.Context, c net.Conn, addr string, secure *tls.Config) (net.Conn, error) {
	if secure.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		secure = secure.Clone()
		secure.ServerName = host
	}
	conn := tls.Client(c, secure)
	return conn, explainTLS(conn.HandshakeContext(ctx))
}

// explainTLS adds to the error of a handshake what a person can do about it.
func explainTLS(err error) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		plain   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; name the file of the authority that signed the server's certificate by tls_ca", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w; connect by a name that is in the server's certificate, or give that name by tls_server_name", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("%w; the server needs another certificate", err)
	case errors.As(err, &plain), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in TLS: %w; name a port that speaks it, or write redis:// without tls", err)
	}
	return err
}

func (s *sockets) add(c *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.open == nil {
		s.open = map[*socket]bool{}
	}
	s.open[c] = true
	return true
}

// Close closes the connection.
func (c *socket) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.open, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// close ends all connections; no new ones are made.
func (s *sockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		c.Conn.Close()
	}
}
