package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"barrage/journal"
	"barrage/journal/internal/migration"
	"barrage/proto"

	lib "modernc.org/sqlite/lib"
)

//go:embed migrations
var migrationFiles embed.FS

var migrations = migration.MustLoad(migrationFiles)

// applicationID marks a SQLite file as a journal of this program: "BRGE".
const applicationID = 0x42524745

// Open opens or creates the journal that a URL names: sqlite:PATH[?synchronous=full|normal|off|extra]. PATH is taken
// as it is, without percent-decoding; its folder must exist. Errors are sentences that say what to do; journal.ErrURL,
// journal.ErrInUse and journal.ErrNewerSchema can be told apart.
func Open(ctx context.Context, url string, log *slog.Logger) (*Journal, error) {
	path, synchronous, err := parse(url)
	if err != nil {
		return nil, err
	}
	j := &Journal{log: log, turn: make(chan struct{}, 1)}
	if j.path, err = locate(path); err != nil {
		return nil, err
	}
	if err := j.open(ctx, synchronous); err != nil {
		return nil, errors.Join(j.explainOpen(err), j.release())
	}
	return j, nil
}

// parse splits a journal URL into the path and the value of synchronous.
func parse(raw string) (path, synchronous string, err error) {
	rest, ok := strings.CutPrefix(raw, "sqlite:")
	if !ok {
		return "", "", fmt.Errorf("%w: %q must begin with sqlite: and a path", journal.ErrURL, raw)
	}
	path, query, hasQuery := cutLast(rest, "?")
	switch {
	case path == "":
		return "", "", fmt.Errorf("%w: %q names no file; write sqlite:PATH", journal.ErrURL, raw)
	case path == ":memory:":
		return "", "", fmt.Errorf("%w: %q; memory: is the journal in RAM", journal.ErrURL, raw)
	case strings.HasPrefix(path, "//") && !strings.HasPrefix(path, "///"):
		return "", "", fmt.Errorf("%w: %q has a host part; write sqlite:PATH without slashes in front", journal.ErrURL, raw)
	case !hasQuery:
		return path, "full", nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", "", fmt.Errorf("%w: what follows the ? of %q: %w", journal.ErrURL, raw, err)
	}
	for name := range values {
		if name != "synchronous" {
			return "", "", fmt.Errorf("%w: unknown parameter %q in %q; the only one is synchronous", journal.ErrURL, name, raw)
		}
	}
	switch synchronous = values.Get("synchronous"); synchronous {
	case "full", "normal", "off", "extra":
		return path, synchronous, nil
	}
	return "", "", fmt.Errorf("%w: synchronous=%s in %q; it is full, normal, off or extra", journal.ErrURL, synchronous, raw)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// locate makes path absolute and follows links, so that every name of a file has the same lock.
func locate(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(abs))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("sqlite: open %s: the folder %s does not exist; create it", path, filepath.Dir(abs))
	case err != nil:
		return "", fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	abs = filepath.Join(folder, filepath.Base(abs))
	info, err := os.Stat(abs)
	if err == nil && info.IsDir() {
		return "", fmt.Errorf("sqlite: open %s: it is a folder; name a file in it", path)
	}
	if err == nil {
		return filepath.EvalSymlinks(abs)
	}
	return abs, nil
}

// open does the work of Open. When it fails, release closes what it has opened.
func (j *Journal) open(ctx context.Context, synchronous string) (err error) {
	if j.lock, err = lockFile(j.path + ".lock"); err != nil {
		return err
	}
	if j.writes, err = sql.Open("sqlite", j.dsn("busy_timeout(5000)")); err != nil {
		return err
	}
	j.writes.SetMaxOpenConns(1)
	if j.writer, err = j.writes.Conn(ctx); err != nil {
		return err
	}
	if err := j.recognise(ctx); err != nil {
		return err
	}
	for _, pragma := range []string{
		"journal_mode=WAL", "synchronous=" + synchronous, "wal_autocheckpoint=4000", "cache_size=-65536",
	} {
		if _, err := j.writer.ExecContext(ctx, "PRAGMA "+pragma); err != nil {
			return err
		}
	}
	if err := j.migrate(ctx); err != nil {
		return err
	}
	if err := j.stmts.prepare(ctx, j.writer); err != nil {
		return err
	}
	j.reads, err = sql.Open("sqlite", j.dsn("busy_timeout(5000)", "query_only(1)", "cache_size(-16384)"))
	if err != nil {
		return err
	}
	j.reads.SetMaxOpenConns(readers)
	j.reads.SetMaxIdleConns(readers)
	return j.reads.PingContext(ctx)
}

