// Package open opens a journal by its URL. It knows every implementation, so that nothing else has to.
package open

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"barrage/journal"
	"barrage/journal/memory"
	"barrage/journal/postgres"
	"barrage/journal/sqlite"
)

// Journal opens the journal that url names: memory:, sqlite:PATH[?synchronous=…] or postgres://…. A URL that cannot be
// understood gives journal.ErrURL. A PostgreSQL database need not be there yet: see Ready.
func Journal(ctx context.Context, url string, log *slog.Logger) (journal.Journal, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "memory":
		if rest != "" {
			return nil, fmt.Errorf("%w: %q; memory: takes nothing more", journal.ErrURL, url)
		}
		return memory.New(), nil
	case "sqlite":
		return opened(sqlite.Open(ctx, url, log))
	case "postgres", "postgresql":
		return opened(postgres.Open(ctx, url, log))
	}
	if !strings.Contains(url, ":") { // it may be anything, a password too
		return nil, fmt.Errorf("%w: it has no scheme; write memory:, sqlite:PATH or postgres://…", journal.ErrURL)
	}
	return nil, fmt.Errorf("%w: unknown scheme %q; known are memory:, sqlite:PATH and postgres://…", journal.ErrURL, scheme)
}

// opened keeps a nil pointer from becoming an interface that is not nil.
func opened[J journal.Journal](j J, err error) (journal.Journal, error) {
	if err != nil {
		return nil, err
	}
	return j, nil
}

// Ready says whether a journal can be used now, for those that may be opened before they can. An error that matches
// journal.ErrUnavailable may pass by itself; every other one needs a person.
func Ready(ctx context.Context, j journal.Journal) error {
	if r, ok := j.(interface{ Ready(context.Context) error }); ok {
		return r.Ready(ctx)
	}
	return nil
}
