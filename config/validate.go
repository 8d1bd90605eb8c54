package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate says whether the settings make sense. The error, when there is one, is of type Problems: one sentence for
// each thing that is wrong, with what to do.
func (c *Config) Validate() error {
	var p Problems
	if c.checkMasked(&p); len(p) > 0 {
		return p.err() // what else is wrong with stars would only mislead
	}
	c.checkListen(&p)
	c.checkName(&p)
	c.checkStorage(&p)
	c.checkOrigins(&p)
	c.checkProxies(&p)
	c.checkCompression(&p)
	c.Namespaces.check(&p)
	c.checkAuth(&p)
	c.checkAPI(&p)
	c.checkRPC(&p)
	c.checkTLS(&p)
	c.checkLimits(&p)
	c.checkHistory(&p)
	c.checkLog(&p)
	return p.err()
}

// checkMasked finds what Print has written in the place of secrets.
func (c *Config) checkMasked(p *Problems) {
	for i := range settings {
		s := &settings[i]
		var values []string
		switch v := s.field(c).(type) {
		case *string:
			values = []string{*v}
		case *[]string:
			values = *v
		}
		for _, v := range values {
			if s.secret != public && strings.Contains(v, masked) && s.secret.show(v) == v {
				p.addf("%s: %s stands where a secret was, as config print writes it; give the secret itself (config print --show-secrets)", s.Name, masked)
			}
		}
	}
}

func (c *Config) checkListen(p *Problems) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		p.addf("listen: %q is not an address; give host:port, such as 127.0.0.1:8000", clip(c.Listen))
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		p.addf("listen: %q is not a port; give a number from 0 to 65535", clip(port))
	}
	if !validHost(host) {
		p.addf("listen: %q is not a host; give an IP address or a name", clip(host))
		return
	}
	if !c.Open && !c.AuthEnabled() && !loopback(host) {
		p.addf("listen: %s can be reached from the network, where anyone may then read and publish without a key; "+
			"listen on 127.0.0.1:%s, set up authentication (auth.secret), or set open: true (--open) if that is wanted", clip(c.Listen), clip(port))
	}
}

// validHost accepts what can stand before the port: nothing (every address), an IP address, or a name.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for _, r := range host {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune("-._", r) {
			return false
		}
	}
	return true
}

// loopback says whether only this machine can reach host. A name other than localhost may point anywhere.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func (c *Config) checkName(p *Problems) {
	const limit = 64
	bad := strings.IndexFunc(c.Name, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("-._", r)
	})
	if bad >= 0 || len(c.Name) > limit {
		p.addf("name: %q cannot be used; give up to %d letters, digits, dots, dashes and underscores", clip(c.Name), limit)
	}
}

func (c *Config) checkStorage(p *Problems) {
	if c.Data == "" {
		p.addf("data: it is empty; give a folder, such as ./barrage-data")
	}
	c.checkEngine(p)
	shared := c.checkJournal(p)
	network := c.checkBroker(p)
	if network && !shared {
		p.addf("broker: %s connects several nodes, and the journal %s belongs to one; the journal must be shared: "+
			"give --journal postgres://…, or leave out --broker for a single node",
			scheme(c.Broker), scheme(c.JournalURL()))
	}
}

// checkJournal says whether several nodes can share the journal; a URL that is wrong counts as shared, so that it is
// reported once.
func (c *Config) checkJournal(p *Problems) (shared bool) {
	u := c.JournalURL()
	switch scheme(u) {
	case "memory:":
		if u != "memory:" {
			p.addf("journal: memory: takes nothing after the colon; write just memory:")
		}
		return false
	case "sqlite:":
		if strings.TrimPrefix(u, "sqlite:") == "" {
			p.addf("journal: sqlite: needs a file; write sqlite:PATH, such as sqlite:./barrage-data/journal.db")
		}
		return false
	case "postgres://", "postgresql://":
		checkURL(p, "journal", u, "postgres://user:password@host:5432/database")
	default:
		p.addf("journal: %q is not a journal; give memory:, sqlite:PATH or postgres://user:password@host:5432/database",
			clip(Mask(u)))
	}
	return true
}

func (c *Config) checkEngine(p *Problems) {
	if c.Engine != "auto" && c.Engine != "portable" {
		p.addf("engine: %q is none that there is; use auto or portable", clip(c.Engine))
	}
}

// checkBroker says whether the broker connects nodes; one that is wrong does not.
func (c *Config) checkBroker(p *Problems) (network bool) {
	switch s := scheme(c.Broker); s {
	case "local:":
		if c.Broker != "local:" {
			p.addf("broker: local: takes nothing after the colon; write just local:")
		}
		return false
	case "redis://", "rediss://", "redis-sentinel://", "redis-cluster://":
		checkURL(p, "broker", c.Broker, s+"127.0.0.1:6379")
		return true
	default:
		p.addf("broker: %q is not a broker; give local:, redis://host:6379, redis-sentinel://host:26379,host:26379/master "+
			"or redis-cluster://host:6379,host:6379", clip(Mask(c.Broker)))
		return false
	}
}

// checkURL looks at the form only; the journal or broker that opens it knows the details.
func checkURL(p *Problems, key, text, example string) {
	rest := strings.TrimPrefix(text, scheme(text))
	if rest == "" || strings.ContainsAny(text, " \t\r\n") {
		p.addf("%s: %q is not a complete URL; write it like %s", key, clip(Mask(text)), example)
		return
	}
	// Lists of hosts are no URLs to net/url once a port is involved; the first host stands for all.
	first, _, _ := strings.Cut(text, ",")
	if _, err := url.Parse(first); err != nil {
		p.addf("%s: %q is not a URL; write it like %s, with special characters in the password percent-encoded",
			key, clip(Mask(text)), example)
	}
}

