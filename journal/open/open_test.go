package open_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"barrage/journal"
	"barrage/journal/open"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestEverySchemeOpensItsJournal(t *testing.T) {
	for url, shared := range map[string]bool{
		"memory:": false,
		"sqlite:" + filepath.Join(t.TempDir(), "x.db"):    false,
		"postgres://user:secret@127.0.0.1:1/db":           true, // nothing is there, and that is no error yet
		"postgresql://127.0.0.1:1/db?sslmode=disable":     true,
		"postgres://user@127.0.0.1:1/db?pool_max_conns=3": true,
	} {
		j, err := open.Journal(context.Background(), url, quiet)
		if err != nil {
			t.Errorf("%s must open: %v", url, err)
			continue
		}
		if j.Shared() != shared {
			t.Errorf("Shared of %s must be %v", url, shared)
		}
		if err := open.Ready(t.Context(), j); (err != nil) != shared || shared && !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("Ready of %s without a server must be unavailable only when it is shared, not %v", url, err)
		}
		if err := j.Close(); err != nil {
			t.Errorf("close %s: %v", url, err)
		}
	}
}

func TestABadURLIsSaidInASentence(t *testing.T) {
	for url, want := range map[string]string{
		"":                                   "no scheme",
		"secret":                             "no scheme",
		"mysql://root@localhost/x":           `unknown scheme "mysql"; known are memory:, sqlite:PATH and postgres://`,
		"memory:x":                           "takes nothing more",
		"sqlite:":                            "names no file",
		"sqlite::memory:":                    "memory: is the journal in RAM",
		"sqlite://host/path":                 "host part",
		"sqlite:x?synchronous=maybe":         "full, normal, off or extra",
		"sqlite:x?sync=full":                 `unknown parameter "sync"`,
		"postgres:nonsense":                  "postgres://",
		"postgres://u:secret@h:port/db":      "invalid port",
		"postgres://h/db?pool_max_conns=lot": "pool_max_conns",
	} {
		_, err := open.Journal(context.Background(), url, quiet)
		if !errors.Is(err, journal.ErrURL) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q must be refused with ErrURL saying %q, not: %v", url, want, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password must not be told: %v", err)
		}
	}
}
