package main

import (
	"encoding/json"
	"slices"
	"time"
)

// histogram counts durations by whole milliseconds; above a minute all are the same.
type histogram struct {
	counts []uint64 // by millisecond
	total  uint64
	most   time.Duration
}

const histogramLimit = 60_000

func (h *histogram) add(d time.Duration) {
	ms := min(max(int(d/time.Millisecond), 0), histogramLimit)
	if ms >= len(h.counts) {
		h.counts = append(h.counts, make([]uint64, ms+1-len(h.counts))...)
	}
	h.counts[ms]++
	h.total++
	h.most = max(h.most, d)
}

func (h *histogram) merge(other histogram) {
	if len(other.counts) > len(h.counts) {
		h.counts = append(h.counts, make([]uint64, len(other.counts)-len(h.counts))...)
	}
	for ms, n := range other.counts {
		h.counts[ms] += n
	}
	h.total += other.total
	h.most = max(h.most, other.most)
}

// quantile is the number of milliseconds that a part q of all durations does not exceed, rounded down.
func (h *histogram) quantile(q float64) int {
	rank := uint64(q * float64(h.total))
	var sum uint64
	for ms, n := range h.counts {
		if sum += n; sum > rank {
			return ms
		}
	}
	return int(h.most / time.Millisecond)
}

// wireHistogram is a histogram between processes: pairs of millisecond and count.
type wireHistogram struct {
	Pairs [][2]uint64   `json:"pairs"`
	Most  time.Duration `json:"most"`
}

func (h histogram) MarshalJSON() ([]byte, error) {
	w := wireHistogram{Most: h.most}
	for ms, n := range h.counts {
		if n > 0 {
			w.Pairs = append(w.Pairs, [2]uint64{uint64(ms), n})
		}
	}
	return json.Marshal(w)
}

func (h *histogram) UnmarshalJSON(text []byte) error {
	var w wireHistogram
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	*h = histogram{most: w.Most}
	slices.SortFunc(w.Pairs, func(a, b [2]uint64) int { return int(a[0]) - int(b[0]) })
	for _, p := range w.Pairs {
		ms := min(p[0], histogramLimit)
		h.counts = append(h.counts, make([]uint64, int(ms)+1-len(h.counts))...)
		h.counts[ms] = p[1]
		h.total += p[1]
	}
	return nil
}