// scheme gives what a URL begins with, including the colon and slashes: "sqlite:", "postgres://".
func scheme(text string) string {
	i := strings.IndexByte(text, ':')
	if i < 0 {
		return ""
	}
	if strings.HasPrefix(text[i:], "://") {
		return text[:i+3]
	}
	return text[:i+1]
}

func (c *Config) checkOrigins(p *Problems) {
	for _, o := range c.Origins {
		if o == "*" {
			continue
		}
		u, err := url.Parse(o)
		if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" ||
			u.Fragment != "" || strings.ContainsAny(o, "*?# ") {
			p.addf("origins: %q is not an origin; give scheme://host or scheme://host:port without a path, such as "+
				"https://example.com, or * for all", clip(o))
		}
	}
}

func (c *Config) checkProxies(p *Problems) {
	for _, t := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(t); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(t); err != nil {
			p.addf("trusted_proxies: %q is neither an address nor a prefix; give something like 10.0.0.7 or 10.0.0.0/8", clip(t))
		}
	}
}

func (c *Config) checkCompression(p *Problems) {
	if c.CompressionThreshold < 0 || c.CompressionThreshold > MaxMessage {
		p.addf("compression_threshold: %s is out of bounds; give 0B to %s", FormatSize(c.CompressionThreshold), FormatSize(MaxMessage))
	}
}

// checkAPI does not look at the keys: whoever opens them does.
func (c *Config) checkAPI(p *Problems) {
	if c.API.Body < 1 || c.API.Body > MaxBody {
		p.addf("api.body: %s is out of bounds; give 1B to %s", FormatSize(c.API.Body), FormatSize(MaxBody))
	}
	if c.API.Listen == "" {
		return
	}
	host, port, err := net.SplitHostPort(c.API.Listen)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || !validHost(host) {
		p.addf("api.listen: %q is not an address; give host:port, such as 127.0.0.1:9000", clip(c.API.Listen))
	}
}

func (c *Config) checkRPC(p *Problems) {
	if t := c.RPC.Timeout; t < MinRPC || t > MaxRPC {
		p.addf("rpc.timeout: %s is out of bounds; give %s to %s", FormatDuration(t), FormatDuration(MinRPC), FormatDuration(MaxRPC))
	}
	if c.RPC.URL == "" {
		return
	}
	if u, err := url.Parse(c.RPC.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		p.addf("rpc.url: it is not an address of HTTP; give one such as http://127.0.0.1:3000/rpc")
	}
}

// checkTLS does not look into the files.
func (c *Config) checkTLS(p *Problems) {
	switch {
	case c.TLS.Key != "" && c.TLS.Cert == "":
		p.addf("tls.cert: it is missing, and tls.key alone is of no use; give both, or none")
	case c.TLS.Cert != "" && c.TLS.Key == "":
		p.addf("tls.key: it is missing, and tls.cert alone is of no use; give both, or none")
	}
}

func (c *Config) checkLimits(p *Problems) {
	l := &c.Limits
	if l.Message < 1 || l.Message > MaxMessage {
		p.addf("limits.message: %s is out of bounds; give 1B to %s", FormatSize(l.Message), FormatSize(MaxMessage))
	}
	notNegative(p, "limits.connections", int64(l.Connections))
	notNegative(p, "limits.connections_per_address", int64(l.ConnectionsPerAddress))
	notNegative(p, "limits.commands", int64(l.Commands))
	notNegative(p, "limits.publishes", int64(l.Publishes))
	notNegative(p, "limits.user_connections", int64(l.UserConnections))
	notNegative(p, "limits.user_publishes", int64(l.UserPublishes))
	notNegative(p, "limits.address_connects", int64(l.AddressConnects))
	notNegative(p, "limits.channel_publishes", int64(l.ChannelPublishes))
	if l.Queue < minQueue || l.Queue > MaxQueue {
		p.addf("limits.queue: %s is out of bounds; give %s to %s", FormatSize(l.Queue), FormatSize(minQueue), FormatSize(MaxQueue))
	}
	atLeast(p, "limits.handshake", l.Handshake, 100*time.Millisecond)
	atLeast(p, "limits.ping", l.Ping, time.Second)
	atLeast(p, "limits.pong", l.Pong, time.Second)
	atLeast(p, "limits.write", l.Write, time.Second)
	atLeast(p, "limits.drain", l.Drain, 0)
}

func (c *Config) checkHistory(p *Problems) {
	notNegative(p, "history.count", c.History.Count)
	atLeast(p, "history.age", c.History.Age, 0)
	atLeast(p, "history.trim", c.History.Trim, time.Second)
}

func notNegative(p *Problems, key string, n int64) {
	if n < 0 {
		p.addf("%s: %d is negative; give 0 for no limit, or more", key, n)
	}
}

func atLeast(p *Problems, key string, d, least time.Duration) {
	if d < least {
		p.addf("%s: %s is too short; give at least %s", key, FormatDuration(d), FormatDuration(least))
	}
}

func (c *Config) checkLog(p *Problems) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		p.addf("log.level: %q is not a level; give debug, info, warn or error", clip(c.Log.Level))
	}
	if !slices.Contains([]string{"text", "json"}, c.Log.Format) {
		p.addf("log.format: %q is not a format; give text or json", clip(c.Log.Format))
	}
}
