package journal

import (
	"context"
	"log/slog"
	"time"
)

// Trimmer is the part of a Journal that RunTrim needs.
type Trimmer interface {
	Trim(ctx context.Context, p Policy) (removed int64, err error)
}

// RunTrim applies a retention policy now and then every so often, until ctx ends. It blocks; failures are logged and
// tried again the next time. It returns at once when the policy keeps everything or every is not positive.
func RunTrim(ctx context.Context, j Trimmer, p Policy, every time.Duration, log *slog.Logger) {
	if p.Everything() || every <= 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		start := time.Now()
		removed, err := j.Trim(ctx, p)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.Warn("trimming the journal failed; it is tried again", "error", err, "in", every)
		case removed > 0:
			log.Debug("trimmed the journal", "messages", removed, "took", time.Since(start))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
