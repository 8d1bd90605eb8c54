package redis

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"barrage/broker"
)

// Limits of what a URL may ask for.
const (
	maxPartitions  = 1024
	maxPrefixBytes = 64
	maxDatabase    = 1 << 16
)

// Kinds of servers, by the scheme of the URL.
type kind int

const (
	single   kind = iota // redis:// and rediss://
	sentinel             // redis-sentinel://
	cluster              // redis-cluster://
)

// target is what a broker URL means. It holds passwords: never print it, use String.
type target struct {
	kind           kind
	addrs          []string // host:port
	user, password string
	master         string // name of the master that sentinels watch
	watchUser      string // credentials for the sentinels themselves
	watchPassword  string
	db             int
	tls            *tls.Config // nil for plain TCP
	certFile       string      // of the certificate to show, and of its key; empty for none
	keyFile        string
	prefix         string // empty when the URL does not set it
	partitions     int    // 0 when the URL does not set it
}

// String names the servers without any credentials.
func (t *target) String() string {
	list := strings.Join(t.addrs, ", ")
	switch t.kind {
	case sentinel:
		return fmt.Sprintf("Redis master %q by Sentinel at %s", t.master, list)
	case cluster:
		return "Redis Cluster at " + list
	default:
		return "Redis at " + list
	}
}

// bad makes an ErrURL. Arguments must not come from the credentials.
func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{broker.ErrURL}, args...)...)
}

// schemes lists what parseURL accepts, with the default port.
var schemes = map[string]struct {
	kind kind
	port string
	tls  bool
}{
	"redis":          {kind: single, port: "6379"},
	"rediss":         {kind: single, port: "6379", tls: true},
	"redis-sentinel": {kind: sentinel, port: "26379"},
	"redis-cluster":  {kind: cluster, port: "6379"},
}

// parseURL understands a broker URL. It does not use url.Parse, which refuses lists of hosts and quotes the whole URL,
// password included, in its errors.
func parseURL(text string) (*target, error) {
	name, rest, found := strings.Cut(text, "://")
	scheme, known := schemes[name]
	if !found || !known {
		return nil, bad("it must begin with redis://, rediss://, redis-sentinel:// or redis-cluster://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if strings.Contains(path, "@") || strings.Contains(query, "@") {
		return nil, bad("there is an @ behind the hosts; in user names and passwords write / as %%2F, ? as %%3F and @ as %%40")
	}
	t := &target{kind: scheme.kind}
	if scheme.tls {
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	hosts := authority
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		hosts = authority[at+1:]
		if err := t.setUser(authority[:at]); err != nil {
			return nil, err
		}
	}
	if err := t.setHosts(hosts, scheme.port); err != nil {
		return nil, err
	}
	if err := t.setPath(path); err != nil {
		return nil, err
	}
	if err := t.setQuery(query); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *target) setUser(info string) error {
	user, password, _ := strings.Cut(info, ":")
	var errs [2]error
	t.user, errs[0] = url.PathUnescape(user)
	t.password, errs[1] = url.PathUnescape(password)
	if errs[0] != nil || errs[1] != nil {
		return bad("the user name or password has a %% that is not followed by two hexadecimal digits; write %% itself as %%25")
	}
	if t.user != "" && t.password == "" {
		return bad("there is a user name without a password; write user:password@ or, with a password alone, :password@")
	}
	return nil
}

func (t *target) setHosts(list, port string) error {
	for part := range strings.SplitSeq(list, ",") {
		addr, err := hostPort(part, port)
		if err != nil {
			return err
		}
		t.addrs = append(t.addrs, addr)
	}
	if t.kind == single && len(t.addrs) > 1 {
		return bad("it names %d hosts, but this scheme takes one; use redis-cluster:// or redis-sentinel://", len(t.addrs))
	}
	return nil
}

// hostPort completes one address: host, host:port, [IPv6] or [IPv6]:port. Its errors do not repeat what cannot be read: where the @ behind a
// password was forgotten, that is the password.
func hostPort(s, defaultPort string) (string, error) {
	if s == "" {
		return "", bad("a host is missing; write host:port, several separated by commas")
	}
	if !strings.Contains(s, ":") || strings.HasSuffix(s, "]") {
		s += ":" + defaultPort
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", bad("an address is not host:port (an IPv6 address needs brackets, and an @ stands behind user and password)")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", bad("the port of %q is not a number from 1 to 65535 (an @ stands behind user and password)", host)
	}
	if host == "" {
		host = "localhost"
	}
	if strings.ContainsAny(host, " \t\r\n%#[]") {
		return "", bad("a host has characters that no host name has")
	}
	return net.JoinHostPort(host, port), nil
}

func (t *target) setPath(path string) error {
	path = strings.TrimSuffix(path, "/")
	switch t.kind {
	case cluster:
		if path != "" {
			return bad("a Redis Cluster has no databases; remove /%s", path)
		}
		return nil
	case sentinel:
		master, db, _ := strings.Cut(path, "/")
		name, err := url.PathUnescape(master)
		if err != nil || name == "" {
			return bad("the master's name is missing; write redis-sentinel://host:port,host:port/MASTER")
		}
		t.master, path = name, db
	}
	if path == "" {
		return nil
	}
	db, err := strconv.Atoi(path)
	if err != nil || db < 0 || db > maxDatabase {
		return bad("the database %q is not a number from 0 to %d", path, maxDatabase)
	}
	t.db = db
	return nil
}

// parameters are the known query parameters; each sets what its value says.
var parameters = map[string]func(t *target, value string) error{
	"prefix": func(t *target, v string) error { t.prefix = v; return checkPrefix(v) },
	"partitions": func(t *target, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxPartitions {
			return bad("partitions=%s is not a number from 1 to %d", v, maxPartitions)
		}
		t.partitions = n
		return nil
	},
	"tls": func(t *target, v string) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return bad("tls=%s is neither true nor false", v)
		}
		if !on && t.tls != nil {
			return bad("rediss:// means TLS, but tls=%s says no; use redis://", v)
		}
		if on && t.tls == nil {
			t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		return nil
	},
	"tls_server_name": func(t *target, v string) error {
		if err := onlyTLS(t, "tls_server_name"); err != nil {
			return err
		}
		t.tls.ServerName = v
		return nil
	},
	"tls_ca": func(t *target, v string) error {
		if err := onlyTLS(t, "tls_ca"); err != nil {
			return err
		}
		pem, err := os.ReadFile(v)
		if err != nil {
			return bad("the file of tls_ca cannot be read: %v", err)
		}
		t.tls.RootCAs = x509.NewCertPool()
		if !t.tls.RootCAs.AppendCertsFromPEM(pem) {
			return bad("the file of tls_ca, %s, holds no certificate in PEM form", v)
		}
		return nil
	},
	"tls_cert": func(t *target, v string) error { t.certFile = v; return onlyTLS(t, "tls_cert") },
	"tls_key":  func(t *target, v string) error { t.keyFile = v; return onlyTLS(t, "tls_key") },

	"sentinel_user":     func(t *target, v string) error { t.watchUser = v; return onlySentinel(t, "sentinel_user") },
	"sentinel_password": func(t *target, v string) error { t.watchPassword = v; return onlySentinel(t, "sentinel_password") },
}

