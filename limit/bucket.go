package limit

import "time"

// Rate is a limit. The zero value limits nothing.
type Rate struct {
	// PerSecond is how many are let through a second in the long run; 0 means no limit.
	PerSecond float64
	// Burst is how many are let through at once after a pause; less than 1 means 1.
	Burst int
}

// burstSeconds is how long a burst at twice its rate may last by PerSecond.
const burstSeconds = 2

// PerSecond is a rate of n a second whose burst is what it lets through in two seconds. 0 means no limit.
func PerSecond(n int) Rate {
	return Rate{PerSecond: float64(n), Burst: burstSeconds * n}
}

// Limited says whether the rate limits anything.
func (r Rate) Limited() bool { return r.PerSecond > 0 }

// interval is the time that one costs.
func (r Rate) interval() time.Duration {
	return time.Duration(float64(time.Second) / r.PerSecond)
}

// Bucket is the state of one limit, in 8 bytes. The zero value is a bucket after a long pause.
//
// It is the moment up to which what was let through is paid for: an amount that flows in at the rate, and may be in debt by a
// burst. The generic cell rate algorithm of ATM is the same thing.
type Bucket struct {
	paid time.Duration
}

// Take asks for one at now, counted from any fixed moment, of a bucket that is always used with r. wait is 0 when it was let
// through, and otherwise how long to wait. A now that is before an earlier one counts as that one.
func (b *Bucket) Take(r Rate, now time.Duration) (wait time.Duration) {
	if !r.Limited() {
		return 0
	}
	interval := r.interval()
	paid := max(b.paid, now)
	if wait := paid - now - interval*time.Duration(max(r.Burst, 1)-1); wait > 0 {
		return wait
	}
	b.paid = paid + interval
	return 0
}

// Give gives back what Take with r let through.
func (b *Bucket) Give(r Rate) {
	if r.Limited() {
		b.paid -= r.interval()
	}
}

// Idle says whether the bucket is at now as it was at first, so that it need not be kept.
func (b *Bucket) Idle(now time.Duration) bool { return b.paid <= now }
