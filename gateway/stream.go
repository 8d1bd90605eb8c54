package gateway

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"barrage/engine"
	"barrage/ws"
)

// A stream is a request of HTTP that is answered with a body that has no end: frames made ready by a codec, one after the other.
// Its connection belongs to the engine like a WebSocket, has an outlet and a peer, and is counted, limited and sent away at
// shutdown with all others. It ends with the connection: the body has neither a length nor chunks, so that one frame serves
// everyone, clients of HTTP/1.0 too; proxies put their own chunks around it.
//
// To add one: write its codec (package proto has framings), a peer, and a file like events.go with a transport whose admit judges
// a request and returns what opens its connection; put it into transports.

// transports are the kinds of streams there are.
var transports = []*transport{&events}

// transport is one kind of stream.
type transport struct {
	// prefix is how the paths of its requests begin.
	prefix string
	// method is GET, which has no body and is read by the engine's loops, or POST, which is read through net/http.
	method string
	// contentType is of the answer.
	contentType string
	// maxBody is the largest body of a request in bytes, which is read before admit is called. A transport by GET has none.
	maxBody int64
	// admit judges a request whose method and origin are right. It must not block. open starts the connection's session, and is
	// called once, later and by another goroutine, unless the connection is lost before. The error is a *ws.HandshakeError.
	admit func(g *Gateway, r *http.Request, body []byte) (open func(opening) *streamConn, err error)
}

// transportOf is the transport that a request is for, by its path; nil for none.
func transportOf(r *http.Request) *transport {
	path := r.URL.EscapedPath()
	for _, t := range transports {
		if strings.HasPrefix(path, t.prefix) {
			return t
		}
	}
	return nil
}

// bodyTime is how long the body of a request may take.
const bodyTime = 10 * time.Second

// upgradeStream is Upgrade for streams. The engine gives it requests without a body only.
func (g *Gateway) upgradeStream(t *transport, r *http.Request) (refusal []byte, open func(engine.Socket) engine.Handler) {
	cors, err := g.checkStream(t, r)
	if err == nil {
		open, err = g.admitStream(t, r, nil, cors)
	}
	if err != nil {
		return g.refusal(withHeader(err, cors)).AppendTo(nil), nil
	}
	g.stats.Accepted.Add(1)
	return nil, open
}

// serveStream is ServeHTTP for streams.
func (g *Gateway) serveStream(t *transport, w http.ResponseWriter, r *http.Request) {
	cors, err := g.checkStream(t, r)
	switch {
	case err != nil:
	case r.Method == http.MethodOptions:
		t.answerOptions(w, cors)
		return
	case r.Method == http.MethodHead:
		if err = g.pace(g.clientAddr(r)); err == nil {
			_, err = t.admit(g, r, nil)
		}
		if err == nil {
			t.answerHead(w, cors)
			return
		}
	default:
		var open func(engine.Socket) engine.Handler
		if open, err = g.admitStream(t, r, w, cors); err == nil {
			g.upgrade(w, g.clientAddr(r), open)
			return
		}
	}
	g.refuse(w, withHeader(err, cors))
}

// checkStream judges what all transports have in common, and returns the fields that every answer has.
func (g *Gateway) checkStream(t *transport, r *http.Request) (cors http.Header, err error) {
	cors = http.Header{"Vary": {"Origin"}}
	origins := r.Header["Origin"]
	if len(origins) > 1 {
		return cors, &ws.HandshakeError{Status: http.StatusBadRequest, Message: "the request has several Origin fields; at most one is allowed"}
	}
	if len(origins) == 1 {
		if !ws.OriginAllowed(origins[0], r.Host, g.Origins) {
			return cors, forbiddenOrigin(origins[0])
		}
		cors["Access-Control-Allow-Origin"] = origins
		// Cookies only for pages that are named: "*" lets everyone read what everyone may read.
		if ws.OriginAllowed(origins[0], r.Host, g.named) {
			cors["Access-Control-Allow-Credentials"] = []string{"true"}
		}
	}
	allowed := t.methods()
	if !slices.Contains(allowed, r.Method) {
		return cors, &ws.HandshakeError{
			Status: http.StatusMethodNotAllowed, Header: http.Header{"Allow": {strings.Join(allowed, ", ")}},
			Message: fmt.Sprintf("a stream is opened with the method %s, not %s", t.method, strconv.Quote(r.Method[:min(len(r.Method), 20)])),
		}
	}
	if t.method == http.MethodGet && (r.ContentLength != 0 || len(r.TransferEncoding) > 0) {
		return cors, &ws.HandshakeError{Status: http.StatusBadRequest, Message: "the request must not have a body"}
	}
	return cors, nil
}