func onlyTLS(t *target, name string) error {
	if t.tls == nil {
		return bad("%s is given without TLS; write rediss:// or add tls=true", name)
	}
	return nil
}

// setCertificate makes the files of tls_cert and tls_key what the server is shown, when it asks. They are read again for each
// connection, so that a renewed certificate needs no restart.
func (t *target) setCertificate() error {
	if t.certFile == "" && t.keyFile == "" {
		return nil
	}
	if t.certFile == "" || t.keyFile == "" {
		return bad("tls_cert and tls_key belong together; give both files")
	}
	if _, err := tls.LoadX509KeyPair(t.certFile, t.keyFile); err != nil {
		return bad("tls_cert and tls_key cannot be used: %v", err)
	}
	certFile, keyFile := t.certFile, t.keyFile
	t.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		return &pair, err
	}
	return nil
}

func onlySentinel(t *target, name string) error {
	if t.kind != sentinel {
		return bad("%s belongs to redis-sentinel:// alone", name)
	}
	return nil
}

// checkPrefix accepts what may stand before all channel names.
func checkPrefix(v string) error {
	if v == "" || len(v) > maxPrefixBytes {
		return bad("the prefix has %d bytes; 1 to %d are allowed", len(v), maxPrefixBytes)
	}
	if strings.ContainsAny(v, "{}") || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return bad("the prefix %q has a space, a control character or a brace", v)
	}
	return nil
}

func (t *target) setQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return bad("the part after ? is not name=value&name=value")
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names) // tls comes before what needs it
	for _, name := range names {
		set, known := parameters[name]
		if !known {
			return bad("the parameter %q is unknown; known are %s", name, strings.Join(parameterNames(), ", "))
		}
		if len(values[name]) > 1 {
			return bad("the parameter %q is given %d times", name, len(values[name]))
		}
		if err := set(t, values[name][0]); err != nil {
			return err
		}
	}
	return t.setCertificate()
}
