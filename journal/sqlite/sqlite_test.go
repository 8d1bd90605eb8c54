package sqlite_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"barrage/journal"
	"barrage/journal/journaltest"
	"barrage/journal/sqlite"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journaltest.Store {
		url := "sqlite:" + filepath.Join(t.TempDir(), "journal.db") + "?synchronous=off"
		return journaltest.Store{
			Durable: true,
			Open:    func() (journal.Journal, error) { return sqlite.Open(context.Background(), url, quiet) },
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	journaltest.Benchmark(b, func(b *testing.B) journal.Journal {
		j, err := sqlite.Open(context.Background(), "sqlite:"+filepath.Join(b.TempDir(), "journal.db"), quiet)
		if err != nil {
			b.Fatal(err)
		}
		return j
	})
}
