package metrics

import (
	"math"
	runtimemetrics "runtime/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// pauses shows how long the garbage collector stopped the program, each time. The Go collector's own figures hold the last
// 256 pauses, or buckets of powers of ten.
type pauses struct{ description *prometheus.Desc }

func newPauses() prometheus.Collector {
	return pauses{prometheus.NewDesc("barrage_gc_pause_seconds", "Times that the garbage collector stopped everything.", nil, nil)}
}

// pauseBounds are the buckets, in seconds.
var pauseBounds = []float64{
	0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5,
}

// Describe implements prometheus.Collector.
func (p pauses) Describe(to chan<- *prometheus.Desc) { to <- p.description }

// Collect implements prometheus.Collector.
func (p pauses) Collect(to chan<- prometheus.Metric) {
	sample := []runtimemetrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	runtimemetrics.Read(sample)
	if sample[0].Value.Kind() != runtimemetrics.KindFloat64Histogram {
		return
	}
	count, sum, buckets := rebucket(sample[0].Value.Float64Histogram(), pauseBounds)
	to <- prometheus.MustNewConstHistogram(p.description, count, sum, buckets)
}

// rebucket counts what h holds up to each bound; what may be above a bound is not counted there. The sum is the most that it can be,
// but for the last bucket, which has no end.
func rebucket(h *runtimemetrics.Float64Histogram, bounds []float64) (count uint64, sum float64, up map[float64]uint64) {
	up = make(map[float64]uint64, len(bounds))
	for _, bound := range bounds {
		up[bound] = 0
	}
	for i, n := range h.Counts {
		end := h.Buckets[i+1]
		count += n
		if math.IsInf(end, 1) {
			end = h.Buckets[i]
		} else {
			for _, bound := range bounds {
				if end <= bound {
					up[bound] += n
				}
			}
		}
		if n > 0 {
			sum += float64(n) * end
		}
	}
	return count, sum, up
}
