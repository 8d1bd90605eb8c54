package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Callback adds what is to be known about the service of rpc.url: calls, those refused because too many were under way, and those
// without an answer that could be used.
func Callback(r *prometheus.Registry, calls, refused, failed *atomic.Int64) {
	register(r, []counter{
		{"rpc_calls_total", "What clients asked or sent that was handed to the service of rpc.url; only with one.", calls},
		{"rpc_failed_total", "Of those, what it did not answer as it must; only with one.", failed},
		{"rpc_refused_total", "What was not handed over because too much was under way, or the node was ending; only with a service of rpc.url.", refused},
	})
}
