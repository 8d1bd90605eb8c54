// Package gateway takes connections from HTTP to their end: it checks the handshake, the origin and the limits, chooses the
// wire format by path, and keeps the list of connections.
//
// A request that cannot be served is answered by HTTP with a sentence that says what to do. After the upgrade the connection
// belongs to the engine; the gateway reads frames out of its bytes and gives messages to its session.
package gateway

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"barrage/engine"
	"barrage/fanout"
	"barrage/proto"
	"barrage/session"
	"barrage/ws"
)

// Options of a gateway. Backend and Writers are needed; the zero value of the rest works and limits nothing but messages.
type Options struct {
	// Node is the name told in welcomes.
	Node    string
	Backend session.Backend
	Writers *fanout.Writers
	// MaxMessage is the largest message in bytes; 0 means ws.DefaultMaxMessage.
	MaxMessage int
	// MaxConnections bounds the connections of the node, MaxPerAddress those of one client address, loopback excepted;
	// 0 means no limit.
	MaxConnections, MaxPerAddress int
	// Ping is how often a silent connection is pinged (25 s), Pong how long it may stay silent then (10 s), Write
	// how long it may accept no bytes (30 s).
	Ping, Pong, Write time.Duration
	// Origins lists the origins of pages that may connect besides the node's own.
	Origins []string
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// TLS makes Listen serve TLS; nil means that it does not.
	TLS *tls.Config
	Log *slog.Logger
}

// Stats counts what a gateway did since the start.
type Stats struct {
	Accepted  atomic.Int64
	Refused   atomic.Int64 // handshakes answered by HTTP
	Closed    atomic.Int64
	Received  atomic.Int64 // messages from clients
	NoPong    atomic.Int64 // connections closed because they were silent
	Slow      atomic.Int64 // connections closed because they accepted no bytes or let answers pile up
	Violation atomic.Int64 // connections closed because of what they sent
}

// Gateway serves /raw/ and /ws/.
type Gateway struct {
	Options
	rules  ws.Rules
	engine engine.Engine
	stats  Stats
	secure engine.TLSStats

	mu      sync.Mutex
	conns   map[*conn]struct{} // owner: mu
	pending int                // owner: mu; accepted and not yet in conns
	perAddr map[netip.Addr]int // owner: mu
	closing bool               // owner: mu
	empty   chan struct{}      // closed when closing and no connection is left
}

// New starts a gateway.
func New(o Options) *Gateway {
	o.Ping, o.Pong, o.Write = or(o.Ping, 25*time.Second), or(o.Pong, 10*time.Second), or(o.Write, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		Options: o, rules: ws.Rules{MaxMessage: o.MaxMessage},
		conns: map[*conn]struct{}{}, perAddr: map[netip.Addr]int{}, empty: make(chan struct{}),
	}
	g.engine = engine.NewPortable(g.engineOptions())
	return g
}

// engineOptions makes ticks as frequent as the shortest of the times that they look after needs.
func (g *Gateway) engineOptions() engine.Options {
	return engine.Options{Tick: min(max(min(g.Ping, g.Pong, g.Write)/4, 50*time.Millisecond), 5*time.Second)}
}

// Listen serves the connections of l by the engine of this system, or by the portable one. Requests that are not for the
// gateway come out of the listener that is returned. It is called at most once, before any request.
func (g *Gateway) Listen(l net.Listener, handshake time.Duration, portable bool) (net.Listener, error) {
	e, rest, err := engine.Listen(l, engine.LoopOptions{
		Options: g.engineOptions(), Upgrader: g, Handshake: handshake, TLS: g.TLS, TLSStats: &g.secure, Log: g.Log,
	}, portable)
	if err != nil {
		return nil, err
	}
	g.engine.Close()
	g.engine = e
	return rest, nil
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Stats are the gateway's counters.
func (g *Gateway) Stats() *Stats { return &g.stats }

// TLSStats are the counters of the handshakes of TLS.
func (g *Gateway) TLSStats() *engine.TLSStats { return &g.secure }

// Connections is the number of connections now.
func (g *Gateway) Connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns)
}

// formats by the first part of the path.
var formats = map[string]int{"/raw/": session.Raw, "/ws/": session.JSON}

