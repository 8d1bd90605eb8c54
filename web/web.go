// Package web serves the live room: one page, embedded in the binary, plain JavaScript modules without a build step. It talks to
// the cluster by the published client, clients/js, which is served beside the page's own modules.
//
// The handler keeps no state and never blocks on anything but the client. Every answer carries a strict
// Content-Security-Policy (no inline script or style, no foreign origin), an ETag of the content, and
// "Cache-Control: no-cache": a browser asks each time and is told 304 until the binary changes.
//
// The JavaScript is tested by `node --test test/*.test.mjs` in this folder and, in a real browser, by the Go tests
// with the tag "system".
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"

	"barrage/clients/js"
)

//go:embed index.html assets
var content embed.FS

// contentTypes says how each kind of embedded file is sent. Not left to package mime: that reads the machine's tables.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// policy lets the page load from its own origin only and open WebSockets (older browsers do not count ws: as 'self').
// Trusted types turn any use of innerHTML and its kin into an error.
const policy = "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; " +
	"form-action 'self'; frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'"

// file is one embedded file, ready to be sent.
type file struct {
	body        []byte
	contentType string
	etag        string
}

// files maps request paths to what is served there. It is written once, at start.
var files = mustLoad()

// Handler serves the page at "/" and its parts below "/assets/"; every other path is 404, and every method but GET
// and HEAD is 405. It is safe for concurrent use.
func Handler() http.Handler {
	return http.HandlerFunc(serve)
}

func serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	f, ok := files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are allowed here", http.StatusMethodNotAllowed)
		return
	}
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache")
	// The zero time leaves Last-Modified out: embedded files have none, the ETag speaks for them.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}

// mustLoad reads the embedded files and the client. It panics on a kind of file without a content type: a mistake of the build.
func mustLoad() map[string]file {
	all := make(map[string]file)
	err := fs.WalkDir(content, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kind, ok := contentTypes[path.Ext(name)]
		if !ok {
			return fmt.Errorf("%s: no content type for this kind of file", name)
		}
		body, err := content.ReadFile(name)
		if err != nil {
			return err
		}
		at := "/" + name
		if name == "index.html" {
			at = "/"
		}
		all[at] = newFile(kind, body)
		return nil
	})
	if err != nil {
		panic("web: " + err.Error())
	}
	all["/assets/barrage.js"] = newFile(contentTypes[".js"], []byte(js.Module()))
	return all
}

func newFile(contentType string, body []byte) file {
	sum := sha256.Sum256(body)
	return file{body: body, contentType: contentType, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
}
