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