// Handles says whether a request is for the gateway, by its path.
func Handles(r *http.Request) bool {
	for prefix := range formats {
		if strings.HasPrefix(r.URL.EscapedPath(), prefix) {
			return true
		}
	}
	return false
}

// target is what a request asks for.
type target struct {
	format  int
	channel string
	query   proto.JoinQuery
}

// parse reads the path and the query.
func parse(r *http.Request) (t target, err error) {
	path := r.URL.EscapedPath()
	for prefix, format := range formats {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			t.format = format
			if t.channel, err = url.PathUnescape(rest); err != nil {
				return t, fmt.Errorf("the channel's name is not percent-encoded right: %w", err)
			}
		}
	}
	if err := proto.CheckChannel(t.channel); err != nil {
		return t, err
	}
	t.query, err = proto.ParseQuery(r.URL.RawQuery)
	if e, ok := errors.AsType[*proto.Error](err); ok {
		return t, errors.New(e.Message)
	}
	return t, err
}

// admission is a request that may become a connection. It is counted until its connection is released.
type admission struct {
	target
	key  string
	addr netip.Addr
}

// admit judges a request. The error is a *ws.HandshakeError.
func (g *Gateway) admit(r *http.Request) (a admission, err error) {
	up, err := ws.CheckUpgrade(r)
	if err != nil {
		return a, err
	}
	if a.target, err = parse(r); err != nil {
		return a, &ws.HandshakeError{Status: http.StatusBadRequest, Message: err.Error()}
	}
	if !ws.OriginAllowed(up.Origin, up.Host, g.Origins) {
		return a, &ws.HandshakeError{Status: http.StatusForbidden, Message: fmt.Sprintf("pages of the origin %q may not connect here; add it to the setting origins", up.Origin)}
	}
	a.key, a.addr = up.Key, g.clientAddr(r)
	return a, g.count(a.addr)
}

// Handles implements engine.Upgrader.
func (g *Gateway) Handles(r *http.Request) bool { return Handles(r) }

// Upgrade implements engine.Upgrader.
func (g *Gateway) Upgrade(r *http.Request) (refusal []byte, open func(engine.Socket) engine.Handler) {
	a, err := g.admit(r)
	if err != nil {
		return g.refusal(err).AppendTo(nil), nil
	}
	g.stats.Accepted.Add(1)
	return nil, func(s engine.Socket) engine.Handler { return g.open(s, a) }
}

// ServeHTTP upgrades a request that net/http has read, or says why not.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := g.admit(r)
	if err != nil {
		g.refuse(w, err)
		return
	}
	if err := g.upgrade(w, a); err != nil {
		g.release(a.addr, nil)
		g.Log.Debug("a handshake was not completed", "address", a.addr, "error", err)
	}
}

// refusal counts an error of admit and returns what to answer.
func (g *Gateway) refusal(err error) *ws.HandshakeError {
	g.stats.Refused.Add(1)
	e := &ws.HandshakeError{Status: http.StatusInternalServerError, Message: "internal error"}
	errors.As(err, &e)
	return e
}

func (g *Gateway) refuse(w http.ResponseWriter, err error) {
	e := g.refusal(err)
	maps.Copy(w.Header(), e.Header)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(e.Status)
	fmt.Fprintln(w, e.Message)
}

// upgrade answers the handshake and hands the connection to the engine.
func (g *Gateway) upgrade(w http.ResponseWriter, a admission) error {
	netConn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		g.refuse(w, &ws.HandshakeError{Status: http.StatusInternalServerError, Message: "this server cannot upgrade connections"})
		return err
	}
	// net/http may have left deadlines of its own.
	if err := netConn.SetDeadline(time.Time{}); err != nil {
		netConn.Close()
		return err
	}
	g.stats.Accepted.Add(1)
	g.engine.Serve(netConn, buffered(rw.Reader), func(s engine.Socket) engine.Handler { return g.open(s, a) })
	return nil
}

// buffered returns what net/http has read beyond the request.
func buffered(r *bufio.Reader) []byte {
	b := make([]byte, r.Buffered())
	n, _ := r.Read(b) // the bytes are there
	return b[:n]
}

