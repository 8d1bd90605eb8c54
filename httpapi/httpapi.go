// Package httpapi serves what is not a WebSocket: health, readiness, metrics and, where they are wanted, profiles.
package httpapi

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"barrage/node"
)

// API serves /healthz, /readyz and /metrics.
type API struct {
	node     *node.Node
	registry *prometheus.Registry
	draining atomic.Bool
}

// New makes the API of a node.
func New(n *node.Node, r *prometheus.Registry) *API { return &API{node: n, registry: r} }

// IsHealth says whether a request asks how the node is, /healthz or /readyz: whoever checks that, a balancer or an orchestrator, may call
// the node by any name.
func IsHealth(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && (r.URL.Path == "/healthz" || r.URL.Path == "/readyz")
}

// Drain makes /readyz say that the node is going away.
func (a *API) Drain() { a.draining.Store(true) }

// Register adds the paths to mux.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		// A client that is gone does not need to be told.
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", a.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready bool   `json:"ready"`
	Node  string `json:"node"`
	// Mode is "normal", "following the journal" (the broker is away), "journal away" or "draining".
	Mode    string  `json:"mode"`
	Journal part    `json:"journal"`
	Broker  part    `json:"broker"`
	Since   *string `json:"broker_since,omitempty"`
}

type part struct {
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// brokerWords says how the broker is, but not where: everyone may read it. The log has what the broker says itself.
func brokerWords(up bool) string {
	if up {
		return "works"
	}
	return "does not work; the log of this node says why"
}

// ready answers 200 when the node can do all of its work, and 503 while it is starting, draining or without its journal.
// A broker that is away does not count: the node then follows the journal.
func (a *API) ready(w http.ResponseWriter, _ *http.Request) {
	h := a.node.Health()
	out := readiness{
		Ready: h.JournalOK && !a.draining.Load(), Node: a.node.Name(), Mode: h.Mode(),
		Journal: part{h.JournalOK, h.Journal}, Broker: part{h.Broker.Up, brokerWords(h.Broker.Up)},
	}
	if a.draining.Load() {
		out.Mode = "draining"
	}
	if !h.Broker.Since.IsZero() {
		since := h.Broker.Since.UTC().Format(time.RFC3339)
		out.Since = &since
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !out.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// A client that is gone does not need to be told.
	_ = json.NewEncoder(w).Encode(out)
}
