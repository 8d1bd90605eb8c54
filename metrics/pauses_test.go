package metrics

import (
	"math"
	"runtime"
	runtimemetrics "runtime/metrics"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestPausesAreCountedUpToABoundOnlyWhenTheyAreSurelyBelow(t *testing.T) {
	count, sum, up := rebucket(&runtimemetrics.Float64Histogram{
		Counts: []uint64{1, 2, 3, 4}, Buckets: []float64{0, 1, 2, 4, math.Inf(1)},
	}, []float64{1, 3, 4})
	if count != 10 || sum != 1*1+2*2+3*4+4*4 || up[1] != 1 || up[3] != 3 || up[4] != 6 {
		t.Errorf("of 10 pauses 1 is up to 1, 3 surely up to 3, 6 up to 4: got %d, %v, sum %g", count, up, sum)
	}
}

func TestCollectionsAreSeen(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newPauses())
	runtime.GC()
	families, err := r.Gather()
	if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetHistogram().GetSampleCount() == 0 {
		t.Errorf("a collection has pauses, got %v, %v", families, err)
	}
}
