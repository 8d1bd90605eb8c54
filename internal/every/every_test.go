package every

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestIntervalCallsUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		calls, began := 0, time.Now()
		Interval(ctx, 10*time.Second, func() { calls++ })
		if took := time.Since(began); calls != 3 || took != 35*time.Second {
			t.Errorf("in 35 s there are 3 calls 10 s apart, and then it returns: there were %d, and it returned after %v", calls, took)
		}
	})
}
