package memory_test

import (
	"testing"

	"barrage/journal"
	"barrage/journal/journaltest"
	"barrage/journal/memory"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(*testing.T) journaltest.Store {
		return journaltest.Store{Open: func() (journal.Journal, error) { return memory.New(), nil }}
	})
}

func BenchmarkAppend(b *testing.B) {
	journaltest.Benchmark(b, func(*testing.B) journal.Journal { return memory.New() })
}
