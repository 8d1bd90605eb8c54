package config

import "testing"

func TestKeySetsAreTakenApart(t *testing.T) {
	for entry, want := range map[string][2]string{
		"https://a/keys":                 {"", "https://a/keys"},
		"me=https://a/keys":              {"me", "https://a/keys"},
		"https://me/=https://a/keys?x=1": {"https://me/", "https://a/keys?x=1"},
		"me=http://a/?u=https://b":       {"me", "http://a/?u=https://b"},
		"https://me?x=y=http://a":        {"https://me?x=y", "http://a"},
		"=https://a":                     {"", "https://a"},
		"me=ftp://a":                     {"", "me=ftp://a"},
		"":                               {"", ""},
	} {
		if issuer, url := SplitJWKS(entry); issuer != want[0] || url != want[1] {
			t.Errorf("%q is %q, got %q, %q", entry, want, issuer, url)
		}
	}
}

func TestWhoTrustsItsMachine(t *testing.T) {
	for name, edit := range map[string]func(c *Config){
		"with a secret":             func(c *Config) { c.Auth.Secrets = []string{"0123456789abcdef"} },
		"with keys":                 func(c *Config) { c.Auth.Keys = []string{"a.pem"} },
		"with keys of an issuer":    func(c *Config) { c.Auth.JWKS = []string{"https://a"} },
		"with a proxy's header":     func(c *Config) { c.Auth.UserHeader, c.TrustedProxies = "X-User", []string{"127.0.0.1"} },
		"that is open to everybody": func(c *Config) { c.Open = true },
	} {
		c := Default()
		if edit(&c); c.Validate() != nil || c.TrustsItsMachine(c.Listen) {
			t.Errorf("a node %s does not trust whoever reaches it for that: %v", name, c.Validate())
		}
	}
	c := Default()
	for addr, want := range map[string]bool{
		"127.0.0.1:8000": true, "127.9.9.9:0": true, "[::1]:80": true, "[::ffff:127.0.0.1]:1": true, "localhost:8000": true, "LOCALHOST:1": true,
		":8000": false, "0.0.0.0:8000": false, "10.0.0.1:9000": false, "node.example:9000": false, "": false,
	} {
		if got := c.TrustsItsMachine(addr); got != want {
			t.Errorf("that only its machine reaches a node at %q is %t, not %t", addr, want, got)
		}
		if c.Listen = addr; !want && c.Validate() == nil {
			t.Errorf("without authentication a node does not listen on %q, which others reach", addr)
		}
	}
}
