package gateway

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"sync"

	"github.com/centrifugal/protocol"

	"barrage/limit"
	"barrage/ws"
)

// Clients of the Centrifuge protocol whose connection is a stream send their commands in requests of their own, by POST. A request says
// which node has the session, and may reach any: that one hands it on. The session is named by a secret, which only the client was
// told; a request needs nothing else.

// emulation is where they are sent.
var emulation = transport{path: "/emulation", methods: []string{http.MethodPost}, centrifuge: true}

// Forwarder carries payloads to the same kind of receiver on another node. *node.Node is one.
type Forwarder interface {
	// Forward gives payload to what OnForward named on a node. done hears once, within some seconds, whether that took it.
	Forward(node, kind string, payload []byte, done func(ok bool))
	// OnForward says who takes the payloads of a kind.
	OnForward(kind string, take func(payload []byte) bool)
}

const (
	// emulationKind is what the payloads are called: a Protobuf EmulationRequest.
	emulationKind = "emulation"
	// maxForwards is how many may be under way, maxShare how many of them of one network (limit.Network), so that a client who sends without
	// end does not keep out the others.
	maxForwards = 512
	maxShare    = maxForwards / 8
	// maxForwarded is the largest number of bytes of commands in one of them: other nodes take no payload above 1 MiB.
	maxForwarded = 1<<20 - 4<<10
)

// emulated are the sessions of a gateway whose clients send commands in requests of their own. There are no more than connections.
type emulated struct {
	forwards forwards       // has its own lock
	workers  sync.WaitGroup // goroutines that give sessions what waits for them

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]*emulatedConn // owner: mu; by the hash of the secret, so that the time of a look-up tells nothing of it
}

// forwards are the requests that are being handed on. Those of loopback addresses, where a proxy may stand for everybody, have no share.
type forwards struct {
	mu     sync.Mutex
	all    int                // owner: mu
	shares map[netip.Addr]int // owner: mu; by network; none is 0
}

// begin makes room for a request of an address; end gives it back, unless the error says that there was none. That is a *ws.HandshakeError.
func (f *forwards) begin(addr netip.Addr) error {
	network := limit.Network(addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.all >= maxForwards:
		return busy(fmt.Sprintf("%d requests wait for other nodes", maxForwards))
	case f.shares[network] >= maxShare:
		return &ws.HandshakeError{
			Status: http.StatusTooManyRequests, Header: retryLater(),
			Message: fmt.Sprintf("%d requests of your address %s wait for other nodes; send fewer at once", maxShare, addr),
		}
	}
	f.all++
	if !addr.IsLoopback() {
		if f.shares == nil {
			f.shares = map[netip.Addr]int{}
		}
		f.shares[network]++
	}
	return nil
}

func (f *forwards) end(addr netip.Addr) {
	network := limit.Network(addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all--; addr.IsLoopback() {
		return
	}
	if f.shares[network]--; f.shares[network] == 0 {
		delete(f.shares, network)
	}
}

func (e *emulated) add(c *emulatedConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions == nil {
		e.sessions = map[[sha256.Size]byte]*emulatedConn{}
	}
	e.sessions[sha256.Sum256([]byte(c.secret))] = c
}

func (e *emulated) remove(c *emulatedConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, sha256.Sum256([]byte(c.secret)))
}

// find returns the session with a secret, nil for none.
func (e *emulated) find(secret string) *emulatedConn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sessions[sha256.Sum256([]byte(secret))]
}

// openEmulation takes what other nodes hand on.
func (g *Gateway) openEmulation() {
	if g.Centrifuge == nil || g.Forwarder == nil {
		return
	}
	g.Forwarder.OnForward(emulationKind, func(payload []byte) bool {
		var r protocol.EmulationRequest
		if r.UnmarshalCF(payload) != nil || len(r.Data) == 0 || len(r.Data) > g.maxCommands() {
			return false
		}
		return g.emulate(&r) == nil
	})
}

func (g *Gateway) isEmulation(r *http.Request) bool {
	return g.Centrifuge != nil && emulation.serves(r.URL.EscapedPath())
}

// upgradeEmulation is Upgrade for requests that have no body, and so no commands.
func (g *Gateway) upgradeEmulation(r *http.Request) (refusal []byte) {
	cors, err := g.checkStream(&emulation, r)
	if err == nil {
		err = badEmulation("its body is empty")
	}
	return g.refusal(withHeader(err, cors)).AppendTo(nil)
}

