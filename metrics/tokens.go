package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"barrage/auth"
)

// Tokens adds what is to be known about the tokens of a node with authentication.
func Tokens(r *prometheus.Registry, s *auth.VerifierStats) {
	register(r, []counter{
		{"tokens_accepted_total", "Tokens that were good; only with authentication.", &s.Accepted},
		{"tokens_refused_total", "Tokens that were refused, expired ones too; only with authentication.", &s.Refused},
		{"tokens_unready_total", "Tokens answered with a temporary error because their keys had not been fetched; only with authentication.", &s.Unready},
		{"token_keys_fetched_total", "Key sets of auth.jwks that were fetched; only with authentication.", &s.Fetches},
		{"token_keys_failures_total", "Key sets that could not be fetched, and changes of files of auth.keys that could not be used, so that the keys from before stayed in use; only with authentication.", &s.Failures},
	})
}
