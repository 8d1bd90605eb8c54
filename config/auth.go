package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Auth says how clients show who they are.
type Auth struct {
	// Secrets are for tokens signed with HMAC; the first one signs what the command line makes.
	Secrets []string
	// Keys are the paths of PEM files with public keys.
	Keys []string
	// JWKS are ISSUER=URL or URL, where the keys of an issuer are fetched; SplitJWKS takes them apart.
	JWKS []string
	// Audience and Issuer are what tokens must say; empty for anything.
	Audience, Issuer string
	// Anonymous lets clients without a token connect.
	Anonymous bool
	// UserHeader is the name of the header in which trusted proxies tell the user id; empty for none.
	UserHeader string
	// Personal subscribes every Centrifuge client with a user id to the channel #USER.
	Personal bool
}

// AuthEnabled says whether clients must show who they are.
func (c *Config) AuthEnabled() bool {
	a := &c.Auth
	return len(a.Secrets)+len(a.Keys)+len(a.JWKS) > 0 || a.UserHeader != ""
}

// TrustsItsMachine says whether everyone who reaches addr, which is Listen or API.Listen, is trusted because only this machine can: there
// is no authentication, and Open does not say that this is wanted of everybody. Pages of other sites, which can have a name of their own point
// here, must then be told apart by the name that they use.
func (c *Config) TrustsItsMachine(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && loopback(host) && !c.AuthEnabled() && !c.Open
}

// SplitJWKS takes an entry of Auth.JWKS apart: ISSUER=URL, or a URL alone. The issuer is what stands before the first "=https://" or
// "=http://".
func SplitJWKS(entry string) (issuer, url string) {
	at := -1
	for _, mark := range []string{"=https://", "=http://"} {
		if i := strings.Index(entry, mark); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at < 0 {
		return "", entry
	}
	return entry[:at], entry[at+1:]
}

// minSecret is the length of the shortest secret that is accepted, in bytes.
const minSecret = 16

// checkAuth does not look into the files, and never puts a secret into a sentence.
func (c *Config) checkAuth(p *Problems) {
	for _, s := range c.Auth.Secrets {
		if len(s) < minSecret {
			p.addf("auth.secret: a secret of %d bytes can be guessed; give at least %d, such as one that barrage token secret makes",
				len(s), minSecret)
		}
	}
	if slices.Contains(c.Auth.Keys, "") {
		p.addf("auth.keys: a path is empty; give the paths of PEM files")
	}
	c.checkJWKS(p)
	c.checkUserHeader(p)
	if !c.AuthEnabled() {
		for _, s := range []struct {
			name string
			set  bool
		}{
			{"auth.audience", c.Auth.Audience != ""},
			{"auth.issuer", c.Auth.Issuer != ""},
			{"auth.anonymous", c.Auth.Anonymous},
			{"auth.personal", c.Auth.Personal},
		} {
			if s.set {
				p.addf("%s: it has no meaning without authentication; set auth.secret, auth.keys, auth.jwks or auth.user_header too", s.name)
			}
		}
	}
}

func (c *Config) checkJWKS(p *Problems) {
	issuers := map[string]bool{}
	for _, entry := range c.Auth.JWKS {
		issuer, text := SplitJWKS(entry)
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			p.addf("auth.jwks: %q is neither a URL nor ISSUER=URL; write it like https://login.example.com=https://login.example.com/keys.json",
				clip(Mask(entry)))
		}
		switch {
		case !issuers[issuer]:
		case issuer == "":
			p.addf("auth.jwks: only one URL can be without an issuer; write the others as ISSUER=URL")
		default:
			p.addf("auth.jwks: the issuer %q is given twice; keep one", clip(Mask(issuer)))
		}
		issuers[issuer] = true
	}
}

func (c *Config) checkUserHeader(p *Problems) {
	name := c.Auth.UserHeader
	if name == "" {
		return
	}
	reserved := []string{
		"authorization", "connection", "cookie", "host", "origin", "sec-websocket-key", "sec-websocket-protocol", "upgrade", "x-forwarded-for",
	}
	valid := !strings.ContainsFunc(name, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && r != '-' && r != '_'
	})
	if !valid || slices.Contains(reserved, strings.ToLower(name)) {
		p.addf("auth.user_header: %q cannot be it; give a header of your own, such as X-User-Id", clip(name))
	}
	if len(c.TrustedProxies) == 0 {
		p.addf("auth.user_header: nobody is believed; say in trusted_proxies which proxies set the header")
	}
	for _, proxy := range c.TrustedProxies {
		if all, err := netip.ParsePrefix(proxy); err == nil && all.Bits() == 0 {
			p.addf("auth.user_header: %s in trusted_proxies is everybody, who could all say to be anyone; name the proxies", proxy)
		}
	}
}
