package serverapi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stats counts commands by method and outcome, and refused keys.
type stats struct {
	commands *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	denied   prometheus.Counter
	limited  prometheus.Counter
	of       map[string]*methodStats // by method; written by newStats alone
}

type methodStats struct {
	done, failed prometheus.Counter
	seconds      prometheus.Observer
}

func newStats() *stats {
	s := &stats{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "barrage_api_commands_total", Help: "Commands of the server API by method and outcome, those of a batch and the batch itself.",
		}, []string{"method", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "barrage_api_command_seconds", Help: "Time of a command of the server API.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}, []string{"method"}),
		denied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "barrage_api_unauthorized_total", Help: "Requests to the server API without a valid key.",
		}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "barrage_api_limited_total", Help: "Requests to the server API refused because their address had sent too many without a valid key.",
		}),
		of: map[string]*methodStats{},
	}
	for _, m := range methods {
		s.of[m.name] = &methodStats{
			done: s.commands.WithLabelValues(m.name, "ok"), failed: s.commands.WithLabelValues(m.name, "error"),
			seconds: s.seconds.WithLabelValues(m.name),
		}
	}
	return s
}

func (m *methodStats) observe(took time.Duration, ok bool) {
	m.seconds.Observe(took.Seconds())
	if ok {
		m.done.Inc()
	} else {
		m.failed.Inc()
	}
}

// Collect adds the API's metrics to r.
func (a *API) Collect(r prometheus.Registerer) {
	r.MustRegister(a.stats.commands, a.stats.seconds, a.stats.denied, a.stats.limited)
}
