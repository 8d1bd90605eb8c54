package load

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsFollowEachOther(t *testing.T) {
	for us := range uint64(1 << 20) {
		i := bucket(us)
		if end := bucketEnd(i); end < us || i > 0 && bucketEnd(i-1) >= us || float64(end-us) > 0.016*float64(us) {
			t.Fatalf("%d µs belong into the bucket that ends with them or at most 1.6 %% later, got bucket %d, which ends at %d", us, i, end)
		}
	}
	if i := bucket(1 << 62); i != buckets-1 {
		t.Errorf("what is too long is in the last bucket, got %d", i)
	}
}

func TestQuantilesAreCloseAndNeverTooSmall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Int64Range(0, int64(10*time.Minute)), 1, 100).Draw(t, "durations")
		var a, b, whole Histogram
		for i, d := range all {
			if i%2 == 0 {
				a.Add(time.Duration(d))
			} else {
				b.Add(time.Duration(d))
			}
			whole.Add(time.Duration(d))
		}
		text, err := json.Marshal(&b)
		if err != nil {
			t.Fatal(err)
		}
		var again Histogram
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		a.Merge(&again)
		slices.Sort(all)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
			rank := max(0, int(q*float64(len(all))+0.999999)-1)
			exact := time.Duration(all[rank])
			got := whole.Quantile(q)
			if got < exact-time.Microsecond || float64(got) > 1.016*float64(exact)+1000 {
				t.Fatalf("quantile %g of %v is %v, got %v", q, all, exact, got)
			}
			if parts := a.Quantile(q); parts != got {
				t.Fatalf("two halves together give the same quantile %g: %v, got %v", q, got, parts)
			}
		}
		if whole.Max() != time.Duration(all[len(all)-1]) || a.Count() != uint64(len(all)) {
			t.Fatalf("the longest is kept exactly")
		}
	})
}

func TestAnEmptyHistogramIsZero(t *testing.T) {
	var h Histogram
	if h.Quantile(0.99) != 0 || h.Max() != 0 {
		t.Error("nothing has no quantiles")
	}
}
