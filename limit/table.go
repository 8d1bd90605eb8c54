package limit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	shards = 16
	// sweepEvery is how often a full shard looks for buckets that need not be kept.
	sweepEvery = time.Second
)

// Table holds a bucket for each key, and at most as many as it was made for: buckets that need not be kept go first, and then any.
// Its methods may be called from any goroutine.
type Table[K comparable] struct {
	seed   maphash.Seed
	most   int // buckets of a shard
	shards [shards]shard[K]
}

type shard[K comparable] struct {
	mu      sync.Mutex
	buckets map[K]Bucket  // owner: mu
	swept   time.Duration // owner: mu
}

// NewTable makes a table of about most buckets.
func NewTable[K comparable](most int) *Table[K] {
	t := &Table[K]{seed: maphash.MakeSeed(), most: max(most/shards, 1)}
	for i := range t.shards {
		t.shards[i].buckets, t.shards[i].swept = map[K]Bucket{}, -sweepEvery
	}
	return t
}

// Take is Bucket.Take of the bucket of a key. r may be another one than before: then it holds from now on.
func (t *Table[K]) Take(key K, r Rate, now time.Duration) (wait time.Duration) {
	if !r.Limited() {
		return 0
	}
	s := &t.shards[maphash.Comparable(t.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b, known := s.buckets[key]
	wait = b.Take(r, now)
	if !known && len(s.buckets) >= t.most {
		s.makeRoom(now, t.most)
	}
	s.buckets[key] = b
	return wait
}

// Give is Bucket.Give of the bucket of a key.
func (t *Table[K]) Give(key K, r Rate) {
	s := &t.shards[maphash.Comparable(t.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, known := s.buckets[key]; known {
		b.Give(r)
		s.buckets[key] = b
	}
}

// makeRoom leaves room for one bucket. The shard is locked.
func (s *shard[K]) makeRoom(now time.Duration, most int) {
	if now-s.swept >= sweepEvery {
		s.swept = now
		for key, b := range s.buckets {
			if b.Idle(now) {
				delete(s.buckets, key)
			}
		}
	}
	for key := range s.buckets {
		if len(s.buckets) < most {
			return
		}
		delete(s.buckets, key)
	}
}

// Len is the number of buckets.
func (t *Table[K]) Len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.buckets)
		s.mu.Unlock()
	}
	return n
}
