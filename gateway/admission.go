package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"barrage/auth"
	"barrage/limit"
	"barrage/proto"
	"barrage/ws"
)

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
			err = t.read(rest, r.URL.RawQuery)
		}
	}
	return t, err
}

// read reads the escaped name of a channel and the query.
func (t *target) read(channel, query string) (err error) {
	if t.channel, err = url.PathUnescape(channel); err != nil {
		return fmt.Errorf("the channel's name is not percent-encoded right: %w", err)
	}
	if err := proto.CheckChannel(t.channel); err != nil {
		return err
	}
	t.query, err = proto.ParseQuery(query)
	return sentence(err)
}

// sentence is an error without its code.
func sentence(err error) error {
	if e, ok := errors.AsType[*proto.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// admission is a request that may become a connection. It is counted until its connection is released.
type admission struct {
	target
	echo bool // the target is an echo instead
	// centrifuge is set when the target is a client of the Centrifuge protocol instead.
	centrifuge *centrifugeTarget
	key        string
	addr       netip.Addr
	// extensions is what was negotiated: permessage-deflate, or nothing; subprotocol what was selected.
	extensions  string
	subprotocol string
	// identity is who connects; nil without authentication.
	identity *auth.Identity
	// refused, when set, is why the connection is closed as soon as it is open.
	refused *proto.Error
}

// admit judges a request. The error is a *ws.HandshakeError.
func (g *Gateway) admit(r *http.Request) (a admission, err error) {
	up, err := ws.CheckUpgrade(r)
	if err != nil {
		return a, err
	}
	switch {
	case g.echoes(r):
		a.echo = true
	case g.isCentrifuge(r):
		a.centrifuge = parseCentrifuge(r, up.Protocols)
	default:
		if a.target, err = parse(r); err != nil {
			return a, &ws.HandshakeError{Status: http.StatusBadRequest, Message: err.Error()}
		}
	}
	if !ws.OriginAllowed(up.Origin, up.Host, g.Origins) {
		return a, forbiddenOrigin(up.Origin)
	}
	a.key, a.addr = up.Key, g.clientAddr(r)
	if err := g.pace(a.addr); err != nil {
		return a, err
	}
	switch {
	case a.echo:
	case a.centrifuge != nil:
		a.identity, a.refused = g.shown(r, nil, 0)
		a.subprotocol = a.centrifuge.subprotocol()
	default:
		a.identity, a.refused = g.identify(r, up.Protocols, inSubprotocol)
		a.subprotocol = selected(up.Protocols)
	}
	if g.Compression != nil {
		a.extensions, _ = ws.AcceptDeflate(up.Extensions)
	}
	return a, g.count(a.addr)
}

func forbiddenOrigin(origin string) error {
	return &ws.HandshakeError{Status: http.StatusForbidden, Message: fmt.Sprintf("pages of the origin %q may not connect here; add it to the setting origins", origin)}
}

// clientAddr is who connects, without a zone: the peer, or whom a trusted proxy names last.
func (g *Gateway) clientAddr(r *http.Request) netip.Addr {
	return netip.AddrFrom16(g.originOf(r).As16()).Unmap()
}

func (g *Gateway) originOf(r *http.Request) netip.Addr {
	addr := peerOf(r)
	if !g.trusted(addr) {
		return addr
	}
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

// count counts a connection of addr, if there is room for it.
func (g *Gateway) count(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return &ws.HandshakeError{Status: http.StatusServiceUnavailable, Header: retryLater(), Message: "this node is shutting down; connect to another"}
	}
	if g.MaxConnections > 0 && len(g.conns)+g.pending >= g.MaxConnections {
		return &ws.HandshakeError{Status: http.StatusServiceUnavailable, Header: retryLater(), Message: fmt.Sprintf("this node has reached its limit of %d connections; connect to another or raise limits.connections", g.MaxConnections)}
	}
	if g.counts(addr) && g.perAddr[limit.Network(addr)] >= g.MaxPerAddress {
		return &ws.HandshakeError{Status: http.StatusTooManyRequests, Header: retryLater(), Message: fmt.Sprintf("your address %s has reached its limit of %d connections; close some or raise limits.connections_per_address", addr, g.MaxPerAddress)}
	}
	g.pending++
	if g.counts(addr) {
		g.perAddr[limit.Network(addr)]++
	}
	return nil
}

// retryLater tells a client when to try again.
func retryLater() http.Header { return http.Header{"Retry-After": {"5"}} }

// counts says whether the connections of an address are counted.
func (g *Gateway) counts(addr netip.Addr) bool { return g.MaxPerAddress > 0 && !addr.IsLoopback() }
