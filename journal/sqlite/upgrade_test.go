package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"barrage/journal"
)

func TestAFileOfTheFirstVersionIsMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	base, err := os.ReadFile("migrations/0001_base.sql")
	if err != nil {
		t.Fatal(err)
	}
	execute(t, path, string(base)+`;
		CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
		INSERT INTO meta VALUES ('schema', '1'), ('epoch', 'old');
		INSERT INTO channels VALUES (1, 'a', 1, 5);
		INSERT INTO messages VALUES (1, 1, 1, 5, 'u', 'c', 'k', x'31');
		PRAGMA application_id = 1112688453`)
	j := open(t, "sqlite:"+path)
	a, err := j.Append(t.Context(), []journal.Draft{
		{Channel: "a", Key: "k", Attributes: []byte(`{"info":1}`)}, {Channel: "a", Attributes: []byte(`{"info":2}`)},
	})
	if err != nil || a.Epoch != "old" || !a.Stored[0].Repeated || a.Stored[1].Offset != 2 {
		t.Fatalf("the migrated file must know its keys and epoch, got %+v, %v", a, err)
	}
	page, err := j.Read(t.Context(), "a", journal.Range{})
	if err != nil || len(page.Messages) != 2 || page.Messages[0].Attributes != nil || string(page.Messages[0].Data) != "1" ||
		string(page.Messages[1].Attributes) != `{"info":2}` {
		t.Errorf("an old message must be read without attributes, and a new one with its own, got %+v, %v", page.Messages, err)
	}
}
