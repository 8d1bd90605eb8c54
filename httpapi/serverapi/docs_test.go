package serverapi_test

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

var curlLine = regexp.MustCompile(`(?m)^curl -H '([A-Za-z-]+): ([^']*)KEY' http://localhost:8000(/api[a-z_/]*) -d '([^']*)'$`)

// Every line of docs/api.md with curl works as it stands, and every method has one.
func TestTheExamplesOfThePageWork(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	w := start(t)
	seen := map[string]bool{}
	lines := curlLine.FindAllStringSubmatch(string(page), -1)
	if all := strings.Count(string(page), "\ncurl "); len(lines) != all {
		t.Errorf("all %d lines with curl have the form that this test reads, not %d", all, len(lines))
	}
	for _, l := range lines {
		resp := w.ask(http.MethodPost, l[3], l[4], l[1], l[2]+adminKey, "Content-Type", "application/x-www-form-urlencoded")
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || strings.Contains(string(body), `"error"`) {
			t.Errorf("%s is answered without an error, not by %d %s", l[0], resp.StatusCode, body)
		}
		seen[l[3]] = true
	}
	doc, _ := load(t)
	for path := range doc.Paths.Map() {
		if !seen[path] && path != "/api/nodes" {
			t.Errorf("the page has an example of %s", path)
		}
	}
}
