package ws

import (
	"strings"
	"testing"
)

func TestAcceptDeflate(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, c := range []struct{ offers, want string }{
		{"", ""},
		{"permessage-deflate", plain},
		{"permessage-deflate; client_max_window_bits", plain}, // of browsers
		{"permessage-deflate; client_max_window_bits=8", plain},
		{"permessage-deflate; client_max_window_bits=15", plain},
		{`permessage-deflate; client_max_window_bits="10"`, plain},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", plain},
		{"permessage-deflate; server_no_context_takeover", plain},
		{"permessage-deflate; server_max_window_bits=15", plain + "; server_max_window_bits=15"},
		{"permessage-deflate; server_max_window_bits=15; client_max_window_bits=9; client_no_context_takeover", plain + "; server_max_window_bits=15"},
		{"x-other; a=b, permessage-deflate", plain},

		// Declined: section 7.
		{"x-webkit-deflate-frame", ""},
		{"permessage-bzip2", ""},
		{"Permessage-Deflate", ""},
		{"permessage-deflate; unknown", ""},
		{"permessage-deflate; unknown=1", ""},
		{"permessage-deflate; Server_no_context_takeover", ""},
		{"permessage-deflate; server_no_context_takeover=1", ""},
		{"permessage-deflate; client_no_context_takeover=true", ""},
		{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits=10", ""},
		{"permessage-deflate; server_max_window_bits=15; server_max_window_bits=15", ""},
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; server_max_window_bits=14", ""}, // smaller than ours
		{"permessage-deflate; server_max_window_bits=8", ""},
		{"permessage-deflate; server_max_window_bits=16", ""},
		{"permessage-deflate; server_max_window_bits=015", ""},
		{"permessage-deflate; client_max_window_bits=7", ""},
		{"permessage-deflate; client_max_window_bits=16", ""},
		{"permessage-deflate; client_max_window_bits=08", ""},
		{"permessage-deflate; client_max_window_bits=0", ""},
		{"permessage-deflate; client_max_window_bits=+9", ""},
		{"permessage-deflate; client_max_window_bits=1e1", ""},
		{"permessage-deflate; client_max_window_bits=99999999999999999999", ""},

		// A declined offer is passed over: section 5.1.
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", plain},
		{"permessage-deflate; unknown, permessage-deflate; client_max_window_bits=20, permessage-deflate; server_max_window_bits=15", plain + "; server_max_window_bits=15"},
		{"permessage-deflate; server_max_window_bits=15, permessage-deflate", plain + "; server_max_window_bits=15"},
		{"permessage-deflate; a, permessage-deflate; b", ""},
	} {
		offers, ok := parseExtensions([]string{c.offers})
		if !ok {
			t.Fatalf("%s should be readable", c.offers)
		}
		if got, ok := AcceptDeflate(offers); got != c.want || ok != (c.want != "") {
			t.Errorf("the offer %q should be answered with %q, not %q, %v", c.offers, c.want, got, ok)
		}
	}
}

func FuzzAcceptDeflate(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits, permessage-deflate; server_max_window_bits=10")
	f.Add(`permessage-deflate; client_max_window_bits="9"; server_no_context_takeover`)
	f.Fuzz(func(t *testing.T, field string) {
		offers, ok := parseExtensions([]string{field})
		if !ok {
			return
		}
		response, ok := AcceptDeflate(offers)
		if !ok {
			if response != "" {
				t.Errorf("a declined offer has no answer, not %q", response)
			}
			return
		}
		answer, readable := parseExtensions([]string{response})
		if !readable || len(answer) != 1 || answer[0].Name != Deflate {
			t.Fatalf("the answer %q is one extension", response)
		}
		// What is answered is an offer that would be accepted itself, and the same answer is given to it.
		if again, ok := AcceptDeflate(answer); !ok || again != response {
			t.Errorf("the answer %q is valid: it is answered with %q", response, again)
		}
		if strings.Contains(response, "server_max_window_bits") && !strings.Contains(field, "server_max_window_bits") {
			t.Errorf("the answer %q to %q speaks of a window that the client did not", response, field)
		}
	})
}