// methods are those that are answered.
func (t *transport) methods() []string {
	if t.method == http.MethodGet {
		return []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	}
	return []string{t.method, http.MethodOptions}
}

// admitStream counts the connection of a checked request, reads its body, if w is not nil, and lets the transport judge it.
func (g *Gateway) admitStream(t *transport, r *http.Request, w http.ResponseWriter, cors http.Header) (func(engine.Socket) engine.Handler, error) {
	addr := g.clientAddr(r)
	if err := g.pace(addr); err != nil {
		return nil, err
	}
	if err := g.count(addr); err != nil {
		return nil, err
	}
	body, err := t.readBody(w, r)
	var open func(opening) *streamConn
	if err == nil {
		open, err = t.admit(g, r, body)
	}
	if err != nil {
		g.release(addr, nil)
		return nil, err
	}
	head := t.appendHead(make([]byte, 0, greetingSize), cors)
	return func(socket engine.Socket) engine.Handler {
		c := open(opening{gateway: g, socket: socket, addr: addr, head: head})
		g.keep(&c.conn)
		return c
	}, nil
}

// readBody reads the body of a request, if its transport has one.
func (t *transport) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if t.maxBody <= 0 || w == nil {
		return nil, nil
	}
	// A connection that takes no deadline is bounded by net/http's own.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	body, err := io.ReadAll(io.LimitReader(r.Body, t.maxBody+1))
	if err != nil {
		return nil, &ws.HandshakeError{Status: http.StatusBadRequest, Message: "the request's body did not arrive"}
	}
	if int64(len(body)) > t.maxBody {
		return nil, &ws.HandshakeError{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("the request's body is larger than %d bytes", t.maxBody)}
	}
	return body, nil
}

// header is what every answer that is a stream has.
func (t *transport) header(cors http.Header) http.Header {
	h := cors.Clone()
	h.Set("Content-Type", t.contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // tells nginx to pass on every byte at once
	h.Set("X-Content-Type-Options", "nosniff")
	return h
}

// appendHead appends the head of the answer.
func (t *transport) appendHead(dst []byte, cors http.Header) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nConnection: close\r\nDate: "...)
	dst = time.Now().UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\n"...)
	return append(ws.AppendFields(dst, t.header(cors)), "\r\n"...)
}

func (t *transport) answerHead(w http.ResponseWriter, cors http.Header) {
	maps.Copy(w.Header(), t.header(cors))
	w.WriteHeader(http.StatusOK)
}

// answerOptions also answers what a browser asks before it sends a request with unusual fields for a page of another origin.
func (t *transport) answerOptions(w http.ResponseWriter, cors http.Header) {
	maps.Copy(w.Header(), cors)
	methods := strings.Join(t.methods(), ", ")
	w.Header().Set("Allow", methods)
	if cors.Get("Access-Control-Allow-Origin") != "" {
		w.Header().Set("Access-Control-Allow-Methods", methods)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID")
		w.Header().Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}

// withHeader adds fields to a refusal.
func withHeader(err error, header http.Header) error {
	var e *ws.HandshakeError
	if !errors.As(err, &e) {
		return err
	}
	with := *e
	with.Header = header.Clone()
	maps.Copy(with.Header, e.Header)
	return &with
}

// opening is what a transport makes a connection of.
type opening struct {
	gateway *Gateway
	socket  engine.Socket
	addr    netip.Addr
	head    []byte // of the answer: the peer's greeting, which goes out before anything else
}

// prepare makes c, which belongs to client, ready; the caller then starts client, and gives it the head.
func (o *opening) prepare(c *streamConn, client peer) {
	c.init(o.gateway, o.socket, admission{addr: o.addr})
	c.client = client
	if s, ok := o.socket.(engine.Vigilant); ok {
		// Nothing answers a ping: a peer that has vanished is found out because it does not acknowledge the bytes.
		s.CutUnacknowledged(o.gateway.Ping + o.gateway.Write)
	}
}