// serveEmulation answers 204 when the session has taken the commands, 404 when there is no such session, it is ending, or its node does
// not answer, 429 when the client's network has too many requests under way, and 503 when the session or this node has: clients connect
// again then.
func (g *Gateway) serveEmulation(w http.ResponseWriter, r *http.Request) {
	cors, err := g.checkStream(&emulation, r)
	switch {
	case err != nil:
	case r.Method == http.MethodOptions:
		emulation.answerOptions(w, cors)
		return
	default:
		var request *protocol.EmulationRequest
		if request, err = g.readEmulation(w, r); err != nil {
			break
		}
		if request.Node == g.Node {
			err = g.emulate(request)
		} else {
			err = g.forward(request, g.clientAddr(r))
		}
		if err != nil {
			g.stats.Stray.Add(1)
		}
	}
	if err != nil {
		g.refuse(w, withHeader(err, cors))
		return
	}
	maps.Copy(w.Header(), cors)
	w.WriteHeader(http.StatusNoContent)
}

// maxCommands is how many bytes of commands a request may hold: as many as a message of a WebSocket.
func (g *Gateway) maxCommands() int { return min(g.maxMessage(), maxForwarded) }

// readEmulation reads a request. JSON commands are a string in JSON: they may take twice as many bytes there.
func (g *Gateway) readEmulation(w http.ResponseWriter, r *http.Request) (*protocol.EmulationRequest, error) {
	most := g.maxCommands()
	body, err := readBody(w, r, 2*int64(most)+1024)
	if err != nil {
		return nil, err
	}
	request, err := parseEmulation(body, isProtobuf(r))
	if err == nil && len(request.Data) > most {
		err = tooLarge(int64(most))
	}
	return request, err
}

// parseEmulation reads the body of a request.
func parseEmulation(body []byte, protobuf bool) (*protocol.EmulationRequest, error) {
	r := &protocol.EmulationRequest{}
	if protobuf {
		if err := r.UnmarshalCF(body); err != nil {
			return nil, badEmulation("it is not Protobuf")
		}
	} else {
		var said struct{ Node, Session, Data string }
		if err := json.Unmarshal(body, &said); err != nil {
			return nil, badEmulation("it is not such an object")
		}
		r.Node, r.Session, r.Data = said.Node, said.Session, protocol.Raw(said.Data)
	}
	switch {
	case r.Node == "" || r.Session == "":
		return nil, badEmulation("node and session are those of the result of connect")
	case len(r.Node) > maxName || len(r.Session) > maxName:
		return nil, badEmulation("node or session is too long")
	case len(r.Data) == 0:
		return nil, badEmulation("it has no commands")
	}
	return r, nil
}

// maxName is the longest name of a node or a session that is looked for, in bytes.
const maxName = 255

func badEmulation(why string) error {
	return &ws.HandshakeError{Status: http.StatusBadRequest, Message: `the body must be {"node":"…","session":"…","data":"the commands, one a line"}: ` + why}
}

// errNoSession answers a request for a session that is not there, or not any more.
var errNoSession = &ws.HandshakeError{Status: http.StatusNotFound, Message: "there is no such session; connect again"}

// busy answers a request that found no room.
func busy(why string) error {
	return &ws.HandshakeError{Status: http.StatusServiceUnavailable, Header: retryLater(), Message: why + "; connect again"}
}

// emulate gives a session here its commands. The error is a *ws.HandshakeError.
func (g *Gateway) emulate(r *protocol.EmulationRequest) error {
	c := g.emulated.find(r.Session)
	switch {
	case c == nil:
		return errNoSession
	case !c.take(r.Data):
		return busy("the session has ended, or too many commands wait for it")
	}
	g.stats.Emulated.Add(1)
	return nil
}

// forward gives a session of another node its commands, for a client at addr. The error is a *ws.HandshakeError.
func (g *Gateway) forward(r *protocol.EmulationRequest, addr netip.Addr) error {
	if g.Forwarder == nil {
		return errNoSession
	}
	if err := g.emulated.forwards.begin(addr); err != nil {
		return err
	}
	defer g.emulated.forwards.end(addr)
	payload, err := r.MarshalCF()
	if err != nil {
		return badEmulation("it cannot be handed on")
	}
	taken := make(chan bool, 1)
	g.Forwarder.Forward(r.Node, emulationKind, payload, func(ok bool) { taken <- ok })
	if !<-taken {
		return errNoSession
	}
	g.stats.Forwarded.Add(1)
	return nil
}

// parseQuery reads the query of a request.
func parseQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errors.New("the query is not percent-encoded right")
	}
	return query, nil
}
