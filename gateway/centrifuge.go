package gateway

import (
	"net/http"
	"slices"
	"time"

	"barrage/auth"
	"barrage/engine"
	"barrage/proto"
	"barrage/session"
	"barrage/session/centrifuge"
)

// centrifugePath is where clients of the Centrifuge protocol connect.
const centrifugePath = "/connection/websocket"

// Subprotocols of the Centrifuge protocol, by format. A client that offers none of them speaks JSON, unless the query says otherwise.
var subprotocols = [...]string{centrifuge.JSON: "centrifuge-json", centrifuge.Protobuf: "centrifuge-protobuf"}

// isCentrifuge says whether a request is for a client of the Centrifuge protocol.
func (g *Gateway) isCentrifuge(r *http.Request) bool {
	return g.Centrifuge != nil && r.URL.EscapedPath() == centrifugePath
}

// fillCentrifuge sets what the gateway knows by itself.
func (g *Gateway) fillCentrifuge() {
	if g.Centrifuge == nil {
		return
	}
	s := *g.Centrifuge
	if s.Backend == nil {
		s.Backend = g.Backend
	}
	if s.Compression == nil {
		s.Compression = g.Compression
	}
	if s.Ping == 0 {
		s.Ping = g.Ping
	}
	if s.Policy == nil {
		s.Policy = g.Policy
	}
	if s.Tokens == nil {
		s.Tokens, s.Anonymous = g.Tokens, g.Anonymous
	}
	if s.Tokens == nil && g.UserHeader != "" {
		s.Tokens = noTokens{} // there is authentication: who is not named by a proxy is not let in as if there were none
	}
	if s.Limits == nil {
		s.Limits = g.Limits
	}
	if s.PassedOver == nil {
		s.PassedOver = g.passedOver
	}
	g.Centrifuge = &s
}

// passedOver takes note of a channel that a client is not subscribed to although it was named.
func (g *Gateway) passedOver(client, channel string, why *proto.Error) {
	g.stats.PassedOver.Add(1)
	g.Log.Debug("a channel that a client or its token names is passed over", "client", client, "channel", channel, "reason", why.Message)
}

// noTokens are those of a gateway where proxies alone say who a client is.
type noTokens struct{}

func (noTokens) Connection(string) (*auth.Identity, *proto.Error) { return nil, proto.ErrUnauthorized }

func (noTokens) Subscription(string, string, string, string) (auth.Subscription, *proto.Error) {
	return auth.Subscription{}, proto.ErrUnauthorized
}

// centrifugeTarget is what a client of the Centrifuge protocol asks for in its handshake.
type centrifugeTarget struct {
	format centrifuge.Format
	named  bool // by a subprotocol, which the answer repeats
}

// parseCentrifuge chooses the format: the first subprotocol that there is, or what the query says, or JSON.
func parseCentrifuge(r *http.Request, offered []string) *centrifugeTarget {
	for _, name := range offered {
		if i := slices.Index(subprotocols[:], name); i >= 0 {
			return &centrifugeTarget{format: centrifuge.Format(i), named: true}
		}
	}
	q := r.URL.Query()
	if q.Get("cf_protocol") == "protobuf" || q.Get("format") == "protobuf" {
		return &centrifugeTarget{format: centrifuge.Protobuf}
	}
	return &centrifugeTarget{format: centrifuge.JSON}
}

// subprotocol is what the answer to the handshake chooses; empty for none.
func (t *centrifugeTarget) subprotocol() string {
	if t == nil || !t.named {
		return ""
	}
	return subprotocols[t.format]
}

// centrifugeConn is a connection of the Centrifuge protocol.
type centrifugeConn struct {
	conn
	session centrifuge.Session
	asked   moment // owner: Tick; when it was last pinged
}

// openCentrifuge makes the connection of an admitted request.
func (g *Gateway) openCentrifuge(socket engine.Socket, a admission) engine.Handler {
	p := &centrifugeConn{}
	c := &p.conn
	c.init(g, socket, a)
	p.asked = c.heard.Load()
	c.client, c.binary = &p.session, a.centrifuge.format == centrifuge.Protobuf
	p.session.Init(centrifuge.Options{
		Connection: p, Client: newClient(), Format: a.centrifuge.format, Deflated: a.extensions != "",
		Identity: a.identity,
	})
	c.out.Send(a.appendResponse(make([]byte, 0, greetingSize))) // before anyone else finds the connection
	if a.refused != nil {
		g.stats.Denied.Add(1)
		p.session.End(session.CloseOf(a.refused))
	}
	g.keep(c)
	return p
}

// Admit implements centrifuge.Connection: from now on the connection is found by its user.
func (c *conn) Admit(user string) *proto.Error {
	err := c.gateway.reserve(user)
	if err != nil {
		c.gateway.stats.Denied.Add(1)
		return err
	}
	c.gateway.enroll(c, user)
	return nil
}

// Centrifuge implements centrifuge.Connection.
func (c *conn) Centrifuge() *centrifuge.Server { return c.gateway.Centrifuge }

// Tick implements engine.Handler: it looks for what has expired, too. A client of this protocol counts on pings however much it sends
// itself.
func (p *centrifugeConn) Tick(now time.Time) (after time.Duration) {
	g, at := p.gateway, p.gateway.moment(now)
	rest := g.Ping - between(p.asked, at)
	if rest <= 0 && p.pinged.Load() == 0 {
		p.asked, rest = at, g.Ping
		p.heard.Store(at - moment(g.Ping.Milliseconds()))
	}
	due := p.session.Tick(now)
	if after = p.conn.Tick(now); after == 0 {
		return 0
	}
	if due > 0 {
		after = min(after, due)
	}
	return min(after, max(rest, time.Millisecond))
}