// clientAddr is who connects: the peer, or whom a trusted proxy names last.
func (g *Gateway) clientAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && g.trusted(addr); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap()
	}
	return addr
}

func (g *Gateway) trusted(a netip.Addr) bool {
	for _, p := range g.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// count counts a connection, if there is room for it.
func (g *Gateway) count(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	retry := http.Header{"Retry-After": {"5"}}
	if g.closing {
		return &ws.HandshakeError{Status: http.StatusServiceUnavailable, Header: retry, Message: "this node is shutting down; connect to another"}
	}
	if g.MaxConnections > 0 && len(g.conns)+g.pending >= g.MaxConnections {
		return &ws.HandshakeError{Status: http.StatusServiceUnavailable, Header: retry, Message: fmt.Sprintf("this node has reached its limit of %d connections; connect to another or raise limits.connections", g.MaxConnections)}
	}
	if g.MaxPerAddress > 0 && !addr.IsLoopback() && g.perAddr[addr] >= g.MaxPerAddress {
		return &ws.HandshakeError{Status: http.StatusTooManyRequests, Header: retry, Message: fmt.Sprintf("your address %s has reached its limit of %d connections; close some or raise limits.connections_per_address", addr, g.MaxPerAddress)}
	}
	g.pending++
	g.perAddr[addr]++
	return nil
}

// open makes the connection of an admitted request.
func (g *Gateway) open(socket engine.Socket, a admission) engine.Handler {
	c := &conn{gateway: g, socket: socket, addr: a.addr, asm: ws.NewAssembler(&g.rules)}
	c.heard.Store(time.Now().UnixNano())
	c.out = fanout.NewOutlet(g.Writers, socket, 0)
	c.session = session.New(session.Options{
		Node: g.Node, Client: strings.ToLower(rand.Text()[:16]), Channel: a.channel, Format: a.format, Query: a.query,
		Greeting: ws.AppendResponse(nil, a.key, "", nil),
		Backend:  g.Backend, Outlet: c.out, Resume: c.resume, Slow: func() { g.stats.Slow.Add(1) },
	})
	g.mu.Lock()
	g.pending--
	g.conns[c] = struct{}{}
	closing := g.closing
	g.mu.Unlock()
	g.Log.Debug("connected", "session", c.session, "address", a.addr)
	c.session.Start()
	if closing {
		c.leave(proto.CloseShutdown)
	}
	return c
}

// release forgets an admitted connection; c is nil when it was never opened.
func (g *Gateway) release(addr netip.Addr, c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c == nil {
		g.pending--
	} else {
		delete(g.conns, c)
	}
	if g.perAddr[addr]--; g.perAddr[addr] == 0 {
		delete(g.perAddr, addr)
	}
	g.checkEmpty()
}

func (g *Gateway) checkEmpty() {
	if g.closing && len(g.conns)+g.pending == 0 {
		select {
		case <-g.empty:
		default:
			close(g.empty)
		}
	}
}

// Shutdown asks every client to go to another node, spread over a part of the time that ctx leaves so that they do not
// arrive there all at once, waits until they have gone, and closes the rest. New requests are refused from now on.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.mu.Lock()
	g.closing = true
	var all []*conn
	for c := range g.conns {
		all = append(all, c)
	}
	g.checkEmpty()
	g.mu.Unlock()
	g.drain(ctx, all)
	select {
	case <-g.empty:
	case <-ctx.Done():
		g.Log.Warn("connections are cut because they did not end in time", "connections", g.Connections())
	}
	g.engine.Close()
}

const (
	drainPace  = 50 * time.Millisecond
	drainBurst = 200 // connections that may be sent away per pace even if that is quicker than needed
)

func (g *Gateway) drain(ctx context.Context, all []*conn) {
	burst := drainBurst
	if deadline, ok := ctx.Deadline(); ok {
		steps := max(int(time.Until(deadline)/2/drainPace), 1)
		burst = max(burst, (len(all)+steps-1)/steps)
	}
	for i, c := range all {
		if i > 0 && i%burst == 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(drainPace):
			}
		}
		c.leave(proto.CloseShutdown.With("this node is shutting down; connect again"))
	}
}
