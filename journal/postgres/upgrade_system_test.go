//go:build system

package postgres_test

import (
	"os"
	"testing"

	"barrage/journal"

	"github.com/jackc/pgx/v5"
)

// A node of the version before, in the middle of a rolling upgrade, has connections with prepared statements and goes on with them:
// the schema is migrated under it by a node of this version.
func TestANodeOfTheVersionBeforeGoesOnAfterTheMigration(t *testing.T) {
	url := fresh(t)
	for _, step := range []string{"migrations/0001_base.sql", "migrations/0002_append_batch.sql"} {
		text, err := os.ReadFile(step)
		if err != nil {
			t.Fatal(err)
		}
		execute(t, url, string(text))
	}
	execute(t, url, `CREATE TABLE barrage_meta (name text PRIMARY KEY, value text NOT NULL);
		INSERT INTO barrage_meta VALUES ('schema', '2'), ('epoch', 'old')`)
	old, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close(t.Context())
	const appendOld = `SELECT r_head[1] FROM barrage_append_batch(ARRAY['a'], ARRAY[1::bigint], $1, $2, ARRAY['u'], ARRAY['c'], $3, ARRAY['x'::bytea])`
	appendAs := func(what string, want int64, args ...any) {
		t.Helper()
		var head int64
		if err := old.QueryRow(t.Context(), appendOld, args...).Scan(&head); err != nil || head != want {
			t.Fatalf("%s: the old node must append offset %d, not %d, %v", what, want, head, err)
		}
	}
	appendAs("before the migration", 1, nil, nil, nil)
	appendAs("before the migration, with a key", 2, []int32{1}, []int32{1}, []string{"k"})

	j := open(t, url)
	drafts := []journal.Draft{
		{Channel: "a", Key: "k", Attributes: []byte(`{"info":1}`)}, {Channel: "a", Data: []byte("y"), Attributes: []byte(`{"info":2}`)},
	}
	a, err := j.Append(t.Context(), drafts)
	if err != nil || a.Epoch != "old" || !a.Stored[0].Repeated || a.Stored[0].Offset != 2 || a.Stored[1].Offset != 3 {
		t.Fatalf("the new node must know the old one's keys and epoch, got %+v, %v", a, err)
	}
	appendAs("after the migration", 4, nil, nil, nil)
	appendAs("after the migration, with a key", 5, []int32{1}, []int32{1}, []string{"l"})
	page, err := j.Read(t.Context(), "a", journal.Range{})
	if err != nil || len(page.Messages) != 5 {
		t.Fatalf("all 5 messages must be read, got %d, %v", len(page.Messages), err)
	}
	for i, m := range page.Messages {
		want := ""
		if i == 2 {
			want = `{"info":2}`
		}
		if string(m.Attributes) != want {
			t.Errorf("offset %d must have the attributes %q, not %q", m.Offset, want, m.Attributes)
		}
	}
}
