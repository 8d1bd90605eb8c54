package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"barrage/journal"
	"barrage/journal/sqlite"
)

func open(t testing.TB, url string) *sqlite.Journal {
	t.Helper()
	j, err := sqlite.Open(context.Background(), url, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// execute runs SQL on a file that no journal holds.
func execute(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func wantRefused(t *testing.T, url string, kind error, want string) {
	t.Helper()
	j, err := sqlite.Open(context.Background(), url, quiet)
	if err == nil {
		_ = j.Close()
		t.Fatalf("%s must not open", url)
	}
	if kind != nil && !errors.Is(err, kind) || !strings.Contains(err.Error(), want) {
		t.Errorf("opening %s must say %q (%v), not: %v", url, want, kind, err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("an error must be one line, not: %v", err)
	}
}

func TestWhatCannotBeOpenedIsSaid(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "sqlite:"+text, nil, "not a SQLite database")
	if b, err := os.ReadFile(text); err != nil || !strings.HasPrefix(string(b), "this is no") {
		t.Errorf("a foreign file must stay as it is: %v", err)
	}

	foreign := filepath.Join(dir, "foreign.db")
	execute(t, foreign, "CREATE TABLE messages (x)")
	wantRefused(t, "sqlite:"+foreign, nil, "not a journal of barrage")

	wantRefused(t, "sqlite:"+filepath.Join(dir, "no/such/x.db"), nil, "does not exist; create it")
	wantRefused(t, "sqlite:"+filepath.Join(text, "x.db"), nil, "not a directory")
	wantRefused(t, "sqlite:"+dir, nil, "it is a folder")
}

func TestAFolderThatIsNotWritableIsSaid(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		dir = "/sys" // where even root cannot create files
	}
	wantRefused(t, "sqlite:"+filepath.Join(dir, "x.db"), nil, "not writable")
}

func TestANewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := open(t, "sqlite:"+path).Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, path, "UPDATE meta SET value = '99' WHERE name = 'schema'")
	wantRefused(t, "sqlite:"+path, journal.ErrNewerSchema, "version 99")
}

func TestASecondJournalOnTheSameFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	first := open(t, "sqlite:"+path)
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "sqlite:"+path, journal.ErrInUse, "in use by another process; stop it")
	wantRefused(t, "sqlite:"+link, journal.ErrInUse, "in use by another process; stop it")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, "sqlite:"+path)
}

func TestOddPathsWork(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a b.db", "100%.db", "%41.db", "who?.db", "#1.db", "弹幕.db", "x&y=z.db"} {
		url := "sqlite:" + filepath.Join(dir, name) + "?synchronous=normal"
		if err := open(t, url).Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s must be the file's name: %v", url, err)
		}
	}
}

// TestAFullDatabaseFailsBatchesWholeAndRecovers uses SQLite's own limit of pages in place of a full disk: both give
// SQLITE_FULL.
func TestAFullDatabaseFailsBatchesWholeAndRecovers(t *testing.T) {
	j := open(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err := sqlite.LimitPages(j, 40); err != nil {
		t.Fatal(err)
	}
	batch := []journal.Draft{{Channel: "a", Data: make([]byte, 20_000)}, {Channel: "b", Data: make([]byte, 20_000)}}
	stored := 0
	for ; stored < 100; stored++ {
		_, err := j.Append(t.Context(), batch)
		if err != nil {
			if !errors.Is(err, journal.ErrUnavailable) || !strings.Contains(err.Error(), "disk is full") {
				t.Errorf("a full disk must be said, not %v", err)
			}
			break
		}
	}
	heads, err := j.Heads(t.Context(), []string{"a", "b"})
	if err != nil || stored == 100 || int(heads.Offsets[0]) != stored || int(heads.Offsets[1]) != stored {
		t.Errorf("after %d batches and a failed one both heads must be %d, not %v, %v", stored, stored, heads.Offsets, err)
	}
	if err := sqlite.LimitPages(j, 1_000_000); err != nil {
		t.Fatal(err)
	}
	if a, err := j.Append(t.Context(), batch); err != nil || int(a.Stored[0].Offset) != stored+1 {
		t.Errorf("once there is room the next batch must be %d, not %v, %v", stored+1, a, err)
	}
}
