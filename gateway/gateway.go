// Package gateway takes connections from HTTP to their end: it checks the handshake, the origin and the limits, finds out
// who connects, chooses the wire format by path, and keeps the list of connections.
//
// A request that cannot be served is answered by HTTP with a sentence that says what to do; who shows no valid token, or has too many
// connections, is told by a close code, which pages can read. Tokens are in no log and no error. After the upgrade the connection
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
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"barrage/auth"
	"barrage/engine"
	"barrage/fanout"
	"barrage/limit"
	"barrage/proto"
	"barrage/session"
	"barrage/session/centrifuge"
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
	// Compression, when set, lets clients negotiate permessage-deflate. The backend's codecs are then
	// session.DeflatedCodecs of it.
	Compression *session.Compression
	// MaxConnections bounds the connections of the node, MaxPerAddress those of one client address (of one /64 of IPv6),
	// loopback excepted; 0 means no limit.
	MaxConnections, MaxPerAddress int
	// Ping is how often a silent connection is pinged (25 s), Pong how long it may stay silent then (10 s), Write
	// how long it may accept no bytes (30 s).
	Ping, Pong, Write time.Duration
	// Origins lists the origins of pages that may connect besides the node's own.
	Origins []string
	// Hosts are the names that requests may be for; nil means every name. See OwnHosts.
	Hosts *Hosts
	// TrustedProxies are the peers whose X-Forwarded-For, and UserHeader, are believed.
	TrustedProxies []netip.Prefix
	// Policy says who may do what; nil allows everything to everyone.
	Policy *auth.Policy
	// Tokens verifies tokens; nil means that there is no authentication.
	Tokens auth.Tokens
	// UserHeader names the field in which a trusted proxy, which has authenticated a user, says who that is; empty for none.
	UserHeader string
	// Anonymous lets clients connect that show nothing, where there is authentication.
	Anonymous bool
	// Limits says what is too much; nil limits nothing.
	Limits *limit.Limiter
	// Queue bounds the bytes of answers that wait to be read on a connection; 0 means fanout.DefaultPending.
	Queue int
	// Centrifuge, when set, opens /connection/websocket, the streams of that protocol, and /emulation. What it leaves open of Backend, Compression, Ping, Policy, Tokens with
	// Anonymous, and Limits is filled in. The
	// backend's codecs have those of package centrifuge behind those of package session; First says where.
	Centrifuge *centrifuge.Server
	// Forwarder reaches the sessions on other nodes whose clients send commands in requests of their own; nil means that there are no
	// other nodes.
	Forwarder Forwarder
	// Echo opens /echo, which gives back what it is sent: for suites that test RFC 6455, not for the public.
	Echo bool
	// TLS makes Listen serve TLS; nil means that it does not.
	TLS *tls.Config
	Log *slog.Logger
}

// Stats counts what a gateway did since the start.
type Stats struct {
	Accepted    atomic.Int64
	Refused     atomic.Int64 // handshakes answered by HTTP
	Misdirected atomic.Int64 // requests, for whatever path, for a name that is not among Options.Hosts
	Closed      atomic.Int64
	Received    atomic.Int64 // messages from clients
	Inflated    atomic.Int64 // of those, which came deflated
	Denied      atomic.Int64 // connections closed at once: no valid token, or too many of one user
	PassedOver  atomic.Int64 // channels that clients or their tokens named at connect or refresh, and were not subscribed to
	NoPong      atomic.Int64 // connections closed because they were silent
	Slow        atomic.Int64 // connections closed because they accepted no bytes, or left no room for what they had to be told
	Violation   atomic.Int64 // connections closed because of what they sent
	Bombs       atomic.Int64 // of those, because a message was too large once it was inflated
	Emulated    atomic.Int64 // requests with commands that were taken for a session here
	Forwarded   atomic.Int64 // requests with commands that another node took
	Stray       atomic.Int64 // requests with commands that nobody took: no node has the session, or it is full
}

