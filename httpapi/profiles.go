package httpapi

import (
	"net/http"
	"net/http/pprof"
)

// RegisterProfiles adds Go's profiles, at /debug/pprof/, to mux. They show what is in the memory of the node, and slow it
// down while they are taken: they are not for the public. The command line is not among them: it may hold passwords.
func RegisterProfiles(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}
