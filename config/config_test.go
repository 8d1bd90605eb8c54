package config

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "barrage.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults must be valid, but: %v", err)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	path := write(t, "listen: 127.0.0.1:1\nname: file\ndata: /file\nlimits:\n  message: 1KiB\n")
	environ := []string{"BARRAGE_NAME=env", "BARRAGE_DATA=/env", "BARRAGE_LIMITS_MESSAGE=2KiB", "BARRAGE_BROKER=", "HOME=/"}
	c, err := Load(path, environ, map[string]string{"data": "/flag"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Listen, want.Name, want.Data, want.Limits.Message = "127.0.0.1:1", "env", "/flag", 2048
	if !reflect.DeepEqual(c, want) {
		t.Errorf("a flag wins over the environment, which wins over the file:\n got %+v\nwant %+v", c, want)
	}
}

func TestFileNamedByEnvironment(t *testing.T) {
	path := write(t, "name: here\n")
	c, err := Load("", []string{"BARRAGE_CONFIG=" + path}, nil)
	if err != nil || c.Name != "here" {
		t.Errorf("BARRAGE_CONFIG names the file: got name %q, error %v", c.Name, err)
	}
}

func TestFileHoldsAllKinds(t *testing.T) {
	c, err := Load(write(t, `
# everything at once
open: yes
origins: [https://a.example, "https://b.example:8443"]
trusted_proxies: 10.0.0.0/8, 192.0.2.1
limits:
  message: 1MB
  ping: 1m30s
  connections: 12
history:
  age: 7d
log:
`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Open = true
	want.Origins = []string{"https://a.example", "https://b.example:8443"}
	want.TrustedProxies = []string{"10.0.0.0/8", "192.0.2.1"}
	want.Limits.Message, want.Limits.Ping, want.Limits.Connections = 1_000_000, 90*time.Second, 12
	want.History.Age = 7 * 24 * time.Hour
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestBadFiles(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"a misspelt key names the nearest", "\nlisen: x", `FILE:2: unknown setting "lisen"; did you mean listen?`},
		{"a misspelt key in a group", "limits:\n  mesage: 1", `FILE:2: unknown setting "limits.mesage"; did you mean limits.message?`},
		{"a key outside its group", "drain: 1s", `FILE:1: unknown setting "drain"; did you mean limits.drain?`},
		{"an unknown group", "limit:\n  message: 1", `FILE:1: unknown setting "limit"; did you mean`},
		{"a group with a value", "limits: 5", "FILE:1: limits is a group of settings; put them below it, indented"},
		{"a value with keys below", "listen:\n  a: b", "FILE:2: listen takes one value, written on the line itself"},
		{"a list for one value", "listen: [a, b]", "FILE:1: listen takes one value, not a list"},
		{"a list of lists", "origins: [[a]]", "FILE:1: origins: every item of the list must be one value"},
		{"a key twice", "name: a\nname: b", "FILE:2: name is set twice, first on line 1; remove one"},
		{"a key without a value", "name:", "FILE:1: name has no value; give one or remove the line"},
		{"a text instead of keys", "hello", `FILE:1: the file must hold lines of the form "name: value"`},
		{"two documents", "name: a\n---\nname: b", "FILE:3: the file holds a second document; keep one"},
		{"a tab", "limits:\n\tmessage: 1", "FILE:2: this is not YAML: found character that cannot start any token"},
		{"an alias", "name: &a x\ndata: *a", "FILE:2: data takes one value, written on the line itself"},
		{"a duration without unit", "limits:\n  ping: 25", `FILE:2: limits.ping: "25" is not a duration; give a number with a unit, such as 250ms`},
		{"a size that is none", "limits:\n  message: 64K", `FILE:2: limits.message: "64K" is not a size; give a whole number of bytes`},
		{"a count that is none", "limits:\n  connections: many", `FILE:2: limits.connections: "many" is not a whole number`},
		{"a count too large", "history:\n  count: 99999999999999999999", `"99999999999999999999" is too large a number`},
		{"an unknown key of a namespace", "namespaces:\n  live: {clas: live}", `FILE:2: namespaces.live: unknown key "clas"; did you mean class?`},
		{"an unknown class", "namespaces:\n  live:\n    class: liv", `FILE:3: namespaces.live: "liv" is not a class; did you mean live? There are durable and live`},
		{"a namespace twice", "namespaces:\n  a: {}\n  a: {}", "FILE:3: namespaces.a is set twice, first on line 2; remove one"},
		{"a key of a namespace twice", "namespaces:\n  a:\n    merge: 1s\n    merge: 2s", "FILE:4: namespaces.a.merge is set twice, first on line 3; remove one"},
		{"a namespace with a value", "namespaces:\n  live: 50ms", "FILE:2: namespaces.live is a group of settings; put its keys (class, merge, subscribe, …) below it, indented"},
		{"a merge without unit", "namespaces: {big: {merge: 5}}", `FILE:1: namespaces.big: "5" is not a duration`},
		{"a list of namespaces", "namespaces: [live]", "FILE:1: namespaces takes one value, not a list"},
		{"a switch that is none", "open: perhaps", `FILE:1: open: "perhaps" is neither true nor false`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := write(t, tc.text)
			_, err := Load(path, nil, nil)
			want := strings.ReplaceAll(tc.want, "FILE", path)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got error %v\nwant %s", err, want)
			}
		})
	}
}

