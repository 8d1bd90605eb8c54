package main

import (
	"fmt"
	"io"
	"net"
	"strings"

	"barrage/config"
)

// greet tells a person where everything is, and whether clients can be served yet.
func greet(out io.Writer, cfg config.Config, addr net.Addr, ready bool) {
	host := strings.NewReplacer("[::]", "localhost", "0.0.0.0", "localhost").Replace(addr.String())
	secure := ""
	if cfg.TLS.Enabled() {
		secure = "s"
	}
	http, ws := "http"+secure+"://"+host, "ws"+secure+"://"+host
	state := "is ready"
	if !ready {
		state = "listens, and will be ready when its journal answers"
	}
	fmt.Fprintf(out, "barrage %s: node %s\n\n", state, cfg.Name)
	for _, line := range [][2]string{
		{"live room", http + "/"},
		{"plain text", ws + "/raw/lobby"},
		{"JSON", ws + "/ws/lobby"},
		{"events", http + "/sse/lobby"},
		{"SDKs", ws + "/connection/websocket"},
		{"server API", serverAPIPlace(&cfg, http)},
		{"health", http + "/healthz  " + http + "/readyz  " + http + "/metrics"},
		{},
		{"clients", clientsNeed(&cfg)},
		{"journal", config.Mask(cfg.JournalURL())},
		{"broker", config.Mask(cfg.Broker)},
	} {
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-12s %s", line[0], line[1]), " "))
	}
	fmt.Fprintln(out)
}

// serverAPIPlace says where the server API is, or what it wants.
func serverAPIPlace(cfg *config.Config, http string) string {
	switch {
	case len(cfg.API.Keys) == 0 && cfg.API.KeysFile == "":
		return "closed: set api.keys or api.keys_file"
	case cfg.API.Listen != "":
		return "on " + cfg.API.Listen
	}
	return http + "/api/docs"
}

// clientsNeed says what clients need to connect.
func clientsNeed(cfg *config.Config) string {
	switch {
	case !cfg.AuthEnabled():
		return "no token: whoever can connect may do everything"
	case cfg.Auth.Anonymous:
		return "a token, or are anonymous: namespaces say what they may do"
	}
	return "a token: namespaces say what they may do"
}
