package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"barrage/journal"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errLost: the connection broke or was ended while a statement was under way; whether that was committed is unknown.
var errLost = errors.New("the connection was lost")

// SQLSTATE values that the journal acts on.
const (
	undefinedTable      = "42P01"
	undefinedFunction   = "42883"
	undefinedColumn     = "42703"
	readOnlyTransaction = "25006"
	queryCanceled       = "57014"
	lockNotAvailable    = "55P03"
	deadlockDetected    = "40P01"
)

// isCode says whether an error is the database's with this SQLSTATE.
func isCode(err error, code string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == code
}

// deadlockPause is how long the winner of a deadlock has to take what it waited for.
const deadlockPause = 50 * time.Millisecond

// twice runs a statement, and once more when the database ended it to end a deadlock. That is what happens when two statements remove
// the same messages at once, which they lock in different orders. The other one, which waited for a lock of this one, gets it first.
func twice(statement func() error) error {
	err := statement()
	if isCode(err, deadlockDetected) {
		time.Sleep(deadlockPause)
		err = statement()
	}
	return err
}

// explain sorts the error of a statement: errLost, journal.ErrUnavailable, or one that is the statement's own.
func (j *Journal) explain(err error) error {
	if err == nil || errors.Is(err, journal.ErrUnavailable) {
		return err
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || fatal(pg) {
		if pgconn.SafeToRetry(err) {
			return fmt.Errorf("%w: %w", journal.ErrUnavailable, err)
		}
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			// The others are likely to be broken as well, or to lead to a server that is no longer the right one.
			j.pool.Reset()
		}
		return fmt.Errorf("%w: %w: %w", journal.ErrUnavailable, errLost, err)
	}
	switch pg.Code {
	case undefinedTable, undefinedFunction, undefinedColumn:
		j.ready.Store(false) // somebody removed the schema or the epoch: the next call sets it up
		return fmt.Errorf("%w: the schema is not there: %w", journal.ErrUnavailable, err)
	case readOnlyTransaction:
		j.pool.Reset() // a failover: the name may lead to the new primary
		return fmt.Errorf("%w: the server is read-only: %w", journal.ErrUnavailable, err)
	case queryCanceled, lockNotAvailable:
		return fmt.Errorf("%w: the statement took too long: %w", journal.ErrUnavailable, err)
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "40", "53", "57", "58", "XX":
		return fmt.Errorf("%w: %w", journal.ErrUnavailable, err)
	}
	return err
}

// explainAppend is explain for a statement that writes: when its connection was lost, the outcome is unknown.
func (j *Journal) explainAppend(err error) error {
	err = j.explain(err)
	if errors.Is(err, errLost) {
		// The cause is told and not wrapped: it matches ErrUnavailable, which would say "not stored".
		return fmt.Errorf("%w: %s", journal.ErrUncertain, err.Error())
	}
	return err
}

// lostEpoch is the error of a read that finds no epoch; the next call makes a new one.
func (j *Journal) lostEpoch() error {
	j.ready.Store(false)
	return fmt.Errorf("%w: barrage_meta has no epoch", journal.ErrUnavailable)
}

// fatal says whether an error ended the session. One that ends it may come after a commit.
func fatal(pg *pgconn.PgError) bool {
	return pg.SeverityUnlocalized == "FATAL" || pg.SeverityUnlocalized == "PANIC"
}

// explainSetup turns the error of connecting and migrating into a sentence that says what to do. What may pass by itself
// matches journal.ErrUnavailable; everything else needs a person.
func explainSetup(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fmt.Errorf("%w: the database cannot be reached: %w", journal.ErrUnavailable, err)
	}
	var advice string
	switch pg.Code {
	case "28000", "28P01":
		advice = "the database does not let this user in; check user and password in the URL and pg_hba.conf"
	case "3D000":
		advice = "create the database, or name another one in the URL"
	case "3F000":
		advice = "create the schema that search_path names"
	case "42501":
		advice = "give this user the right to create tables in its schema (GRANT CREATE ON SCHEMA … TO …) and, where another user made them, all rights on its tables, or name another one by search_path"
	case "42P07", "42723":
		advice = "the schema already has tables or functions of these names, but no journal; name another schema by search_path"
	default:
		if pg.Code[:min(2, len(pg.Code))] == "42" {
			return err
		}
		return fmt.Errorf("%w: %w", journal.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", advice, err)
}

// explainConnect is explainSetup for what prevented a connection, of which TLS may be the reason.
func explainConnect(c *pgx.ConnConfig, err error) error {
	if advice := tlsAdvice(c, err); advice != "" {
		return fmt.Errorf("%s: %w", advice, err)
	}
	return explainSetup(err)
}

// tlsAdvice says what a person can do about a connection that failed because of TLS; it is empty for every other one.
func tlsAdvice(c *pgx.ConnConfig, err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	text := err.Error()
	switch {
	case errors.As(err, &unknown):
		return "the database's certificate is not trusted; name the file of the authority that signed it by sslrootcert in the URL"
	case errors.As(err, &name):
		return "the database's certificate is for another host; connect by a name that is in it"
	case errors.As(err, &invalid):
		return "the database needs another certificate"
	case strings.Contains(text, "remote error: tls:") && strings.Contains(text, "certificate"): // as crypto/tls words an alert
		return "the database does not take our certificate; give one that it trusts by sslcert and sslkey in the URL"
	case strings.Contains(text, "server refused TLS connection") && insistsOnTLS(c): // a plain error of pgconn
		return "the database speaks no TLS; set ssl = on in its settings"
	}
	return ""
}

// insistsOnTLS says whether there is no attempt without TLS, as with sslmode=prefer, after which a refusal means nothing.
func insistsOnTLS(c *pgx.ConnConfig) bool {
	for _, f := range c.Fallbacks {
		if f.TLSConfig == nil {
			return false
		}
	}
	return c.TLSConfig != nil
}