func TestAllProblemsAreReported(t *testing.T) {
	path := write(t, "lisen: x\nopen: perhaps\n")
	_, err := Load(path, []string{"BARRAGE_LIMITS_PONG=5", "BARRAGE_NAM=x", "BARRAGE_TEST_DB=x", "BARRAGE_TOKEN=x"}, map[string]string{"limits.ping": "x"})
	problems, ok := errors.AsType[Problems](err)
	if !ok || len(problems) != 5 {
		t.Fatalf("every problem is reported once: got %d: %v", len(problems), err)
	}
	for i, want := range []string{
		"lisen", "open", "BARRAGE_LIMITS_PONG: ", "unknown environment variable BARRAGE_NAM; did you mean BARRAGE_NAME?",
		"--limits-ping: ",
	} {
		if !strings.Contains(problems[i], want) {
			t.Errorf("problem %d is %q, want it to hold %q", i, problems[i], want)
		}
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "does not exist; create it or leave out --config") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(t.TempDir(), nil, nil); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a folder is no settings file: got %v", err)
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(c *Config)
		want string // empty: valid
	}{
		{"every address needs open", func(c *Config) { c.Listen = "0.0.0.0:8000" }, "listen: 0.0.0.0:8000 can be reached from the network, where anyone may then read and publish without a key; listen on 127.0.0.1:8000, set up authentication (auth.secret), or set open: true (--open) if that is wanted"},
		{"a body that is too large", func(c *Config) { c.API.Body = MaxBody + 1 }, "is out of bounds; give 1B to 64MiB"},
		{"an address of the API that is none", func(c *Config) { c.API.Listen = "9000" }, `api.listen: "9000" is not an address; give host:port, such as 127.0.0.1:9000`},
		{"an address of the API", func(c *Config) { c.API.Listen = ":9000" }, ""},
		{"no host is every address", func(c *Config) { c.Listen = ":8000" }, "listen: :8000 can be reached from the network"},
		{"IPv6 every address", func(c *Config) { c.Listen = "[::]:8000" }, "can be reached from the network"},
		{"a name may point anywhere", func(c *Config) { c.Listen = "example.com:8000" }, "can be reached from the network"},
		{"open allows it", func(c *Config) { c.Listen, c.Open = ":8000", true }, ""},
		{"localhost", func(c *Config) { c.Listen = "localhost:0" }, ""},
		{"all of 127/8", func(c *Config) { c.Listen = "127.9.9.9:1" }, ""},
		{"IPv6 loopback", func(c *Config) { c.Listen = "[::1]:8000" }, ""},
		{"IPv4 loopback as IPv6", func(c *Config) { c.Listen = "[::ffff:127.0.0.1]:8000" }, ""},
		{"no port", func(c *Config) { c.Listen = "127.0.0.1" }, `listen: "127.0.0.1" is not an address; give host:port`},
		{"port too large", func(c *Config) { c.Listen = "127.0.0.1:65536" }, `listen: "65536" is not a port`},
		{"named port", func(c *Config) { c.Listen = "127.0.0.1:http" }, `listen: "http" is not a port`},
		{"bad host", func(c *Config) { c.Listen = "http//x:80" }, `is not a host`},
		{"bad name", func(c *Config) { c.Name = "a b" }, `name: "a b" cannot be used`},
		{"no data folder", func(c *Config) { c.Data = "" }, "data: it is empty"},
		{"unknown journal", func(c *Config) { c.Journal = "mysql://u:secret@h/d" }, `journal: "mysql://u:****@h/d" is not a journal; give memory:`},
		{"path as journal", func(c *Config) { c.Journal = "/var/x.db" }, `is not a journal`},
		{"memory with more", func(c *Config) { c.Journal = "memory:x" }, "write just memory:"},
		{"sqlite without a file", func(c *Config) { c.Journal = "sqlite:" }, "sqlite: needs a file"},
		{"postgres", func(c *Config) { c.Journal = "postgres://u:p@h:5432/d" }, ""},
		{"postgres without anything", func(c *Config) { c.Journal = "postgres://" }, "is not a complete URL"},
		{"postgres with a bad password", func(c *Config) { c.Journal = "postgres://u:100%x@h/d" }, `journal: "postgres://u:****@h/d" is not a URL`},
		{"unknown broker", func(c *Config) { c.Broker = "kafka://h" }, `broker: "kafka://h" is not a broker; give local:`},
		{"empty broker", func(c *Config) { c.Broker = "" }, `broker: "" is not a broker`},
		{"network broker, sqlite", func(c *Config) { c.Broker = "redis://h:6379" }, "broker: redis:// connects several nodes, and the journal sqlite: belongs to one; the journal must be shared: give --journal postgres://…"},
		{"network broker, memory", func(c *Config) { c.Broker, c.Journal = "redis-cluster://h:1,h:2", "memory:" }, "the journal must be shared"},
		{"network broker, postgres", func(c *Config) { c.Broker, c.Journal = "redis-sentinel://h:1,h:2/m", "postgres://h/d" }, ""},
		{"message 0", func(c *Config) { c.Limits.Message = 0 }, "limits.message: 0B is out of bounds; give 1B to 16MiB"},
		{"message too large", func(c *Config) { c.Limits.Message = MaxMessage + 1 }, "limits.message: 16777217B is out of bounds"},
		{"largest message", func(c *Config) { c.Limits.Message = MaxMessage }, ""},
		{"compress all", func(c *Config) { c.Compression, c.CompressionThreshold = true, 0 }, ""},
		{"compress from a negative size", func(c *Config) { c.CompressionThreshold = -1 }, "compression_threshold: -1B is out of bounds; give 0B to 16MiB"},
		{"compress only beyond the largest message", func(c *Config) { c.CompressionThreshold = MaxMessage + 1 }, "compression_threshold: 16777217B is out of bounds"},
		{"negative connections", func(c *Config) { c.Limits.Connections = -1 }, "limits.connections: -1 is negative; give 0 for no limit, or more"},
		{"negative per address", func(c *Config) { c.Limits.ConnectionsPerAddress = -1 }, "limits.connections_per_address: -1 is negative"},
		{"no pings", func(c *Config) { c.Limits.Ping = 0 }, "limits.ping: 0s is too short; give at least 1s"},
		{"negative drain", func(c *Config) { c.Limits.Drain = -time.Second }, "limits.drain: -1s is too short; give at least 0s"},
		{"negative commands", func(c *Config) { c.Limits.Commands = -1 }, "limits.commands: -1 is negative; give 0 for no limit, or more"},
		{"negative publishes", func(c *Config) { c.Limits.Publishes = -1 }, "limits.publishes: -1 is negative"},
		{"negative user connections", func(c *Config) { c.Limits.UserConnections = -1 }, "limits.user_connections: -1 is negative"},
		{"negative user publishes", func(c *Config) { c.Limits.UserPublishes = -1 }, "limits.user_publishes: -1 is negative"},
		{"negative connects", func(c *Config) { c.Limits.AddressConnects = -1 }, "limits.address_connects: -1 is negative"},
		{"negative channel publishes", func(c *Config) { c.Limits.ChannelPublishes = -1 }, "limits.channel_publishes: -1 is negative"},
		{"a small queue", func(c *Config) { c.Limits.Queue = 1 << 10 }, "limits.queue: 1KiB is out of bounds; give 64KiB to 1GiB"},
		{"negative history", func(c *Config) { c.History.Count, c.History.Age = -1, -1 }, "history.count: -1 is negative"},
		{"no trimming interval", func(c *Config) { c.History.Trim = 0 }, "history.trim: 0s is too short"},
		{"any origin", func(c *Config) { c.Origins = []string{"*", "https://a.example", "app://x:1"} }, ""},
		{"origin with a path", func(c *Config) { c.Origins = []string{"https://a.example/"} }, `origins: "https://a.example/" is not an origin`},
		{"origin without a scheme", func(c *Config) { c.Origins = []string{"a.example"} }, `origins: "a.example" is not an origin`},
		{"origin with a star inside", func(c *Config) { c.Origins = []string{"https://*.example"} }, "is not an origin"},
		{"proxies", func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8", "::1"} }, ""},
		{"bad proxy", func(c *Config) { c.TrustedProxies = []string{"proxy"} }, `trusted_proxies: "proxy" is neither an address nor a prefix`},
		{"log level", func(c *Config) { c.Log.Level = "trace" }, `log.level: "trace" is not a level`},
		{"authentication allows the network", func(c *Config) { c.Listen, c.Auth.Secrets = ":8000", []string{"0123456789abcdef"} }, ""},
		{"keys in files are authentication", func(c *Config) { c.Listen, c.Auth.Keys = ":8000", []string{"public.pem"} }, ""},
		{"fetched keys are authentication", func(c *Config) {
			c.Listen, c.Auth.JWKS = ":8000", []string{"https://a=https://a/keys?x=1", "me=http://b:80/", "https://c/keys"}
		}, ""},
		{"a header is authentication", func(c *Config) {
			c.Listen, c.Auth.UserHeader, c.TrustedProxies = ":8000", "X-User-Id", []string{"10.0.0.1"}
		}, ""},
		{"an audience alone is none", func(c *Config) { c.Auth.Audience = "a" }, "auth.audience: it has no meaning without authentication; set auth.secret"},
		{"a short secret", func(c *Config) { c.Auth.Secrets = []string{"0123456789abcde"} }, "auth.secret: a secret of 15 bytes can be guessed; give at least 16"},
		{"a secret of config print", func(c *Config) { c.Auth.Secrets = []string{"****"} }, "auth.secret: **** stands where a secret was, as config print writes it; give the secret itself"},
		{"a key of config print", func(c *Config) { c.API.Keys = []string{"shop:publish:****"} }, "api.keys: **** stands where a secret was"},
		{"a password of config print", func(c *Config) { c.Journal = "postgres://u:****@h/d" }, "journal: **** stands where a secret was"},
		{"an empty secret", func(c *Config) { c.Auth.Secrets = []string{""} }, "auth.secret: a secret of 0 bytes"},
		{"keys at no URL", func(c *Config) { c.Auth.JWKS = []string{"a=b"} }, `auth.jwks: "a=b" is neither a URL nor ISSUER=URL`},
		{"keys in a file", func(c *Config) { c.Auth.JWKS = []string{"file:///etc/keys"} }, "auth.jwks: "},
		{"two sets for everybody", func(c *Config) { c.Auth.JWKS = []string{"https://a/", "https://b/"} }, "auth.jwks: only one URL can be without an issuer"},
		{"an issuer twice", func(c *Config) { c.Auth.JWKS = []string{"i=https://a/", "i=https://b/"} }, `auth.jwks: the issuer "i" is given twice`},
		{"a header that nobody is believed", func(c *Config) { c.Auth.UserHeader = "X-User-Id" }, "auth.user_header: nobody is believed; say in trusted_proxies"},
		{"a header that everybody is believed", func(c *Config) { c.Auth.UserHeader, c.TrustedProxies = "X-User-Id", []string{"::/0"} }, "auth.user_header: ::/0 in trusted_proxies is everybody"},
		{"a header that means something else", func(c *Config) { c.Auth.UserHeader = "Cookie" }, `auth.user_header: "Cookie" cannot be it`},
		{"a header with a colon", func(c *Config) { c.Auth.UserHeader = "X:" }, `auth.user_header: "X:" cannot be it`},
		{"log format", func(c *Config) { c.Log.Format = "xml" }, `log.format: "xml" is not a format`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Default()
			tc.edit(&c)
			err := c.Validate()
			if tc.want == "" && err != nil {
				t.Errorf("must be accepted, got: %v", err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got error %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestPrintedSettingsLoadAsTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "barrage.yaml")
	rapid.Check(t, func(t *rapid.T) {
		c := Default()
		c.Listen, c.Name = rapid.String().Draw(t, "listen"), rapid.String().Draw(t, "name")
		c.Journal, c.Open = rapid.String().Draw(t, "journal"), rapid.Bool().Draw(t, "open")
		if list := rapid.SliceOf(rapid.String()).Draw(t, "origins"); len(list) > 0 {
			c.Origins = list
		}
		if list := rapid.SliceOf(rapid.String()).Draw(t, "secrets"); len(list) > 0 {
			c.Auth.Secrets = list
		}
		c.Auth.Issuer, c.Auth.Personal = rapid.String().Draw(t, "issuer"), rapid.Bool().Draw(t, "personal")
		for name, ns := range rapid.MapOf(rapid.String(), rapid.Custom(drawNamespace)).Draw(t, "namespaces") {
			if c.Namespaces == nil {
				c.Namespaces = Namespaces{}
			}
			c.Namespaces[name] = ns
		}
		c.Limits.Message = rapid.Int().Draw(t, "message")
		c.History.Count = rapid.Int64().Draw(t, "count")
		c.History.Age = time.Duration(rapid.Int64Min(1-1<<62).Draw(t, "age"))
		var b bytes.Buffer
		if err := c.Print(&b, true); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path, nil, nil)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("what is printed must load as the same:\n%s\n got %+v\nwant %+v\nerror %v", b.String(), got, c, err)
		}
	})
}

func drawNamespace(t *rapid.T) Namespace {
	return Namespace{
		Class: rapid.SampledFrom([]string{ClassDurable, ClassLive}).Draw(t, "class"),
		Merge: time.Duration(rapid.Int64Min(0).Draw(t, "merge")),

		Subscribe: rapid.SampledFrom(append([]string{""}, Rules...)).Draw(t, "subscribe"),
		Publish:   rapid.SampledFrom(append([]string{""}, Rules...)).Draw(t, "publish"),
		History:   rapid.SampledFrom(append([]string{""}, Rules...)).Draw(t, "history"),
		Presence:  rapid.SampledFrom(append([]string{""}, Rules...)).Draw(t, "presence"),
		JoinLeave: rapid.Bool().Draw(t, "join_leave"),
		Pattern:   rapid.SampledFrom([]string{"", "[a-z]{1,3}", `a";'\,`, " x ", "日本", "yes", "#"}).Draw(t, "pattern"),
		Count:     rapid.Int64Min(0).Draw(t, "count"),
		Age:       time.Duration(rapid.Int64Min(0).Draw(t, "age")),
	}
}

func TestPrintMasksPasswords(t *testing.T) {
	c := Default()
	c.Journal, c.Broker = "postgres://ann:s3cret@h/d?sslpassword=s3cret", "redis://:s3cret@h:6379"
	c.API.Keys = []string{"shop:publish:s3cret", "s3cret"}
	c.Auth.Secrets, c.Auth.JWKS = []string{"a s3cret", "another s3cret"}, []string{"https://a=https://ann:s3cret@h/keys?token=s3cret"}
	var masked, shown bytes.Buffer
	if err := c.Print(&masked, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(masked.String(), "s3cret") || !strings.Contains(masked.String(), "postgres://ann:****@h/d?sslpassword=****") ||
		!strings.Contains(masked.String(), `["shop:publish:****", "****"]`) {
		t.Errorf("passwords and keys must be masked:\n%s", masked.String())
	}
	if err := c.Print(&shown, true); err != nil {
		t.Fatal(err)
	}
	if strings.Count(shown.String(), "s3cret") != 9 {
		t.Errorf("with showSecrets passwords are shown:\n%s", shown.String())
	}
}

func TestValues(t *testing.T) {
	durations := map[string]time.Duration{
		"0": 0, "25s": 25 * time.Second, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour,
		" 250ms ": 250 * time.Millisecond, "-1d": -24 * time.Hour, "1h30m": 90 * time.Minute,
	}
	for text, want := range durations {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("duration %q is %v, got %v, %v", text, want, got, err)
		}
	}
	for _, text := range []string{"", "d", "5", "1.5d", "999999999d", "1dd", "1d-1h", "106751d24h", "x"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is no duration, got %v", text, got)
		}
	}
	sizes := map[string]int{"0": 0, "65536": 65536, "64KiB": 65536, "64 kib": 65536, "1MB": 1e6, "2GiB": 2 << 30, "7B": 7, "-1KB": -1000}
	for text, want := range sizes {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("size %q is %v, got %v, %v", text, want, got, err)
		}
	}
	for _, text := range []string{"", "KiB", "1.5MB", "64K", "9999999999GiB", "x"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is no size, got %v", text, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", time.Minute: "1m", time.Hour: "1h", 90 * time.Minute: "1h30m",
		48 * time.Hour: "2d", 10 * time.Second: "10s", time.Minute + 10*time.Second: "1m10s", time.Hour + time.Second: "1h0m1s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v is written %q, got %q", int64(d), want, got)
		}
	}
}

