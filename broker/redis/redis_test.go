package redis

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