// Gateway serves /raw/ and /ws/, the streams (see transports), and, when they are open, /connection/websocket, /emulation and /echo.
type Gateway struct {
	guests guests
	Options
	named  []string       // Origins without "*"
	rules  [2]ws.Rules    // of connections without and with permessage-deflate
	server session.Server // what all sessions share
	engine engine.Engine
	stats  Stats
	began  time.Time // moments of connections count from here
	secure engine.TLSStats

	strange  sync.Once // the first request for a name that is not the node's is logged
	emulated emulated  // has its own lock

	mu      sync.Mutex
	conns   []*conn              // owner: mu; each knows its place
	pending int                  // owner: mu; accepted and not yet in conns
	perAddr map[netip.Addr]int   // owner: mu; by limit.Network; empty without MaxPerAddress
	users   map[string]*personal // owner: mu; those with connections
	closing bool                 // owner: mu
	empty   chan struct{}        // closed when closing and no connection is left
}

// New starts a gateway.
func New(o Options) *Gateway {
	o.Ping, o.Pong, o.Write = or(o.Ping, 25*time.Second), or(o.Pong, 10*time.Second), or(o.Write, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		Options: o, rules: [2]ws.Rules{{MaxMessage: o.MaxMessage}, {MaxMessage: o.MaxMessage, Deflate: true}},
		server: session.Server{
			Node: o.Node, Backend: o.Backend, Compression: o.Compression, Policy: o.Policy, Tokens: o.Tokens, Limits: o.Limits,
			MaxPayload: o.maxMessage(),
		},
		began:   time.Now(),
		named:   slices.DeleteFunc(slices.Clone(o.Origins), func(origin string) bool { return origin == "*" }),
		perAddr: map[netip.Addr]int{}, users: map[string]*personal{}, empty: make(chan struct{}),
	}
	g.fillCentrifuge()
	g.openEmulation()
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

// maxMessage is the largest message of a client in bytes.
func (o *Options) maxMessage() int {
	if o.MaxMessage <= 0 {
		return ws.DefaultMaxMessage
	}
	return o.MaxMessage
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// moment is a time in milliseconds since the gateway began. It comes round after 49 days; only differences count.
type moment = uint32

func (g *Gateway) now() moment { return g.moment(time.Now()) }

func (g *Gateway) moment(t time.Time) moment { return moment(t.Sub(g.began).Milliseconds()) }

// between is the time from one moment to a later one; a moment that is not later is no time away.
func between(from, to moment) time.Duration {
	return time.Duration(max(int32(to-from), 0)) * time.Millisecond
}

// Stats are the gateway's counters.
func (g *Gateway) Stats() *Stats { return &g.stats }

// TLSStats are the counters of the handshakes of TLS.
func (g *Gateway) TLSStats() *engine.TLSStats { return &g.secure }

// Count is the number of connections now.
func (g *Gateway) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns) + g.guests.count()
}

// formats by the first part of the path.
var formats = map[string]int{"/raw/": session.Raw, "/ws/": session.JSON}

// Handles says whether a request is for the gateway, by its path. It implements engine.Upgrader.
func (g *Gateway) Handles(r *http.Request) bool {
	for prefix := range formats {
		if strings.HasPrefix(r.URL.EscapedPath(), prefix) {
			return true
		}
	}
	return g.echoes(r) || g.isCentrifuge(r) || g.isEmulation(r) || g.transportOf(r) != nil
}

// Upgrade implements engine.Upgrader.
func (g *Gateway) Upgrade(r *http.Request) (refusal []byte, open func(engine.Socket) engine.Handler) {
	if err := g.misdirected(r); err != nil {
		return g.refusal(err).AppendTo(nil), nil
	}
	if t := g.transportOf(r); t != nil {
		return g.upgradeStream(t, r)
	}
	if g.isEmulation(r) {
		return g.upgradeEmulation(r), nil
	}
	a, err := g.admit(r)
	if err != nil {
		return g.refusal(err).AppendTo(nil), nil
	}
	g.stats.Accepted.Add(1)
	return nil, g.opener(a)
}

// ServeHTTP upgrades a request that net/http has read, or says why not.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.misdirected(r); err != nil {
		g.refuse(w, err)
		return
	}
	if t := g.transportOf(r); t != nil {
		g.serveStream(t, w, r)
		return
	}
	if g.isEmulation(r) {
		g.serveEmulation(w, r)
		return
	}
	a, err := g.admit(r)
	if err != nil {
		g.refuse(w, err)
		return
	}
	g.upgrade(w, a.addr, g.opener(a))
}

