package serverapi

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"sync"
	"time"
)

//go:embed page
var pageFiles embed.FS

// policy lets the page load from its own origin alone, and turns any use of innerHTML and its kin into an error.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// static is what is served without a key: how the API works is no secret.
type static struct {
	body              []byte
	contentType, etag string
}

// statics maps paths below /api/ to what is served there.
var statics = sync.OnceValue(func() map[string]static {
	out := map[string]static{"openapi.json": newStatic(Document(), "application/json")}
	for path, file := range map[string][2]string{
		"docs":          {"page/index.html", "text/html; charset=utf-8"},
		"docs/page.js":  {"page/page.js", "text/javascript; charset=utf-8"},
		"docs/page.css": {"page/page.css", "text/css; charset=utf-8"},
	} {
		body, err := pageFiles.ReadFile(file[0])
		if err != nil {
			panic("serverapi: " + err.Error()) // a mistake of the build
		}
		out[path] = newStatic(body, file[1])
	}
	return out
})

func newStatic(body []byte, contentType string) static {
	sum := sha256.Sum256(body)
	return static{body: body, contentType: contentType, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
}

// servePage serves the document and the page that shows it, and reports whether name is one of them.
func servePage(w http.ResponseWriter, r *http.Request, name string) bool {
	s, ok := statics()[name]
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are allowed here", http.StatusMethodNotAllowed)
		return true
	}
	h.Set("Content-Type", s.contentType)
	h.Set("ETag", s.etag)
	h.Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.body))
	return true
}
