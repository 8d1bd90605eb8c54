//go:build system

package postgres_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"barrage/internal/testcert"
	"barrage/internal/testserver"
	"barrage/journal"
	"barrage/journal/postgres"
)

const password = "right/w@rd"

// startSecure starts a server that takes TLS alone, from clients with a certificate and a password, also as 127.0.0.2, which is not in
// its certificate.
func startSecure(t *testing.T) *testserver.Postgres {
	t.Helper()
	own, client := testcert.New(1), testcert.New(2)
	p, err := testserver.StartPostgresWith(testserver.PostgresOptions{
		TLS: &own, Client: &client, Password: password, Unsafe: true,
		Settings: map[string]string{"listen_addresses": "127.0.0.1,127.0.0.2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// with changes one parameter of a URL, or removes it when value is empty.
func with(t *testing.T, text, name, value string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Set(name, value); value == "" {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func TestTLS(t *testing.T) {
	own := startSecure(t)
	j := open(t, own.URL())
	for i, step := range []func() error{
		func() error { return nil }, func() error { return errors.Join(own.Stop(), own.Start()) }, func() error { return errors.Join(own.Kill(), own.Start()) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		// Connections that the restart broke are noticed before they are used, behind TLS too.
		if a, err := j.Append(t.Context(), draft("")); err != nil || int(a.Stored[0].Offset) != i+1 {
			t.Errorf("append %d over TLS must work at once after a restart, not %v, %v", i+1, a, err)
		}
	}
	if p, err := j.Read(t.Context(), "a", journal.Range{}); err != nil || p.Head != 3 {
		t.Errorf("all three must be there: head %d, %v", p.Head, err)
	}
	t.Run("a user and a database of the nodes' own", func(t *testing.T) { userOfItsOwn(t, own) })
	t.Run("what is wrong is told", func(t *testing.T) { whatIsWrong(t, own) })
}

func whatIsWrong(t *testing.T, own *testserver.Postgres) {
	other := testcert.New(3)
	otherFile, otherKey, err := other.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	right := own.URL()
	// Which certificate it does not take the server tells, unless it ends the connection before it has read everything.
	foreign := open(t, with(t, with(t, right, "sslcert", otherFile), "sslkey", otherKey)).Ready(t.Context())
	if foreign == nil || !strings.Contains(foreign.Error(), "does not take our certificate") && !errors.Is(foreign, journal.ErrUnavailable) {
		t.Errorf("with a certificate of another authority nobody gets in: %v", foreign)
	}
	for bad, want := range map[string]string{
		with(t, right, "sslrootcert", otherFile):                                                          "by sslrootcert",
		with(t, right, "sslrootcert", ""):                                                                 "by sslrootcert",
		strings.Replace(right, "127.0.0.1", "127.0.0.2", 1):                                               "another host",
		with(t, server.URL(), "sslmode", "require"):                                                       "ssl = on",
		with(t, with(t, right, "sslcert", ""), "sslkey", ""):                                              "certificate",
		with(t, with(t, right, "sslmode", "disable"), "sslrootcert", ""):                                  "pg_hba.conf",
		strings.Replace(right, url.UserPassword("postgres", password).String(), "postgres:wrong-word", 1): "check user and password",
	} {
		var log bytes.Buffer
		j, err := postgres.Open(t.Context(), bad, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		err = j.Ready(t.Context())
		_, appending := j.Append(t.Context(), draft(""))
		_ = j.Close()
		if err == nil || !strings.Contains(err.Error(), want) || appending == nil {
			t.Errorf("what is wrong with %s is told by %q, got %v", bad, want, err)
		}
		if errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("what a person must mend does not pass by itself: %v", err)
		}
		for _, secret := range []string{password, url.QueryEscape(password), url.PathEscape(password), "wrong-word"} {
			if told := log.String() + err.Error() + appending.Error(); strings.Contains(told, secret) {
				t.Errorf("no password is told: %s", told)
			}
		}
	}
}

// userOfItsOwn runs the statements that docs/databases.md shows, and appends as that user.
func userOfItsOwn(t *testing.T, own *testserver.Postgres) {
	text, err := os.ReadFile("../../docs/databases.md")
	if err != nil {
		t.Fatal(err)
	}
	statements := regexp.MustCompile(`(?m)^(CREATE|DELETE) .*;$`).FindAllString(string(text), -1)
	if len(statements) != 3 {
		t.Fatalf("the document shows two statements that create and one that deletes, got %q", statements)
	}
	execute(t, own.URL(), statements[0])
	execute(t, own.URL(), statements[1])
	as := strings.Replace(own.URL(), url.UserPassword("postgres", password).String(), "barrage:change-me", 1)
	as = strings.Replace(as, "/postgres?", "/barrage?", 1)
	j := open(t, as)
	first, err := j.Append(t.Context(), draft(""))
	if err != nil {
		t.Fatalf("a user who owns its database needs nothing more: %v", err)
	}
	execute(t, as, statements[2])
	var again journal.Appended
	waitFor(t, "a new epoch", func() bool {
		again, err = j.Append(t.Context(), draft(""))
		return err == nil
	})
	if again.Epoch == first.Epoch {
		t.Errorf("after its row was deleted the epoch is another one, not %s", again.Epoch)
	}
}
