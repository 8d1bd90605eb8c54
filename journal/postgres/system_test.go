//go:build system

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"barrage/internal/testserver"
	"barrage/journal"
	"barrage/journal/journaltest"
	"barrage/journal/postgres"
	"barrage/proto"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

var (
	server  *testserver.Postgres
	schemas atomic.Int64
	quiet   = slog.New(slog.DiscardHandler)
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if server, err = testserver.StartPostgres(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
		return code
	}())
}

// execute runs one statement as the superuser.
func execute(t testing.TB, url, statement string) {
	t.Helper()
	c, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(context.Background(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// fresh returns the URL of an empty schema.
func fresh(t testing.TB) string {
	t.Helper()
	name := fmt.Sprint("s", schemas.Add(1))
	execute(t, server.URL(), "CREATE SCHEMA "+name)
	return server.URL() + "&search_path=" + name
}

func open(t testing.TB, url string) *postgres.Journal {
	t.Helper()
	j, err := postgres.Open(context.Background(), url, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func draft(key string) []journal.Draft {
	return []journal.Draft{{Channel: "a", Key: key, Data: []byte(key)}}
}

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journaltest.Store {
		url := fresh(t)
		return journaltest.Store{Durable: true, Shared: true, Open: func() (journal.Journal, error) {
			return postgres.Open(context.Background(), url, quiet)
		}}
	})
}

func TestManyNodesAppendToOneChannelAtOnce(t *testing.T) {
	url := fresh(t)
	var nodes []journal.Journal
	for range 4 {
		nodes = append(nodes, open(t, url)) // all of them set the schema up at once
	}
	journaltest.Contend(t, nodes, journaltest.Contention{Publishers: 6, Batches: 60})
}

func TestOpenAndReadyBeforeTheDatabaseIsThere(t *testing.T) {
	own, err := testserver.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if err := own.Stop(); err != nil {
		t.Fatal(err)
	}
	j := open(t, own.URL())
	if err := j.Ready(t.Context()); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("Ready without a database must be unavailable, not %v", err)
	}
	if _, err := j.Append(t.Context(), draft("")); !errors.Is(err, journal.ErrUnavailable) || errors.Is(err, journal.ErrUncertain) {
		t.Errorf("append without a database must be unavailable, not %v", err)
	}
	if _, err := j.Heads(t.Context(), []string{"a"}); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("heads without a database must be unavailable, not %v", err)
	}
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	if a, err := j.Append(t.Context(), draft("")); err != nil || a.Stored[0].Offset != 1 {
		t.Errorf("once the database is there the next append must work, not %v, %v", a, err)
	}
}

// TestRestartsDuringAppends kills and restarts the database under load. Every publisher sends a message again with
// the same key until it is acknowledged.
func TestRestartsDuringAppends(t *testing.T) {
	own, err := testserver.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	j := open(t, own.URL())
	if err := j.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := journal.NewWriter(j, journal.WriterOptions{})
	var work sync.WaitGroup
	var stop atomic.Bool
	var mu sync.Mutex
	acknowledged := map[proto.Offset]string{}
	outcomes := map[string]int{}
	count := func(what string) { mu.Lock(); outcomes[what]++; mu.Unlock() }
	for p := range 16 {
		work.Go(func() {
			for n := 0; !stop.Load(); n++ {
				key := fmt.Sprintf("%d/%d", p, n)
				at := publishUntilStored(t, w, key, count)
				mu.Lock()
				acknowledged[at] = key
				mu.Unlock()
			}
		})
	}
	for _, end := range []func() error{own.Kill, own.Stop, own.Kill} {
		before := w.Stats().Messages
		waitFor(t, "messages to be stored", func() bool { return w.Stats().Messages > before+200 })
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := own.Start(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		before = w.Stats().Messages
		waitFor(t, "appends to work again", func() bool { return w.Stats().Messages > before })
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("after a restart appends must work again at once, not after %s", took)
		}
	}
	stop.Store(true)
	work.Wait()
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d acknowledged; failures on the way: %v", len(acknowledged), outcomes)
	checkStored(t, j, acknowledged)
}

func publishUntilStored(t *testing.T, w *journal.Writer, key string, count func(string)) proto.Offset {
	type outcome struct {
		at  journal.Stored
		err error
	}
	for {
		done := make(chan outcome, 1)
		if err := w.Publish(draft(key)[0], func(at journal.Stored, _ proto.Epoch, err error) { done <- outcome{at, err} }); err != nil {
			t.Errorf("publish: %v", err)
			return 0
		}
		switch o := <-done; {
		case o.err == nil:
			return o.at.Offset
		case errors.Is(o.err, journal.ErrUncertain):
			count("uncertain")
		case errors.Is(o.err, journal.ErrUnavailable):
			count("unavailable")
		default:
			t.Errorf("a restart of the database must look like uncertain or unavailable, not %v", o.err)
			return 0
		}
	}
}

// checkStored reads the whole channel: no gap, each key once, and every acknowledged key where it was acknowledged.
func checkStored(t *testing.T, j journal.Journal, acknowledged map[proto.Offset]string) {
	seen := map[string]bool{}
	next := proto.Offset(1)
	for {
		p, err := j.Read(t.Context(), "a", journal.Range{From: next})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range p.Messages {
			if m.Offset != next || seen[string(m.Data)] {
				t.Fatalf("offset %d must follow without a gap and hold a new key, not %d with %s", next, m.Offset, m.Data)
			}
			if key, ok := acknowledged[m.Offset]; ok && key != string(m.Data) {
				t.Errorf("offset %d was acknowledged to %s but holds %s", m.Offset, key, m.Data)
			}
			delete(acknowledged, m.Offset)
			seen[string(m.Data)] = true
			next++
		}
		if len(p.Messages) == 0 {
			break
		}
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged messages are lost", len(acknowledged))
	}
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestANewerSchemaIsRefusedForGood(t *testing.T) {
	url := fresh(t)
	if err := open(t, url).Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, url, "UPDATE barrage_meta SET value = '99' WHERE name = 'schema'")
	j := open(t, url)
	for range 2 {
		if err := j.Ready(t.Context()); !errors.Is(err, journal.ErrNewerSchema) || !strings.Contains(err.Error(), "version 99") {
			t.Errorf("a newer schema must be refused with its version, not %v", err)
		}
	}
	if _, err := j.Append(t.Context(), draft("")); !errors.Is(err, journal.ErrNewerSchema) || errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("append to a newer schema must be refused for good, not %v", err)
	}
}

