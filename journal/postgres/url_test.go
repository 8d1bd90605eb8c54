package postgres

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"barrage/internal/testcert"
	"barrage/journal"
)

func TestBadURLsAreExplainedWithoutTheirPasswords(t *testing.T) {
	for url, want := range map[string]string{
		"http://h":                                                                 "postgres://",
		"postgres://u:s3cret@h:x/db":                                               "port",
		"postgres://u:se/s3cret@h/db":                                              "%2F",
		"postgres://u:12/s3cret@h/db":                                              "%2F",
		"postgres://u:12,b/s3cret@h/db?a=b":                                        "%2F",
		"postgres://u:12?s3cret/x@h/db":                                            "separator",
		"postgres://u:12?a\"s3cret&/x@h/db":                                        "separator",
		"postgres://u:s3cret@h/db?pool_max_conns=12/s3cret":                        "pool_max_conns",
		"postgres://u:100%s3cret@h/db":                                             "percent",
		"postgres://u:se@s3cret@h/db":                                              "%40",
		"postgres://u:se@s3cret@h:x/db":                                            "%40",
		"postgres://u:p@a:1,u:s3cret@b:2/db":                                       "%40",
		"postgres://u@h:s3cret/db":                                                 "port",
		"postgres://h/db?user=u;password=s3cret":                                   "separator",
		"postgres://u:s3cret@h/db?sslmode=verify-full&sslrootcert=/does/not/exist": "/does/not/exist",
		"postgres://u:s3cret@h/db?sslmode=sometimes":                               "sslmode is invalid",
		"postgres://u:s3cret@h/db?target_session_attrs=both":                       "target_session_attrs",
	} {
		j, err := Open(context.Background(), url, slog.New(slog.DiscardHandler))
		if j != nil || !errors.Is(err, journal.ErrURL) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v; want ErrURL saying %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the password is told: %v", url, err)
		}
	}
}

func TestSeveralHostsAreUnderstood(t *testing.T) {
	j, err := Open(context.Background(), "postgres://u:p%40w@a:1,b:2/db?target_session_attrs=read-write", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	c := j.pool.Config().ConnConfig
	if c.Host != "a" || c.Port != 1 || c.Password != "p@w" || c.ValidateConnect == nil {
		t.Errorf("the first host is a:1, and it must take writes; got %s:%d", c.Host, c.Port)
	}
	if last := c.Fallbacks[len(c.Fallbacks)-1]; last.Host != "b" || last.Port != 2 {
		t.Errorf("the last host is b:2, got %s:%d", last.Host, last.Port)
	}
}

func TestURLsOfTheDocumentAreUnderstood(t *testing.T) {
	text, err := os.ReadFile("../../docs/databases.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	err = errors.Join(testcert.New(1).WriteTo(file("db-ca.pem"), file("db-ca.key")), testcert.New(2).WriteTo(file("node.pem"), file("node.key")))
	if err != nil {
		t.Fatal(err)
	}
	urls := regexp.MustCompile(`(?m)^journal: (\S+)$`).FindAllStringSubmatch(strings.ReplaceAll(string(text), "/etc/barrage", dir), -1)
	if len(urls) != 3 {
		t.Errorf("the document shows three URLs, got %d", len(urls))
	}
	for _, url := range urls {
		j, err := Open(context.Background(), url[1], slog.New(slog.DiscardHandler)) // connects to nobody
		if err != nil {
			t.Errorf("%s: %v", url[1], err)
			continue
		}
		if c := j.pool.Config().ConnConfig; c.User != "barrage" || c.TLSConfig == nil || c.TLSConfig.InsecureSkipVerify {
			t.Errorf("%s connects as barrage, and checks certificates", url[1])
		}
		j.Close()
	}
}
