package serverapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"barrage/httpapi/apikey"
	"barrage/proto"
)

// Defaults of Options.
const (
	DefaultBody     = 8 << 20
	DefaultTimeout  = 10 * time.Second
	DefaultRequests = 1024
)

// Options of an API. Backend.Messages and Keys are needed.
type Options struct {
	Backend Backend
	// Keys are the keys in force; while there are none every command is refused.
	Keys *apikey.Ring
	// Body is the largest body of a request, in bytes; 0 means DefaultBody.
	Body int64
	// Timeout is how long a request may take after its body was read; 0 means DefaultTimeout.
	Timeout time.Duration
	// Requests is how many may be under way at a time; one more is answered by 503. 0 means DefaultRequests.
	Requests int
	// Address says who sent a request, for the limit of failed authentications; nil means the peer.
	Address func(*http.Request) netip.Addr
	// Log hears of addresses that fail too often. Keys are never logged.
	Log *slog.Logger
}

// API serves the server API. All methods may be called from any goroutine.
type API struct {
	backend  Backend
	keys     *apikey.Ring
	body     int64
	timeout  time.Duration
	address  func(*http.Request) netip.Addr
	log      *slog.Logger
	requests chan struct{} // a place for each request under way
	guard    *guard
	stats    *stats
}

// New makes an API.
func New(o Options) *API {
	a := &API{
		backend: o.Backend, keys: o.Keys, body: o.Body, timeout: o.Timeout, address: o.Address, log: o.Log,
		guard: newGuard(), stats: newStats(),
	}
	if a.body <= 0 {
		a.body = DefaultBody
	}
	if a.timeout <= 0 {
		a.timeout = DefaultTimeout
	}
	if o.Requests <= 0 {
		o.Requests = DefaultRequests
	}
	a.requests = make(chan struct{}, o.Requests)
	if a.address == nil {
		a.address = peer
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	return a
}

// peer is the address at the other end of the connection.
func peer(r *http.Request) netip.Addr {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}

// Register adds the API's paths to mux: /api and everything below it.
func (a *API) Register(mux *http.ServeMux) {
	mux.Handle("/api", a)
	mux.Handle("/api/", a)
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/api"), "/")
	if servePage(w, r, name) {
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	m := byName[name]
	if m == nil && name != "" {
		refuse(w, http.StatusNotFound, unknownMethod(name))
		return
	}
	if r.Method != http.MethodPost {
		h.Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, proto.ErrBadRequest.With("the server API takes POST requests"))
		return
	}
	key, ok := a.authenticate(w, r)
	if !ok {
		return
	}
	if m != nil && key.Scope&m.scope == 0 {
		refuse(w, http.StatusForbidden, errScope)
		return
	}
	select {
	case a.requests <- struct{}{}:
		defer func() { <-a.requests }()
	default:
		h.Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, proto.ErrTooMany.With("%d requests are under way; send this again later", cap(a.requests)))
		return
	}
	a.answer(w, r, key, m)
}

// answer carries out a request whose key is known; without a method it holds commands on lines.
func (a *API) answer(w http.ResponseWriter, r *http.Request, key apikey.Key, m *method) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.body))
	if err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			refuse(w, http.StatusRequestEntityTooLarge, proto.ErrLimit.With("the body has more than %d bytes", a.body))
		} else {
			refuse(w, http.StatusBadRequest, proto.ErrBadRequest.With("the body did not arrive"))
		}
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.timeout)
	defer cancel()
	c := &call{ctx: ctx, key: key}
	if m == nil {
		commands, bad := lines(body)
		if bad != nil {
			refuse(w, http.StatusBadRequest, bad)
			return
		}
		write(w, http.StatusOK, a.all(c, commands, false)...)
		return
	}
	if !json.Valid(body) && len(bytes.TrimSpace(body)) > 0 {
		refuse(w, http.StatusBadRequest, malformed(errors.New("it is not one JSON value")))
		return
	}
	write(w, http.StatusOK, a.begin(c, m, bytes.TrimSpace(body), nil).wait(ctx))
}

// authenticate finds the key of a request, or answers it.
func (a *API) authenticate(w http.ResponseWriter, r *http.Request) (apikey.Key, bool) {
	if a.keys.Empty() {
		refuse(w, http.StatusForbidden, proto.ErrDenied.With("the server API is closed: no key is configured; set api.keys or api.keys_file"))
		return apikey.Key{}, false
	}
	from, now := a.address(r), time.Now()
	if wait := a.guard.wait(from, now); wait > 0 {
		a.stats.limited.Inc()
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		refuse(w, http.StatusTooManyRequests, proto.ErrTooMany.With("too many requests from your address had no valid key; wait"))
		return apikey.Key{}, false
	}
	key, ok := a.keys.Find(presented(r))
	if !ok {
		a.stats.denied.Inc()
		if a.guard.failed(from, now) {
			a.log.Warn("requests to the server API fail for want of a valid key; the address has to wait", "address", from)
		}
		w.Header().Set("WWW-Authenticate", "apikey")
		refuse(w, http.StatusUnauthorized, proto.ErrUnauthorized.With("there is no valid API key; send one as X-API-Key: KEY or Authorization: apikey KEY"))
	}
	return key, ok
}

// presented is the key that a request has. Never one in the query: addresses are logged by proxies.
func presented(r *http.Request) string {
	if key := r.Header.Get("X-API-Key"); key != "" {
		return key
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "apikey") {
		return ""
	}
	return strings.TrimSpace(key)
}

func refuse(w http.ResponseWriter, status int, err *proto.Error) {
	write(w, status, reply{Error: told(err)})
}

// write sends each reply on a line.
func write(w http.ResponseWriter, status int, replies ...reply) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for i := range replies {
		if err := e.Encode(&replies[i]); err != nil {
			// What was stored by another version may not be JSON.
			_ = e.Encode(reply{Error: told(proto.ErrInternal)})
		}
	}
	w.WriteHeader(status)
	// A client that is gone does not need to be told.
	_, _ = w.Write(b.Bytes())
}