func TestWhatAPersonMustMendIsSaid(t *testing.T) {
	foreign := fresh(t)
	execute(t, foreign, "CREATE TABLE barrage_channels (id int)")
	execute(t, server.URL(), "CREATE ROLE stranger LOGIN")
	execute(t, server.URL(), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
	replace := func(old, new string) string { return strings.Replace(server.URL(), old, new, 1) }
	for url, want := range map[string]string{
		foreign:                                 "no journal",
		server.URL() + "&search_path=not_there": "create the schema",
		replace("/postgres?", "/not_there?"):    "create the database",
		replace("postgres@", "nobody_at_all@"):  "check user and password",
		replace("postgres@", "stranger@"):       "GRANT CREATE",
		// Without sslmode TLS is tried first and refused, which is not what is wrong.
		strings.TrimSuffix(replace("postgres@", "nobody_at_all@"), "?sslmode=disable"): "check user and password",
		replace("/postgres?", "/latin?"):                                               "encoding UTF8",
	} {
		j := open(t, url)
		err := j.Ready(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("Ready must say %q and not that it may pass, but it says: %v", want, err)
		}
		if _, err := j.Append(t.Context(), draft("")); !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("meanwhile appends must be unavailable, not %v", err)
		}
	}
}

func TestDeletingTheEpochBeginsAnother(t *testing.T) {
	url := fresh(t)
	j := open(t, url)
	first, err := j.Append(t.Context(), draft(""))
	if err != nil {
		t.Fatal(err)
	}
	execute(t, url, "DELETE FROM barrage_meta WHERE name = 'epoch'")
	if _, err := j.Read(t.Context(), "a", journal.Range{}); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("the read that finds no epoch must be unavailable, not %v", err)
	}
	execute(t, url, "DELETE FROM barrage_meta WHERE name = 'epoch'")
	second, err := j.Append(t.Context(), draft(""))
	if errors.Is(err, journal.ErrUnavailable) {
		second, err = j.Append(t.Context(), draft(""))
	}
	if err != nil || second.Epoch == first.Epoch || second.Stored[0].Offset != 2 {
		t.Errorf("the journal must go on in another epoch than %s, not %+v, %v", first.Epoch, second, err)
	}
}

