// Package every does something again and again: what looks at files that may change has one loop for it.
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
