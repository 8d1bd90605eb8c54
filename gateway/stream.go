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

// transports are the kinds of streams there are; those of the Centrifuge protocol only where that is open.
var transports = []*transport{&events, &emulatedEvents, &emulatedLines, &uniEvents, &uniLines}

// transport is one kind of stream.
type transport struct {
	// path is of its requests; one that ends with a slash is how their paths begin.
	path string
	// methods are GET, which has no body and is read by the engine's loops, and POST, which is read through net/http. At most
	// maxConnect bytes of a body are read before admit is called.
	methods []string
	// contentType is of the answer.
	contentType func(*http.Request) string
	// centrifuge says that it is of the Centrifuge protocol.
	centrifuge bool
	// admit judges a request whose method and origin are right. It must not block. open starts the connection's session, and is
	// called once, later and by another goroutine, unless the connection is lost before. The error is a *ws.HandshakeError.
	admit func(g *Gateway, r *http.Request, body []byte) (open func(opening) streamed, err error)
}

// streamed is the connection of a stream.
type streamed interface {
	engine.Handler
	base() *conn
}

// maxConnect is the largest body of a request that opens a stream, in bytes.
const maxConnect = 64 << 10

// transportOf is the transport that a request is for, by its path; nil for none.
func (g *Gateway) transportOf(r *http.Request) *transport {
	path := r.URL.EscapedPath()
	for _, t := range transports {
		if t.serves(path) && (!t.centrifuge || g.Centrifuge != nil) {
			return t
		}
	}
	return nil
}

func (t *transport) serves(path string) bool {
	return path == t.path || strings.HasSuffix(t.path, "/") && strings.HasPrefix(path, t.path)
}

// always is a content type for every request.
func always(contentType string) func(*http.Request) string {
	return func(*http.Request) string { return contentType }
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
			t.answerHead(w, r, cors)
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
	allowed := t.allowed()
	if !slices.Contains(allowed, r.Method) {
		return cors, &ws.HandshakeError{
			Status: http.StatusMethodNotAllowed, Header: http.Header{"Allow": {strings.Join(allowed, ", ")}},
			Message: fmt.Sprintf("this path takes the method %s, not %s", strings.Join(t.methods, " or "), strconv.Quote(r.Method[:min(len(r.Method), 20)])),
		}
	}
	if r.Method == http.MethodGet && (r.ContentLength != 0 || len(r.TransferEncoding) > 0) {
		return cors, &ws.HandshakeError{Status: http.StatusBadRequest, Message: "the request must not have a body"}
	}
	return cors, nil
}

// allowed are the methods that are answered.
func (t *transport) allowed() []string {
	if slices.Contains(t.methods, http.MethodGet) {
		return slices.Concat(t.methods, []string{http.MethodHead, http.MethodOptions})
	}
	return slices.Concat(t.methods, []string{http.MethodOptions})
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
	body, err := readBody(w, r, maxConnect)
	var open func(opening) streamed
	if err == nil {
		open, err = t.admit(g, r, body)
	}
	if err != nil {
		g.release(addr, nil)
		return nil, err
	}
	head := t.appendHead(make([]byte, 0, greetingSize), r, cors)
	return func(socket engine.Socket) engine.Handler {
		c := open(opening{gateway: g, socket: socket, addr: addr, head: head})
		g.keep(c.base())
		return c
	}, nil
}

// readBody reads the body of a request by POST, unless w is nil.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	if r.Method != http.MethodPost || w == nil {
		return nil, nil
	}
	// A connection that takes no deadline is bounded by net/http's own.
	deadline := http.NewResponseController(w)
	_ = deadline.SetReadDeadline(time.Now().Add(bodyTime))
	body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	if err != nil {
		return nil, &ws.HandshakeError{Status: http.StatusBadRequest, Message: "the request's body did not arrive"}
	}
	if int64(len(body)) > most {
		return nil, tooLarge(most)
	}
	_ = deadline.SetReadDeadline(time.Time{})
	return body, nil
}

func tooLarge(most int64) error {
	return &ws.HandshakeError{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("the request's body is larger than %d bytes", most)}
}

// header is what every answer that is a stream has.
func (t *transport) header(r *http.Request, cors http.Header) http.Header {
	h := cors.Clone()
	h.Set("Content-Type", t.contentType(r))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // tells nginx to pass on every byte at once
	h.Set("X-Content-Type-Options", "nosniff")
	return h
}

// appendHead appends the head of the answer.
func (t *transport) appendHead(dst []byte, r *http.Request, cors http.Header) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nConnection: close\r\nDate: "...)
	dst = time.Now().UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\n"...)
	return append(ws.AppendFields(dst, t.header(r, cors)), "\r\n"...)
}

func (t *transport) answerHead(w http.ResponseWriter, r *http.Request, cors http.Header) {
	maps.Copy(w.Header(), t.header(r, cors))
	w.WriteHeader(http.StatusOK)
}

// answerOptions also answers what a browser asks before it sends a request with unusual fields for a page of another origin.
func (t *transport) answerOptions(w http.ResponseWriter, cors http.Header) {
	maps.Copy(w.Header(), cors)
	methods := strings.Join(t.allowed(), ", ")
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
func (o *opening) prepare(c *conn, client peer) {
	c.init(o.gateway, o.socket, admission{addr: o.addr})
	c.client = client
	if s, ok := o.socket.(engine.Vigilant); ok {
		// Nothing answers a ping: a peer that has vanished is found out because it does not acknowledge the bytes.
		s.CutUnacknowledged(o.gateway.Ping + o.gateway.Write)
	}
}