func TestOnlyOneTrimsAtATime(t *testing.T) {
	url := fresh(t)
	j := open(t, url)
	for range 3 {
		if _, err := j.Append(t.Context(), draft("")); err != nil {
			t.Fatal(err)
		}
	}
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), "SELECT pg_advisory_lock(hashtextextended('barrage trim ' || current_schema(), 0))"); err != nil {
		t.Fatal(err)
	}
	if n, err := j.Trim(t.Context(), journal.Policy{Default: journal.Retention{Count: 1}}); n != 0 || err != nil {
		t.Errorf("while another trims, Trim must return 0 at once, not %d, %v", n, err)
	}
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int64
	waitFor(t, "the lock to vanish with its connection", func() bool {
		n, err = j.Trim(t.Context(), journal.Policy{Default: journal.Retention{Count: 1}})
		return n > 0 || err != nil
	})
	if n != 2 || err != nil {
		t.Errorf("then Trim must remove 2, not %d, %v", n, err)
	}
}

func TestIdleConnectionsThatTheServerEndedAreNoticedBeforeUse(t *testing.T) {
	url := fresh(t)
	j := open(t, url)
	for i := range 5 {
		if _, err := j.Append(t.Context(), draft("")); err != nil {
			t.Errorf("append %d, after the server ended all idle connections, must work: %v", i, err)
		}
		execute(t, server.URL(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'barrage'")
	}
}

func BenchmarkAppend(b *testing.B) {
	journaltest.Benchmark(b, func(b *testing.B) journal.Journal { return open(b, fresh(b)) })
}

// begin opens a transaction with one statement in it; it ends with the test at the latest.
func begin(t *testing.T, url, statement string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	if _, err := c.Exec(t.Context(), "BEGIN; "+statement, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	return c
}

// waitForLock waits until a statement of a journal that holds a text waits for a lock.
func waitForLock(t *testing.T, text string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	const waiting = `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'barrage' AND strpos(query, $1) > 0`
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var n int
		if err := c.QueryRow(t.Context(), waiting, text).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no statement with %s waits for a lock", text)
		}
	}
}

// Remove and Trim lock the messages that they remove in different orders.
func TestADeadlockIsNotTheEndOfARemoval(t *testing.T) {
	for name, remove := range map[string]func(j *postgres.Journal) error{
		"Remove": func(j *postgres.Journal) error { return j.Remove(t.Context(), "a") },
		"Trim": func(j *postgres.Journal) error {
			_, err := j.Trim(t.Context(), journal.Policy{Default: journal.Retention{Count: 1}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := fresh(t)
			j := open(t, url+"&deadlock_timeout=2s") // the other one must close the circle within that
			for range 3 {
				if _, err := j.Append(t.Context(), draft("")); err != nil {
					t.Fatal(err)
				}
			}
			const lock = `SELECT FROM barrage_messages WHERE "offset" = %d FOR UPDATE`
			other := begin(t, url, "SET LOCAL deadlock_timeout = '60s'; "+fmt.Sprintf(lock, 2))
			done := make(chan error, 1)
			go func() { done <- remove(j) }()
			waitForLock(t, "DELETE FROM barrage_messages")
			if _, err := other.Exec(t.Context(), fmt.Sprintf(lock, 1)); err != nil {
				t.Fatalf("the other transaction must not be the victim: %v", err)
			}
			if err := other.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Errorf("%s must remove after a deadlock what it could not remove before: %v", name, err)
			}
			p, err := j.Read(t.Context(), "a", journal.Range{})
			if err != nil || len(p.Messages) > 1 {
				t.Errorf("%s must have removed the messages, got %d, %v", name, len(p.Messages), err)
			}
		})
	}
}

// lockChannel holds the lock on all heads until it is called back.
func lockChannel(t *testing.T, url string) (unlock func()) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "BEGIN; SELECT * FROM barrage_channels FOR UPDATE", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
