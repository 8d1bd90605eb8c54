package postgres

import (
	"fmt"
	"regexp"
	"strings"

	"barrage/journal"

	"github.com/jackc/pgx/v5"
)

// badURL is the error of a URL that cannot be understood. It tells what is wrong and nothing of the URL: where it is wrong, what is the
// password in it is a guess.
func badURL(err error) error {
	text := err.Error() // cannot parse `URL`: what is wrong
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
	}
	text = quoted.ReplaceAllString(text, "")
	return fmt.Errorf("%w: %s; write postgres://user:password@host:port/database, and in user and password %% as %%25, @ as %%40, "+
		"/ as %%2F, : as %%3A and ? as %%3F", journal.ErrURL, text)
}

// quoted is all that an error quotes of a URL, as it stands there with quotes of its own, if it is longer than a bracket.
var quoted = regexp.MustCompile(`(?s):? ".{2,}"`)

// checkPath refuses what looks like a database and is the end of a password with a slash in it: it would be in the log.
func checkPath(url string) error {
	_, rest, _ := strings.Cut(url, "://")
	rest, _, _ = strings.Cut(rest, "?")
	if _, path, _ := strings.Cut(rest, "/"); strings.Contains(path, "@") {
		return fmt.Errorf("%w: there is an @ behind the hosts; in user and password write / as %%2F, and @, there and in the database's name, as %%40", journal.ErrURL)
	}
	return nil
}

// checkHosts refuses what looks like a host and is the end of a password: it would be looked up, and be in the log.
func checkHosts(c *pgx.ConnConfig) error {
	hosts := []string{c.Host}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	for _, h := range hosts {
		if strings.Contains(h, "@") {
			return fmt.Errorf("%w: there is an @ in the host; in user and password write @ as %%40", journal.ErrURL)
		}
	}
	return nil
}
