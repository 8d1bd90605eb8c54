package load

import (
	"encoding/json"
	"math/bits"
	"time"
)

// Histogram counts durations in buckets of microseconds: exactly up to 127 µs, then 64 buckets for each power of two, so
// that a quantile is at most 1.6 % too large. The zero value is empty.
type Histogram struct {
	counts []uint64
	total  uint64
	most   time.Duration
}

const (
	// linear is the number of exact buckets, 1 µs each.
	linear = 128
	// perPower is the number of buckets of each power of two above.
	perPower = 64
	// buckets reach to about an hour; longer durations are counted in the last one.
	buckets = linear + perPower*25
)

// bucket is the index of the bucket of µs.
func bucket(us uint64) int {
	if us < linear {
		return int(us)
	}
	power := bits.Len64(us) - 7 // 128 to 255: 1
	return min(linear+perPower*(power-1)+int(us>>power)-perPower, buckets-1)
}

// bucketEnd is the largest µs of a bucket.
func bucketEnd(i int) uint64 {
	if i < linear {
		return uint64(i)
	}
	power, within := (i-linear)/perPower+1, (i-linear)%perPower
	return uint64(within+perPower+1)<<power - 1
}

// Add counts a duration; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	d = max(d, 0)
	h.counts[bucket(uint64(d/time.Microsecond))]++
	h.total++
	h.most = max(h.most, d)
}

// Merge adds the counts of another histogram.
func (h *Histogram) Merge(other *Histogram) {
	if other.total == 0 {
		return
	}
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.most = max(h.most, other.most)
}

// Count is the number of durations.
func (h *Histogram) Count() uint64 { return h.total }

// Max is the longest duration, exactly.
func (h *Histogram) Max() time.Duration { return h.most }

// Quantile is a duration that the part q of all durations does not exceed; 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := max(1, min(h.total, uint64(q*float64(h.total)+0.999999)))
	var sum uint64
	for i, n := range h.counts {
		if sum += n; n > 0 && sum >= rank {
			return min(time.Duration(bucketEnd(i))*time.Microsecond, h.most)
		}
	}
	return h.most
}

// wireHistogram is a histogram between processes: pairs of bucket and count.
type wireHistogram struct {
	Pairs [][2]uint64   `json:"pairs"`
	Most  time.Duration `json:"most"`
}

// MarshalJSON writes the counts that are not 0.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	w := wireHistogram{Most: h.most}
	for i, n := range h.counts {
		if n > 0 {
			w.Pairs = append(w.Pairs, [2]uint64{uint64(i), n})
		}
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var w wireHistogram
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	*h = Histogram{most: w.Most}
	for _, p := range w.Pairs {
		if h.counts == nil {
			h.counts = make([]uint64, buckets)
		}
		h.counts[min(p[0], buckets-1)] += p[1]
		h.total += p[1]
	}
	return nil
}
