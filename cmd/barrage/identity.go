package main

import (
	"log/slog"

	"barrage/auth"
	"barrage/config"
)

// newTokens makes what verifies tokens; nil without authentication. Its Run must be running for keys to be fetched.
func newTokens(cfg *config.Config, log *slog.Logger) (*auth.Verifier, error) {
	if !cfg.AuthEnabled() {
		return nil, nil
	}
	keys := auth.Keys{
		Secrets: cfg.Auth.Secrets, Files: cfg.Auth.Keys, Audience: cfg.Auth.Audience, Issuer: cfg.Auth.Issuer,
	}
	for _, entry := range cfg.Auth.JWKS {
		issuer, url := config.SplitJWKS(entry)
		keys.Sets = append(keys.Sets, auth.KeySet{Issuer: issuer, URL: url})
	}
	v, err := auth.NewVerifier(keys, auth.VerifierOptions{Log: log})
	return v, usageError(err)
}

// newPolicy makes who may do what. What a namespace does not say is closed with authentication, and open without.
func newPolicy(cfg *config.Config) (*auth.Policy, error) {
	unset := auth.Open
	if cfg.AuthEnabled() {
		unset = auth.Closed
	}
	p := &auth.Policy{Default: unset, Named: map[string]auth.Namespace{}}
	for name, settings := range cfg.Namespaces {
		ns, err := namespaceRules(unset, settings)
		if err != nil {
			return nil, usageError(err)
		}
		if name == config.DefaultNamespace {
			p.Default = ns
		}
		p.Named[name] = ns
	}
	return p, nil
}

// namespaceRules completes what settings say of a namespace by what holds where they say nothing.
func namespaceRules(unset auth.Namespace, settings config.Namespace) (auth.Namespace, error) {
	ns := unset
	ns.JoinLeave = settings.JoinLeave
	for action, text := range map[auth.Action]string{
		auth.Subscribe: settings.Subscribe, auth.Publish: settings.Publish, auth.History: settings.History, auth.Presence: settings.Presence,
	} {
		if text == "" {
			continue
		}
		rule, err := auth.ParseRule(text)
		if err != nil {
			return ns, err
		}
		ns.Rules[action] = rule
	}
	if settings.Pattern == "" {
		return ns, nil
	}
	var err error
	ns.Pattern, err = config.CompilePattern(settings.Pattern)
	return ns, err
}
