// Package every is for what happens again and again: one loop that looks at what may change, the judgement whether what it sees has
// changed, and lines of the log that are written seldom.
package every

import (
	"context"
	"time"
)

// Interval calls fn each time that d is over, one call after the other, until ctx ends. It returns then, and never while fn runs.
func Interval(ctx context.Context, d time.Duration, fn func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			fn()
		}
	}
}
