package redis

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// After the end of a client for a cluster, this one sleeps for up to a second and finds that there is nothing to do.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

// await fails the test unless ok becomes true soon; what is the sentence that is being checked.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const limit = 20 * time.Second
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("within %s it did not come true that %s", limit, what)
		}
	}
}

// closeWithin closes b and fails the test when that takes longer.
func closeWithin(t *testing.T, b *Broker, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Errorf("Close takes less than %s; it gave %v", limit, err)
	}
}
