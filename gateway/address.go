package gateway

import (
	"net/http"
	"net/netip"
)

// ClientAddr is who sent a request, without a zone: the peer, or whom a trusted proxy names last. It is the zero address when the
// peer has none.
func (g *Gateway) ClientAddr(r *http.Request) netip.Addr { return g.clientAddr(r) }
