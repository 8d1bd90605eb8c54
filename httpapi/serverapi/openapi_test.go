package serverapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"barrage/httpapi/serverapi"
	"barrage/node"
	"barrage/proto"
)

func TestTheDocumentOnDiskIsFresh(t *testing.T) {
	want, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(serverapi.Document(), want) {
		t.Error("docs/openapi.json is not what the methods say; run: go generate ./httpapi/serverapi")
	}
}

func load(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(serverapi.Document())
	if err != nil {
		t.Fatalf("the document can be read: %v", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatalf("the document is valid OpenAPI 3.1: %v", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

// check sends a request and checks it and its answer against the document.
func check(t *testing.T, w *world, router routers.Router, path, body, key string, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-API-Key", key)
	route, params, err := router.FindRoute(r)
	if err != nil {
		t.Fatalf("the document knows %s: %v", path, err)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil && status == http.StatusOK {
		t.Errorf("the request %s %s is what the document says: %v", path, body, err)
	}
	resp := w.ask(http.MethodPost, path, body, "X-API-Key", key, "Content-Type", "application/json")
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Errorf("%s %s is answered by %d, not %d %s, %v", path, body, status, resp.StatusCode, got, err)
		return
	}
	if err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(got)), Options: in.Options,
	}); err != nil {
		t.Errorf("the answer %d %s to %s is what the document says: %v", resp.StatusCode, got, path, err)
	}
}

// Every method is called with its example, and its answer checked against the document; so is a failure of each.
func TestTheDocumentIsTrue(t *testing.T) {
	w := start(t)
	doc, router := load(t)
	attributes := proto.Attributes{Info: json.RawMessage(`1`), Tags: map[string]string{"a": "b"}}
	encoded, err := attributes.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w.publish(node.Publication{Channel: "chat:index", User: "alice", Client: "c1", Data: []byte(`{}`), Attributes: encoded})
	methods := 0
	for path, item := range doc.Paths.Map() {
		content := item.Post.RequestBody.Value.Content["application/json"]
		if content == nil {
			continue // lines are no JSON
		}
		methods++
		example, err := json.Marshal(content.Example)
		if err != nil {
			t.Fatal(err)
		}
		check(t, w, router, path, string(example), adminKey, http.StatusOK)
		check(t, w, router, path, string(example), adminKey, http.StatusOK) // publish says repeated
		check(t, w, router, path, string(example), "", http.StatusUnauthorized)
		check(t, w, router, path, `{"channel":5,"user":5,"channels":5,"commands":5,"pattern":5`, adminKey, http.StatusBadRequest)
		check(t, w, router, path, `{"channel":"","user":"","channels":[""],"commands":[{}],"data":1}`, adminKey, http.StatusOK)
	}
	if methods != 15 {
		t.Errorf("the document has 15 methods, not %d", methods)
	}
}

// A change of the answers that the document does not know is found by the test above.
func TestTheCheckFindsWhatIsWrong(t *testing.T) {
	doc, _ := load(t)
	schema := doc.Components.Schemas["PublishRequest"].Value
	if err := schema.VisitJSON(map[string]any{"channel": 5}, openapi3.EnableJSONSchema2020()); err == nil {
		t.Error("a channel is a text")
	}
	if err := schema.VisitJSON(map[string]any{"data": 5}, openapi3.EnableJSONSchema2020()); err == nil {
		t.Error("a channel is required")
	}
	_, router := load(t)
	for _, body := range []string{`{}`, `{"result":{"num_clients":1}}`, `{"result":{"num_clients":"1","num_users":1}}`, `{"error":{"code":1}}`, `{"result":{"num_clients":1,"num_users":1},"error":{"code":1,"message":""}}`} {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/api/presence_stats", strings.NewReader(`{"channel":"a"}`))
		if err != nil {
			t.Fatal(err)
		}
		route, params, err := router.FindRoute(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
			Status:                 http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
		}); err == nil {
			t.Errorf("%s is no answer of presence_stats", body)
		}
	}
}

func TestThePage(t *testing.T) {
	w := start(t)
	for path, kind := range map[string]string{
		"/api/docs": "text/html; charset=utf-8", "/api/docs/": "text/html; charset=utf-8", "/api/docs/page.js": "text/javascript; charset=utf-8",
		"/api/docs/page.css": "text/css; charset=utf-8", "/api/openapi.json": "application/json",
	} {
		resp := w.ask(http.MethodGet, path, "")
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != kind {
			t.Errorf("%s is served as %s without a key, not as %d %s", path, kind, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		policy := resp.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "trusted-types 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("the policy of %s has %s: %s", path, want, policy)
			}
		}
		if path != "/api/openapi.json" && bytes.Contains(body, []byte("://")) {
			t.Errorf("%s loads nothing from elsewhere", path)
		}
		if tag := resp.Header.Get("ETag"); w.ask(http.MethodGet, path, "", "If-None-Match", tag).StatusCode != http.StatusNotModified {
			t.Errorf("%s with the tag %s has not been modified", path, tag)
		}
	}
}