// Every field of Config has a line in the table, so that none can be forgotten on the reference page or as a flag.
func TestEveryFieldHasASetting(t *testing.T) {
	for i := range settings {
		s := &settings[i]
		if s.Doc == "" || s.Summary == "" || !strings.HasSuffix(s.Doc, ".") || (s.Hint == "") != s.Switch() {
			t.Errorf("%s needs a summary, a doc that ends with a full stop, and a hint unless it is a switch", s.Name)
		}
	}
	fields := countFields(reflect.TypeFor[Config]())
	if fields != len(settings) {
		t.Errorf("Config has %d fields and the table %d settings; add the missing ones", fields, len(settings))
	}
	seen := map[uintptr]string{}
	var c Config
	for i := range settings {
		p := settings[i].field(&c)
		if s, ok := p.(size); ok {
			p = s.bytes
		}
		at := reflect.ValueOf(p).Pointer()
		if other, twice := seen[at]; twice {
			t.Errorf("%s and %s are the same field", other, settings[i].Name)
		}
		seen[at] = settings[i].Name
	}
}

func countFields(t reflect.Type) int {
	n := 0
	for field := range t.Fields() {
		if f := field.Type; f.Kind() == reflect.Struct {
			n += countFields(f)
		} else {
			n++
		}
	}
	return n
}

