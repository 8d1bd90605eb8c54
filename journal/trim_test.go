package journal_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"barrage/journal"
)

// trimmer counts the calls of Trim and fails every second one.
type trimmer struct{ calls int }

func (j *trimmer) Trim(context.Context, journal.Policy) (int64, error) {
	j.calls++
	if j.calls%2 == 0 {
		return 0, errors.New("disk on fire")
	}
	return 1, nil
}

func TestRunTrimGoesOnUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		j := &trimmer{}
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		journal.RunTrim(ctx, j, journal.Policy{Default: journal.Retention{Count: 1}}, 10*time.Second, slog.New(slog.NewTextHandler(&log, nil)))
		if j.calls != 4 {
			t.Errorf("in 35 s every 10 s there must be 4 calls, not %d", j.calls)
		}
		if n := strings.Count(log.String(), "disk on fire"); n != 2 {
			t.Errorf("both failures must be logged, not %d:\n%s", n, log.String())
		}
	})
}

func TestRunTrimReturnsWhenThereIsNothingToDo(t *testing.T) {
	j := &trimmer{}
	journal.RunTrim(t.Context(), j, journal.Policy{Named: map[string]journal.Retention{"a": {}}}, time.Second, slog.New(slog.DiscardHandler))
	journal.RunTrim(t.Context(), j, journal.Policy{Default: journal.Retention{Age: 1}}, 0, slog.New(slog.DiscardHandler))
	if j.calls != 0 {
		t.Errorf("nothing must be trimmed, but there were %d calls", j.calls)
	}
}
