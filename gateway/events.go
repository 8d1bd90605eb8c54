package gateway

import (
	"errors"
	"net/http"
	"strings"

	"barrage/auth"
	"barrage/proto"
	"barrage/session"
	"barrage/ws"
)

const eventsPrefix = "/sse/"

// events is /sse/{channel}, for EventSource.
var events = transport{
	path: eventsPrefix, methods: []string{http.MethodGet}, contentType: always(proto.FrameEvent.ContentType()), admit: admitEvents,
}

// eventConn is a connection of /sse.
type eventConn struct {
	streamConn
	session session.Events
}

func admitEvents(g *Gateway, r *http.Request, _ []byte) (func(opening) streamed, error) {
	t, err := parseEvents(r)
	if err != nil {
		return nil, &ws.HandshakeError{Status: http.StatusBadRequest, Message: err.Error()}
	}
	id, err := g.identifyStream(r, t.channel)
	if err != nil {
		return nil, err
	}
	return func(o opening) streamed {
		e := &eventConn{}
		o.prepare(&e.conn, &e.session)
		e.session.Init(session.Options{
			Connection: &e.conn, Client: newClient(), Identity: id, Channel: t.channel, Greeting: o.head,
		})
		if err := g.reserve(e.session.User()); err != nil {
			g.stats.Denied.Add(1)
			e.denied = true
			e.session.End(session.CloseOf(err))
			return e
		}
		g.enroll(&e.conn, e.session.User()) // see begin
		e.session.Start(&t.query)
		return e
	}, nil
}

// parseEvents reads the path, the query, and where to resume.
func parseEvents(r *http.Request) (t target, err error) {
	if err = t.read(strings.TrimPrefix(r.URL.EscapedPath(), eventsPrefix), r.URL.RawQuery); err != nil {
		return t, err
	}
	id, err := lastEventID(r)
	if err != nil || id == "" {
		return t, err
	}
	at, err := proto.ParseEventID(id)
	if err != nil {
		return t, sentence(err)
	}
	t.query.Resume(at) // the query is the one of the first connection, the id belongs to this one
	return t, nil
}

// lastEventID is the id of the last event that a client saw: by the field that EventSource sends when it connects again, or by a
// parameter, which is for clients that cannot set it. Empty means none.
func lastEventID(r *http.Request) (string, error) {
	values := r.Header["Last-Event-Id"]
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		query := r.URL.Query()
		values = append(query["last_event_id"], query["lastEventId"]...)
	}
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", errors.New("the id of the last event is given several times; give it once")
}

// identifyStream says who a request for the events of a channel is from, if they may subscribe: nil without authentication. The error
// is a *ws.HandshakeError.
func (g *Gateway) identifyStream(r *http.Request, channel string) (*auth.Identity, error) {
	id, err := g.identify(r, nil, inQuery)
	if err != nil {
		g.stats.Denied.Add(1)
		return nil, refuseIdentity(err)
	}
	if g.Policy == nil {
		return id, nil
	}
	who := id
	if who == nil {
		who = &auth.Identity{}
	}
	_, token := who.Subs[channel]
	if err := g.Policy.Allow(who, auth.Request{Action: auth.Subscribe, Channel: channel, Token: token}); err != nil {
		return nil, refuseIdentity(err)
	}
	return id, nil
}

// refuseIdentity is the answer to who may not, or not now.
func refuseIdentity(err *proto.Error) error {
	e := &ws.HandshakeError{Status: http.StatusForbidden, Message: err.Message}
	switch {
	case errors.Is(err, proto.ErrUnauthorized), errors.Is(err, proto.ErrTokenExpired):
		e.Status, e.Header = http.StatusUnauthorized, http.Header{"Www-Authenticate": {"Bearer"}}
	case errors.Is(err, proto.ErrUnknownChannel):
		e.Status = http.StatusNotFound
	case err.Retry:
		e.Status, e.Header = http.StatusServiceUnavailable, retryLater()
	}
	return e
}