func TestReferencePageIsFresh(t *testing.T) {
	want, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := Reference(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("docs/settings.md is not what the settings say; run: go generate ./config")
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("listen: 127.0.0.1:1\nlimits:\n  message: 64KiB\norigins: [a, b]\n"))
	f.Add([]byte("&a [*a]"))
	f.Add([]byte("? {a: b}\n: c\n"))
	f.Add([]byte("<<: {listen: x}\n"))
	f.Add([]byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := Default()
		var problems Problems
		parseFile(&c, "f", text, &problems)
		_ = c.Validate()
		for _, p := range problems {
			if !strings.HasPrefix(p, "f:") {
				t.Errorf("a problem in a file begins with its name: %q", p)
			}
		}
		var b bytes.Buffer
		if err := c.Print(&b, false); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzValues(f *testing.F) {
	f.Add("1d12h")
	f.Add("64KiB")
	f.Add("live:class=live,merge=50ms;big:merge=200ms")
	f.Add(`a:pattern="x{1,3};",subscribe=user,age=1d;b:join_leave=true,count=5`)
	f.Add("postgres://u:p@h/d")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil {
			if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
				t.Errorf("duration %q is %d, which is written %q and read as %d, %v", text, d, FormatDuration(d), again, err)
			}
		}
		if n, err := ParseSize(text); err == nil {
			if again, err := ParseSize(FormatSize(n)); err != nil || again != n {
				t.Errorf("size %q is %d, which is written %q and read as %d, %v", text, n, FormatSize(n), again, err)
			}
		}
		if n, err := parseNamespaces(text); err == nil {
			if again, err := parseNamespaces(n.format()); err != nil || !maps.Equal(n, again) {
				t.Errorf("namespaces %q are %v, which is written %q and read as %v, %v", text, n, n.format(), again, err)
			}
		}
		_ = Mask(text)
		_ = nearest(text)
		for _, key := range []string{"listen", "journal", "broker", "origins", "trusted_proxies", "name"} {
			c, err := Load("", []string{"BARRAGE_" + strings.ToUpper(key) + "=" + text}, nil)
			if err != nil {
				t.Fatalf("text settings take any text: %v", err)
			}
			_ = c.Validate()
		}
	})
}
