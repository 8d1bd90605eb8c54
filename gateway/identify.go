package gateway

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"barrage/auth"
	"barrage/proto"
	"barrage/ws"
)

// Subprotocol is what a client offers beside a token in a subprotocol, and what is selected then: RFC 6455 wants one of those
// offered, and the token must not come back.
const Subprotocol = "barrage"

// bearerSubprotocol begins the subprotocol that holds a token: browsers cannot set other fields of a handshake.
const bearerSubprotocol = Subprotocol + ".bearer."

// where says where a token may stand besides the field Authorization.
type where uint8

const (
	inSubprotocol where = 1 << iota // for WebSockets
	inQuery                         // for EventSource, which can set nothing else
)

// identify says who a request comes from: nil without authentication. Nothing of a token is used before it was verified, and no error
// repeats a part of one. The errors are ErrUnauthorized, ErrTokenExpired, or what the verifier says.
//
//	the trusted header, from a trusted proxy   the user that it names, whatever else there is
//	a token                                    the user that it names
//	neither                                    anonymous, where that is allowed
//
// Subprotocols are those that the client offers.
func (g *Gateway) identify(r *http.Request, subprotocols []string, may where) (*auth.Identity, *proto.Error) {
	id, err := g.shown(r, subprotocols, may)
	if id != nil || err != nil || g.Tokens == nil && g.UserHeader == "" {
		return id, err
	}
	return g.nobody()
}

// shown is identify, but for requests that show nothing: nil.
func (g *Gateway) shown(r *http.Request, subprotocols []string, may where) (*auth.Identity, *proto.Error) {
	if id, err := g.vouched(r); id != nil || err != nil || g.Tokens == nil {
		return id, err
	}
	token, err := tokenOf(r, subprotocols, may)
	if token == "" || err != nil {
		return nil, err
	}
	return g.Tokens.Connection(token)
}

// nobody is who has shown nothing.
func (g *Gateway) nobody() (*auth.Identity, *proto.Error) {
	if !g.Anonymous {
		return nil, proto.ErrUnauthorized.With("a token is needed to connect here")
	}
	return &nobody, nil
}

// nobody is shared by all who are anonymous where others are not. It is never changed.
var nobody auth.Identity

// vouched is the user that a trusted proxy names. From anyone else the header means nothing.
func (g *Gateway) vouched(r *http.Request) (*auth.Identity, *proto.Error) {
	if g.UserHeader == "" {
		return nil, nil
	}
	if !g.trusted(peerOf(r)) {
		return nil, nil
	}
	switch users := r.Header.Values(g.UserHeader); {
	case len(users) > 1:
		return nil, proto.ErrUnauthorized.With("the field %s is there %d times; a proxy must replace what it was sent", g.UserHeader, len(users))
	case len(users) == 0 || users[0] == "":
		return nil, nil
	case !ws.OriginAllowed(r.Header.Get("Origin"), r.Host, g.named):
		// The proxy may know the user by a cookie, which browsers send for pages of any origin.
		return nil, proto.ErrUnauthorized.With("this origin is let in by *; to act for users that a proxy names it must stand in the setting origins itself")
	case proto.CheckUser(users[0]) != nil:
		return nil, proto.ErrUnauthorized.With("the field %s does not hold a user's id", g.UserHeader)
	default:
		return &auth.Identity{User: users[0]}, nil
	}
}

// peerOf is the address at the other end of the connection; the zero value, which nobody trusts, when it has none.
func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// tokenOf returns the token of a request; empty for none.
func tokenOf(r *http.Request, subprotocols []string, may where) (token string, _ *proto.Error) {
	var found []string
	for _, field := range r.Header.Values("Authorization") {
		if scheme, rest, _ := strings.Cut(field, " "); strings.EqualFold(scheme, "Bearer") {
			found = append(found, strings.TrimSpace(rest))
		}
	}
	if may&inSubprotocol != 0 {
		for _, name := range subprotocols {
			if rest, ok := strings.CutPrefix(name, bearerSubprotocol); ok {
				found = append(found, rest)
			}
		}
	}
	if may&inQuery != 0 {
		found = append(found, r.URL.Query()["token"]...)
	}
	switch {
	case len(found) == 0:
		return "", nil
	case len(found) > 1:
		return "", proto.ErrUnauthorized.With("the request has %d tokens; give one", len(found))
	case found[0] == "":
		return "", proto.ErrUnauthorized.With("the token is empty")
	case len(found[0]) > proto.MaxTokenBytes:
		return "", proto.ErrUnauthorized.With("the token has %d bytes; at most %d are allowed", len(found[0]), proto.MaxTokenBytes)
	}
	return found[0], nil
}

// selected is the subprotocol to select of those offered; empty for none.
func selected(offered []string) string {
	if slices.Contains(offered, Subprotocol) {
		return Subprotocol
	}
	return ""
}