// dsn is the driver's name for the file, with pragmas for every connection.
func (j *Journal) dsn(pragmas ...string) string {
	path := filepath.ToSlash(j.path)
	if !strings.HasPrefix(path, "/") { // a drive letter
		path = "/" + path
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	return u.String()
}

// errForeign: the file belongs to another program.
var errForeign = errors.New("it is a SQLite database, but not a journal of barrage; give another path")

// recognise checks, before anything is changed, that the file is new or a journal.
func (j *Journal) recognise(ctx context.Context) error {
	var id, tables int
	if err := j.writer.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if err := j.writer.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if tables > 0 && id != applicationID {
		return errForeign
	}
	return nil
}

// migrate brings the schema up to date, each step in a transaction of its own, and learns the epoch.
func (j *Journal) migrate(ctx context.Context) error {
	version, err := j.prepareMeta(ctx)
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("%w: version %d, and this program knows only up to %d; use the newer barrage that wrote it",
			journal.ErrNewerSchema, version, len(migrations))
	}
	for _, step := range migrations[version:] {
		err := j.transaction(func(ctx context.Context) error {
			if _, err := j.writer.ExecContext(ctx, step.SQL); err != nil {
				return err
			}
			_, err := j.writer.ExecContext(ctx, "UPDATE meta SET value = ? WHERE name = 'schema'", strconv.Itoa(step.Version))
			return err
		})
		if err != nil {
			return fmt.Errorf("migration %s: %w", step.Name, err)
		}
		j.log.Info("migrated the journal", "path", j.path, "migration", step.Name)
	}
	return nil
}

// prepareMeta makes sure of the table meta and its rows epoch and schema, and returns the schema's version. Deleting
// the row epoch makes the next start choose a new one.
func (j *Journal) prepareMeta(ctx context.Context) (version int, err error) {
	err = j.transaction(func(ctx context.Context) error {
		for _, statement := range []string{
			"PRAGMA application_id = " + strconv.Itoa(applicationID),
			"CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
			"INSERT INTO meta VALUES ('schema', '0') ON CONFLICT DO NOTHING",
			"INSERT INTO meta VALUES ('epoch', '" + string(journal.NewEpoch()) + "') ON CONFLICT DO NOTHING",
		} {
			if _, err := j.writer.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		var epoch string
		row := j.writer.QueryRowContext(ctx, "SELECT (SELECT value FROM meta WHERE name = 'schema'), (SELECT value FROM meta WHERE name = 'epoch')")
		err := row.Scan(&version, &epoch)
		j.epoch = proto.Epoch(epoch)
		return err
	})
	return version, err
}

// release closes whatever is open. It waits for nothing but calls that use a connection right now.
func (j *Journal) release() error {
	var errs []error
	if j.reads != nil {
		errs = append(errs, j.reads.Close())
	}
	j.stmts.close()
	if j.writer != nil {
		errs = append(errs, j.writer.Close())
	}
	if j.writes != nil {
		errs = append(errs, j.writes.Close())
	}
	if j.lock != nil {
		errs = append(errs, j.lock.release())
	}
	return errors.Join(errs...)
}

// explainOpen turns what went wrong in open into a sentence that says what to do.
func (j *Journal) explainOpen(err error) error {
	switch {
	case errors.Is(err, journal.ErrInUse):
		return fmt.Errorf("sqlite: open %s: %w; stop it, give this one another path, or use postgres:// to share a journal", j.path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("sqlite: open %s: the folder is not writable for this user; change its rights or give another path: %w", j.path, err)
	}
	switch code(err) {
	case lib.SQLITE_NOTADB:
		return fmt.Errorf("sqlite: open %s: the file is not a SQLite database; move it away or give another path", j.path)
	case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_CANTOPEN:
		return fmt.Errorf("sqlite: open %s: the file or its folder is not writable for this user; change the rights or give another path: %w", j.path, err)
	}
	return fmt.Errorf("sqlite: open %s: %w", j.path, explain(err))
}
