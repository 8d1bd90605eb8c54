//go:build system

package postgres_test

import (
	"context"
	"os"
	"testing"
	"time"

	"barrage/journal"

	"github.com/jackc/pgx/v5"
)

// freshOld returns the URL of a schema as the version before has made it.
func freshOld(t *testing.T) string {
	t.Helper()
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
	return url
}

// A node of the version before, in the middle of a rolling upgrade, has connections with prepared statements and goes on with them:
// the schema is migrated under it by a node of this version.
func TestANodeOfTheVersionBeforeGoesOnAfterTheMigration(t *testing.T) {
	url := freshOld(t)
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

// While the migration cannot have its locks, because of a statement that takes long, everybody else goes on in between.
func TestAMigrationThatMustWaitLetsOthersGoOn(t *testing.T) {
	url := freshOld(t)
	long := begin(t, url, "SELECT count(*) FROM barrage_messages")
	j := open(t, url)
	migrated := make(chan error, 1)
	go func() { migrated <- j.Ready(t.Context()) }()
	waitForLock(t, "ALTER TABLE barrage_messages")
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	if _, err := other.Exec(ctx, "SELECT count(*) FROM barrage_messages"); err != nil {
		t.Errorf("a statement that comes while a migration waits for a long one must have its turn: %v", err)
	}
	select {
	case err := <-migrated:
		t.Fatalf("the migration waits until the long statement has ended, and does not give up: %v", err)
	default:
	}
	if _, err := long.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Errorf("when the long statement has ended the migration must be done: %v", err)
	}
	if _, err := j.Append(t.Context(), draft("")); err != nil {
		t.Error(err)
	}
}
