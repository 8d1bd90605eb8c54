package limit

import (
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

func TestABucketIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Bucket{}); n > 16 {
		t.Errorf("a bucket takes at most 16 bytes, not %d", n)
	}
}

func TestTake(t *testing.T) {
	type step struct{ at, wait time.Duration }
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		rate  Rate
		steps []step
	}{
		{"no limit", Rate{}, []step{{0, 0}, {0, 0}, {0, 0}}},
		{"a burst, then the rate", Rate{PerSecond: 10, Burst: 3}, []step{{0, 0}, {0, 0}, {0, 0}, {0, 100 * ms}, {40 * ms, 60 * ms}, {100 * ms, 0}, {100 * ms, 100 * ms}}},
		{"a pause pays for a burst, not for more", Rate{PerSecond: 10, Burst: 2}, []step{{0, 0}, {0, 0}, {time.Hour, 0}, {time.Hour, 0}, {time.Hour, 100 * ms}}},
		{"no burst is one", Rate{PerSecond: 2}, []step{{0, 0}, {0, 500 * ms}, {500 * ms, 0}}},
		{"a clock that goes back", Rate{PerSecond: 10, Burst: 1}, []step{{time.Second, 0}, {0, 1100 * ms}, {1100 * ms, 0}}},
	} {
		var b Bucket
		for i, s := range c.steps {
			if wait := b.Take(c.rate, s.at); wait != s.wait {
				t.Errorf("%s: step %d at %v must wait %v, not %v", c.name, i+1, s.at, s.wait, wait)
			}
		}
	}
}

func TestABucketKeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{PerSecond: float64(rapid.IntRange(1, 1000).Draw(t, "rate")), Burst: rapid.IntRange(0, 50).Draw(t, "burst")}
		var b Bucket
		var now time.Duration
		var taken []time.Duration
		for range rapid.IntRange(1, 200).Draw(t, "tries") {
			now += time.Duration(rapid.IntRange(0, 300_000).Draw(t, "pause in µs")) * time.Microsecond
			wait := b.Take(r, now)
			if wait == 0 {
				taken = append(taken, now)
				continue
			}
			before := b
			if later := before.Take(r, now+wait-1); later == 0 {
				t.Fatalf("told to wait %v at %v, 1 ns less is enough", wait, now)
			}
			if later := before.Take(r, now+wait); later != 0 {
				t.Fatalf("told to wait %v at %v, it must still wait %v then", wait, now, later)
			}
		}
		for i := range taken {
			for j := i; j < len(taken); j++ {
				// Intervals are whole nanoseconds: the rate is exceeded by less than one in 10^5.
				most := float64(max(r.Burst, 1)) + r.PerSecond*(taken[j]-taken[i]).Seconds()*1.00001 + 1e-6
				if n := j - i + 1; float64(n) > most {
					t.Fatalf("in %v %d were let through; %+v allows %g", taken[j]-taken[i], n, r, most)
				}
			}
		}
	})
}

func TestWhoKeepsToTheRateIsNeverRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{PerSecond: float64(rapid.IntRange(1, 1000).Draw(t, "rate")), Burst: rapid.IntRange(0, 50).Draw(t, "burst")}
		var b Bucket
		for i := range 200 {
			if wait := b.Take(r, time.Duration(i)*r.interval()); wait != 0 {
				t.Fatalf("number %d at the rate of %+v must wait %v", i+1, r, wait)
			}
		}
	})
}

func BenchmarkTake(b *testing.B) {
	var bucket Bucket
	r := PerSecond(100)
	b.ReportAllocs()
	for b.Loop() {
		bucket.Take(r, time.Second)
	}
}
