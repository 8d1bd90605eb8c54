package redis

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"barrage/broker"
	"barrage/internal/testcert"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]struct {
		shown, user, password, master string
		db, partitions                int
		prefix                        string
		tls                           bool
	}{
		"redis://":                        {shown: ""},
		"redis://h":                       {shown: "Redis at h:6379"},
		"redis://h:7/":                    {shown: "Redis at h:7"},
		"redis://:7":                      {shown: "Redis at localhost:7"},
		"redis://[::1]":                   {shown: "Redis at [::1]:6379"},
		"redis://[::1]:7/15":              {shown: "Redis at [::1]:7", db: 15},
		"redis://:p%40s%2Fs@h":            {shown: "Redis at h:6379", password: "p@s/s"},
		"redis://u:p@ss@h":                {shown: "Redis at h:6379", user: "u", password: "p@ss"},
		"rediss://h?partitions=4":         {shown: "Redis at h:6379", tls: true, partitions: 4},
		"redis://h?tls=true&prefix=live":  {shown: "Redis at h:6379", tls: true, prefix: "live"},
		"redis-sentinel://a,b:7/main":     {shown: `Redis master "main" by Sentinel at a:26379, b:7`, master: "main"},
		"redis-sentinel://u:p@a/main/3":   {shown: `Redis master "main" by Sentinel at a:26379`, master: "main", db: 3, user: "u", password: "p"},
		"redis-cluster://a:1,b:2?tls=1":   {shown: "Redis Cluster at a:1, b:2", tls: true},
		"redis-cluster://:p@a:1,[::1]:2/": {shown: "Redis Cluster at a:1, [::1]:2", password: "p"},
	} {
		got, err := parseURL(text)
		if want.shown == "" {
			if err == nil {
				t.Errorf("%s has no host but is accepted", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s is refused: %v", text, err)
			continue
		}
		if got.String() != want.shown || got.user != want.user || got.password != want.password || got.master != want.master ||
			got.db != want.db || got.partitions != want.partitions || got.prefix != want.prefix || got.tls != nil != want.tls {
			t.Errorf("%s is understood as %s, %+v", text, got, *got)
		}
	}
}

func TestBadURLsAreExplained(t *testing.T) {
	for text, want := range map[string]string{
		"http://h":                             "must begin with",
		"redis:h":                              "must begin with",
		"redis://a,b":                          "takes one",
		"redis://h:x":                          "port",
		"redis://h:70000":                      "port",
		"redis://::1":                          "brackets",
		"redis://u:s3cret":                     "@ stands behind",
		"redis://u:s3cret:6379":                "@ stands behind",
		"redis://u:s3cret:6379/0":              "@ stands behind",
		"redis://s3cr%et:6379":                 "characters",
		"redis://h/x":                          "database",
		"redis://h/-1":                         "database",
		"redis://user@h":                       "without a password",
		"redis://:%zz@h":                       "hexadecimal",
		"redis://:pa/ss@h":                     "%2F",
		"redis://:pa?ss@h":                     "%3F",
		"redis://h?colour=red":                 `"colour" is unknown; known are partitions, prefix`,
		"redis://h?prefix=a&prefix=b":          "2 times",
		"redis://h?prefix=":                    "prefix",
		"redis://h?prefix={x}":                 "brace",
		"redis://h?partitions=0":               "partitions",
		"redis://h?partitions=9999":            "partitions",
		"redis://h?tls=maybe":                  "neither true nor false",
		"rediss://h?tls=false":                 "rediss://",
		"redis://h?tls_server_name=x":          "tls=true",
		"rediss://h?tls_ca=/does/not/exist":    "tls_ca",
		"redis://h?tls_cert=x&tls_key=x":       "tls=true",
		"rediss://h?tls_cert=x":                "belong together",
		"rediss://h?tls_key=x":                 "belong together",
		"rediss://h?tls_cert=x&tls_key=y":      "cannot be used",
		"redis://h?sentinel_user=x":            "redis-sentinel:// alone",
		"redis-sentinel://h":                   "master's name",
		"redis-sentinel://h/":                  "master's name",
		"redis-sentinel:///main":               "host is missing",
		"redis-cluster://h/1":                  "no databases",
		"redis-cluster://a,,b":                 "host is missing",
		"redis-cluster://a?partitions=sixteen": "partitions",
	} {
		b, err := Open(text, Options{})
		if b != nil || !errors.Is(err, broker.ErrURL) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v; want ErrURL saying %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cr") {
			t.Errorf("%s: what may be a password is told: %v", text, err)
		}
	}
}

func TestOptionsPrefixIsChecked(t *testing.T) {
	if _, err := Open("redis://h", Options{Prefix: "a b"}); !errors.Is(err, broker.ErrURL) {
		t.Errorf("a prefix with a space gives %v, want ErrURL", err)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"redis://u:@h:1/2?tls=1", "redis-sentinel://:@a,b/m/1?prefix=x", "redis-cluster://:@[::1]:1", "redis://:/@?@#",
	} {
		f.Add(s)
	}
	const secret = "s3cr3t-w0rd"
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.Replace(s, "@", secret+"@", 1)
		got, err := parseURL(s)
		if err != nil {
			if !errors.Is(err, broker.ErrURL) {
				t.Errorf("%q gives %v, want an ErrURL", s, err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q: the password is in the error %v", s, err)
			}
			return
		}
		if len(got.addrs) == 0 || slices.Contains(got.addrs, "") {
			t.Errorf("%q is accepted without an address", s)
		}
	})
}

// least is what docs/databases.md gives the user of the nodes.
var least = strings.Fields("resetchannels &barrage:* -@all +@connection +@pubsub")

func TestURLsOfTheDocumentAreUnderstood(t *testing.T) {
	text, err := os.ReadFile("../../docs/databases.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	err = errors.Join(testcert.New(1).WriteTo(file("redis-ca.pem"), file("redis-ca.key")), testcert.New(2).WriteTo(file("node.pem"), file("node.key")))
	if err != nil {
		t.Fatal(err)
	}
	urls := regexp.MustCompile(`(?m)^broker: (\S+)$`).FindAllStringSubmatch(strings.ReplaceAll(string(text), "/etc/barrage", dir), -1)
	if len(urls) != 3 {
		t.Errorf("the document shows three URLs, got %d", len(urls))
	}
	for _, url := range urls {
		if got, err := parseURL(url[1]); err != nil || got.user != "barrage" || got.tls == nil || got.tls.RootCAs == nil {
			t.Errorf("%s connects as barrage, and checks certificates: %+v, %v", url[1], got, err)
		}
	}
	if rules := "on >change-me " + strings.Join(least, " "); !strings.Contains(string(text), rules) {
		t.Errorf("the document shows the rules that are tested with a server: %s", rules)
	}
}
