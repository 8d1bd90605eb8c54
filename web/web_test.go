package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPageAndAssetsHaveTheirContentTypes(t *testing.T) {
	for path, want := range map[string]string{
		"/":                 "text/html; charset=utf-8",
		"/assets/main.js":   "text/javascript; charset=utf-8",
		"/assets/style.css": "text/css; charset=utf-8",
		"/assets/icon.svg":  "image/svg+xml",
	} {
		r := get(t, "GET", path)
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != want {
			t.Errorf("GET %s answers %d %q; it must be 200 %q", path, r.StatusCode, r.Header.Get("Content-Type"), want)
		}
		if body(t, r) == "" {
			t.Errorf("GET %s has an empty body", path)
		}
	}
}

func TestEverythingThePageNamesIsServed(t *testing.T) {
	named := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`)
	imported := regexp.MustCompile(`from '\./([^']+)'`)
	for _, m := range named.FindAllStringSubmatch(body(t, get(t, "GET", "/")), -1) {
		if r := get(t, "GET", m[1]); r.StatusCode != http.StatusOK {
			t.Errorf("index.html names %s, which answers %d", m[1], r.StatusCode)
		}
	}
	for path, f := range files {
		for _, m := range imported.FindAllStringSubmatch(string(f.body), -1) {
			if r := get(t, "GET", "/assets/"+m[1]); r.StatusCode != http.StatusOK {
				t.Errorf("%s imports %s, which answers %d", path, m[1], r.StatusCode)
			}
			if !strings.Contains(string(files["/"].body), `rel="modulepreload" href="/assets/`+m[1]+`"`) {
				t.Errorf("%s imports %s, which index.html does not preload: one more round trip at every start", path, m[1])
			}
		}
	}
}

func TestUnchangedContentIsNotSentAgain(t *testing.T) {
	for path := range files {
		first := get(t, "GET", path)
		etag := first.Header.Get("ETag")
		if etag == "" || first.Header.Get("Cache-Control") != "no-cache" {
			t.Fatalf("GET %s has ETag %q and Cache-Control %q; it needs an ETag and no-cache", path, etag, first.Header.Get("Cache-Control"))
		}
		again := get(t, "GET", path, "If-None-Match", etag)
		if again.StatusCode != http.StatusNotModified || body(t, again) != "" {
			t.Errorf("GET %s with its own ETag answers %d; it must be 304 without a body", path, again.StatusCode)
		}
		other := get(t, "GET", path, "If-None-Match", `"other"`)
		if other.StatusCode != http.StatusOK {
			t.Errorf("GET %s with another ETag answers %d; it must be 200", path, other.StatusCode)
		}
	}
}

func TestHeadHasTheHeadersOnly(t *testing.T) {
	r := get(t, "HEAD", "/")
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Length") == "" || body(t, r) != "" {
		t.Errorf("HEAD / answers %d, length %q; it must be 200 with a length and no body", r.StatusCode, r.Header.Get("Content-Length"))
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	for _, path := range []string{"/index.html", "/assets", "/assets/", "/assets/none.js", "/assets/../web.go", "/web.go", "//", "/ws/lobby"} {
		if r := get(t, "GET", "http://host"+path); r.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s answers %d; it must be 404", path, r.StatusCode)
		}
	}
	r := get(t, "POST", "/")
	if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST / answers %d, Allow %q; it must be 405 and say GET, HEAD", r.StatusCode, r.Header.Get("Allow"))
	}
}

func TestEveryAnswerIsLockedDown(t *testing.T) {
	for _, path := range []string{"/", "/assets/main.js", "/none"} {
		r := get(t, "GET", path)
		csp := r.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'self'", "connect-src 'self' ws: wss:", "object-src 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("GET %s: the policy %q lacks %q", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("GET %s: the policy %q allows something unsafe", path, csp)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("GET %s lacks nosniff or a referrer policy: %v", path, r.Header)
		}
	}
}

func TestNothingIsInline(t *testing.T) {
	page := body(t, get(t, "GET", "/"))
	for what, pattern := range map[string]string{
		"a script without src": `<script(?:\s+type="module")?\s*>`,
		"a style element":      `<style`,
		"a style attribute":    `\sstyle="`,
		"an event attribute":   `\son[a-z]+="`,
		"a foreign address":    `(?:src|href)="(?:https?:)?//`,
	} {
		if m := regexp.MustCompile(pattern).FindString(page); m != "" {
			t.Errorf("index.html holds %s (%q), which its own policy blocks", what, m)
		}
	}
	for path, f := range files {
		if strings.HasSuffix(path, ".js") && regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(`).Match(f.body) {
			t.Errorf("%s turns text into markup or code; use textContent", path)
		}
	}
}
