package main

import (
	"log/slog"
	"testing"

	"barrage/auth"
	"barrage/config"
)

func TestPolicyOfTheSettings(t *testing.T) {
	settings := config.Namespaces{
		"default": {Subscribe: "user"},
		"chat":    {Subscribe: "anyone", Publish: "subscriber", History: "nobody", Presence: "user", JoinLeave: true, Pattern: "[a-z]+|x"},
	}
	chat := [4]auth.Rule{auth.Subscribe: auth.Anyone, auth.Publish: auth.Subscriber, auth.History: auth.Nobody, auth.Presence: auth.User}
	for _, tt := range []struct {
		what    string
		cfg     config.Config
		channel string
		want    [4]auth.Rule
	}{
		{"without authentication", config.Config{Namespaces: settings}, "room", [4]auth.Rule{auth.User, auth.Anyone, auth.Anyone, auth.Anyone}},
		{"without authentication", config.Config{Namespaces: settings}, "chat:x", chat},
		{"without settings", config.Config{}, "room", [4]auth.Rule{auth.Anyone, auth.Anyone, auth.Anyone, auth.Anyone}},
		{"with authentication", config.Config{Namespaces: settings, Auth: config.Auth{Keys: []string{"k"}}}, "room", [4]auth.Rule{auth.User, auth.Nobody, auth.Subscriber, auth.Nobody}},
		{"with authentication", config.Config{Namespaces: settings, Auth: config.Auth{Keys: []string{"k"}}}, "default:x", [4]auth.Rule{auth.User, auth.Nobody, auth.Subscriber, auth.Nobody}},
		{"with authentication", config.Config{Namespaces: settings, Auth: config.Auth{UserHeader: "X"}}, "chat:x", chat},
		{"with authentication", config.Config{Auth: config.Auth{JWKS: []string{"https://a/"}}}, "room", auth.Closed.Rules},
	} {
		p, err := newPolicy(&tt.cfg)
		if err != nil {
			t.Fatal(err)
		}
		ns, _, _ := p.Of(tt.channel)
		if ns.Rules != tt.want {
			t.Errorf("%s the rules of %s are %v, got %v", tt.what, tt.channel, tt.want, ns.Rules)
		}
		if ns.Pattern != nil && (ns.Pattern.MatchString("x1") || !ns.Pattern.MatchString("x") || !ns.JoinLeave) {
			t.Errorf("%s the pattern of %s matches whole names, and members are told of each other", tt.what, tt.channel)
		}
	}
	if _, err := newPolicy(&config.Config{Namespaces: config.Namespaces{"a": {Publish: "all"}}}); err == nil {
		t.Error("a rule that there is not is refused")
	}
}

// The words that settings take are those of package auth.
func TestRulesHaveTheSameNamesInSettings(t *testing.T) {
	for i, word := range config.Rules {
		if r, err := auth.ParseRule(word); err != nil || int(r) != i {
			t.Errorf("%s is rule %d, got %v, %v", word, i, r, err)
		}
	}
	if len(config.Rules) != int(auth.Anyone)+1 {
		t.Errorf("settings know every rule, not only %v", config.Rules)
	}
}

func TestTokensOfTheSettings(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if v, err := newTokens(&config.Config{}, log); v != nil || err != nil {
		t.Errorf("without authentication nothing verifies tokens, got %v, %v", v, err)
	}
	if (&server{}).verifier() != nil {
		t.Error("without authentication there is no verifier at all, rather than a nil one")
	}
	cfg := config.Config{Auth: config.Auth{Secrets: []string{"0123456789abcdef"}, Audience: "a", Issuer: "i"}}
	v, err := newTokens(&cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	for _, claims := range []map[string]any{{"sub": "x", "aud": "a"}, {"sub": "x", "iss": "i"}, {"sub": "x", "aud": "a", "iss": "i"}} {
		token, err := auth.Signer{Key: []byte("0123456789abcdef")}.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Connection(token); (err == nil) != (len(claims) == 3) {
			t.Errorf("audience and issuer are demanded: %v gave %v", claims, err)
		}
	}
}
