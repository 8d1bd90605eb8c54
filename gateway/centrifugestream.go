package gateway

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/centrifugal/protocol"

	"barrage/auth"
	"barrage/proto"
	"barrage/session"
	"barrage/session/centrifuge"
	"barrage/ws"
)

// The streams of the Centrifuge protocol. Those that are emulated have a client that says more, in requests of their own: see
// emulation.go. The others have one that only listens.
var (
	emulatedEvents = transport{
		path: "/connection/sse", methods: []string{http.MethodGet, http.MethodPost}, centrifuge: true,
		contentType: always(proto.FrameEvent.ContentType()), admit: admitEmulated(alwaysFormat(centrifuge.Events)),
	}
	emulatedLines = transport{
		path: "/connection/http_stream", methods: []string{http.MethodPost}, centrifuge: true,
		contentType: linesType, admit: admitEmulated(linesFormat),
	}
	uniEvents = transport{
		path: "/connection/uni_sse", methods: []string{http.MethodGet, http.MethodPost}, centrifuge: true,
		contentType: always(proto.FrameEvent.ContentType()), admit: admitListener(centrifuge.UniEvents),
	}
	uniLines = transport{
		path: "/connection/uni_http_stream", methods: []string{http.MethodPost}, centrifuge: true,
		contentType: always(proto.FrameLine.ContentType()), admit: admitListener(centrifuge.UniLines),
	}
)

func alwaysFormat(f centrifuge.Format) func(*http.Request) centrifuge.Format {
	return func(*http.Request) centrifuge.Format { return f }
}

// linesFormat is JSON, unless the request is Protobuf.
func linesFormat(r *http.Request) centrifuge.Format {
	if isProtobuf(r) {
		return centrifuge.ProtobufStream
	}
	return centrifuge.Lines
}

func linesType(r *http.Request) string {
	if isProtobuf(r) {
		return proto.FrameDelimited.ContentType()
	}
	return proto.FrameLine.ContentType()
}

// isProtobuf says whether the body of a request is Protobuf.
func isProtobuf(r *http.Request) bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), proto.FrameDelimited.ContentType())
}

// first is what a client connects with: the body, or the parameter cf_connect of a request that can have none.
func first(r *http.Request, body []byte) ([]byte, error) {
	if r.Method == http.MethodPost {
		return body, nil
	}
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	switch values := query["cf_connect"]; len(values) {
	case 0:
		return nil, nil
	case 1:
		return []byte(values[0]), nil
	}
	return nil, errors.New("the parameter cf_connect is given several times; give it once")
}

// admitEmulated is admit for streams whose client says more.
func admitEmulated(format func(*http.Request) centrifuge.Format) func(*Gateway, *http.Request, []byte) (func(opening) streamed, error) {
	return func(g *Gateway, r *http.Request, body []byte) (func(opening) streamed, error) {
		commands, err := first(r, body)
		if err == nil && len(commands) == 0 {
			err = errors.New("the request must hold the command connect: in its body, or in the parameter cf_connect")
		}
		if err != nil {
			return nil, &ws.HandshakeError{Status: http.StatusBadRequest, Message: err.Error()}
		}
		id, refused := g.shown(r, nil, 0)
		f := format(r)
		return func(o opening) streamed {
			c := &emulatedConn{secret: rand.Text()}
			o.prepare(&c.conn, &c.session)
			c.asked = c.heard.Load()
			c.session.Init(listener(c, f, id))
			c.out.Send(o.head) // before anyone else finds the connection
			if o.gateway.refuseStream(&c.session, refused) {
				return c
			}
			o.gateway.emulated.add(c)
			c.take(commands)
			return c
		}, nil
	}
}

func listener(c centrifuge.Connection, f centrifuge.Format, id *auth.Identity) centrifuge.Options {
	return centrifuge.Options{Connection: c, Client: newClient(), Format: f, Identity: id}
}

// refuseStream ends a session whose client has shown something that is not good.
func (g *Gateway) refuseStream(s *centrifuge.Session, refused *proto.Error) bool {
	if refused != nil {
		g.stats.Denied.Add(1)
		s.End(session.CloseOf(refused))
	}
	return refused != nil
}

// listeningConn is a connection of the Centrifuge protocol whose client says nothing but what it connects with.
type listeningConn struct {
	streamConn
	session centrifuge.Session
}

// admitListener is admit for streams whose client only listens.
func admitListener(format centrifuge.Format) func(*Gateway, *http.Request, []byte) (func(opening) streamed, error) {
	return func(g *Gateway, r *http.Request, body []byte) (func(opening) streamed, error) {
		var request *protocol.ConnectRequest
		said, err := first(r, body)
		if err == nil {
			if request, err = centrifuge.ParseConnect(said); err != nil {
				err = errors.New(`what the client connects with must be one JSON object such as {"token":"…","subs":{"room":{}}}`)
			}
		}
		if err != nil {
			return nil, &ws.HandshakeError{Status: http.StatusBadRequest, Message: err.Error()}
		}
		id, refused := g.shown(r, nil, 0)
		return func(o opening) streamed {
			c := &listeningConn{}
			o.prepare(&c.conn, &c.session)
			c.session.Init(listener(c, format, id))
			if format == centrifuge.UniEvents {
				o.head = proto.AppendRetry(o.head, session.Retry())
			}
			c.out.Send(o.head)
			if !o.gateway.refuseStream(&c.session, refused) {
				c.session.Connect(request)
			}
			return c
		}, nil
	}
}

// Tick implements engine.Handler: it looks for what has expired, too.
func (c *listeningConn) Tick(now time.Time) (after time.Duration) {
	due := c.session.Tick(now)
	if after = c.streamConn.Tick(now); after == 0 || due == 0 {
		return after
	}
	return min(after, due)
}