// refusal counts an error of admit and returns what to answer.
func (g *Gateway) refusal(err error) *ws.HandshakeError {
	g.stats.Refused.Add(1)
	e := &ws.HandshakeError{Status: http.StatusInternalServerError, Message: "internal error"}
	errors.As(err, &e)
	return e
}

func (g *Gateway) refuse(w http.ResponseWriter, err error) { answer(w, g.refusal(err)) }

func answer(w http.ResponseWriter, e *ws.HandshakeError) {
	maps.Copy(w.Header(), e.Header)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(e.Status)
	fmt.Fprintln(w, e.Message)
}

// upgrade hands the connection of an admitted request to the engine, or releases it.
func (g *Gateway) upgrade(w http.ResponseWriter, addr netip.Addr, open func(engine.Socket) engine.Handler) {
	if err := g.handOver(w, open); err != nil {
		g.release(addr, nil)
		g.Log.Debug("a handshake was not completed", "address", addr, "error", err)
	}
}

func (g *Gateway) handOver(w http.ResponseWriter, open func(engine.Socket) engine.Handler) error {
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
	g.engine.Serve(netConn, buffered(rw.Reader), open)
	return nil
}

// buffered returns what net/http has read beyond the request.
func buffered(r *bufio.Reader) []byte {
	b := make([]byte, r.Buffered())
	n, _ := r.Read(b) // the bytes are there
	return b[:n]
}

// greetingSize has room for the answer to a handshake and the welcome.
const greetingSize = 384 // a longer one is made as it is written

// open makes the connection of an admitted request.
func (g *Gateway) open(socket engine.Socket, a admission) engine.Handler {
	p := &plainConn{}
	c := &p.conn
	c.init(g, socket, a)
	c.client = &p.session
	p.session.Init(session.Options{
		Connection: c, Client: newClient(), Identity: a.identity,
		Channel: a.channel, Format: a.format, User: a.query.Name, Deflated: a.extensions != "",
		Greeting: a.appendResponse(make([]byte, 0, greetingSize)),
	})
	g.begin(p, &a)
	g.keep(c)
	return c
}

// newClient is a new id of a connection: 80 random bits.
func newClient() string { return strings.ToLower(rand.Text()[:16]) }

// init makes a connection ready, but for its session.
func (c *conn) init(g *Gateway, socket engine.Socket, a admission) {
	c.gateway, c.from, c.asm = g, a.addr.As16(), g.assembler(a)
	// The first ping comes early, so that those who connected together are not pinged together ever after.
	c.heard.Store(g.now() - moment(mathrand.Int64N(max(g.Ping.Milliseconds()/2, 1))))
	c.out.Init(g.Writers, socket, g.Queue)
}

// keep puts a connection into the list of those there are.
func (g *Gateway) keep(c *conn) {
	g.mu.Lock()
	g.pending--
	c.place = int32(len(g.conns))
	g.conns = append(g.conns, c)
	closing := g.closing
	g.mu.Unlock()
	if g.Log.Enabled(context.Background(), slog.LevelDebug) {
		g.Log.Debug("connected", "session", c.client, "address", c.addr())
	}
	if closing {
		c.leave(proto.CloseShutdown)
	}
}

// assembler makes the reader of a connection by what was negotiated.
func (g *Gateway) assembler(a admission) ws.Assembler {
	if a.extensions != "" {
		return ws.NewAssembler(&g.rules[1])
	}
	return ws.NewAssembler(&g.rules[0])
}

// appendResponse appends the answer that completes the handshake.
func (a *admission) appendResponse(dst []byte) []byte {
	var extra http.Header
	if a.extensions != "" {
		extra = http.Header{"Sec-WebSocket-Extensions": {a.extensions}}
	}
	return ws.AppendResponse(dst, a.key, a.subprotocol, extra)
}

// release forgets an admitted connection; c is nil when it was never opened.
func (g *Gateway) release(addr netip.Addr, c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c == nil {
		g.pending--
	} else {
		last := len(g.conns) - 1
		g.conns[c.place] = g.conns[last]
		g.conns[c.place].place = c.place
		g.conns[last] = nil
		g.conns = g.conns[:last]
	}
	if g.counts(addr) {
		network := limit.Network(addr)
		if g.perAddr[network]--; g.perAddr[network] == 0 {
			delete(g.perAddr, network)
		}
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
