package security

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"barrage/gateway"
	"barrage/httpapi/apikey"
	"barrage/httpapi/serverapi"
)

// scopes says which key may do what, method by method. A method that is missing here is found by the test.
var scopes = map[string]string{
	"publish": "publish", "broadcast": "publish",
	"history": "read", "presence": "read", "presence_stats": "read", "channels": "read", "info": "read", "nodes": "read", "connections": "read",
	"history_remove": "admin", "subscribe": "admin", "unsubscribe": "admin", "disconnect": "admin", "refresh": "admin",
}

// bodies are requests that would work.
var bodies = map[string]string{
	"publish": `{"channel":"room","data":1}`, "broadcast": `{"channels":["room"],"data":1}`, "connections": `{"user":"alice"}`,
	"subscribe": `{"user":"alice","channel":"room"}`, "unsubscribe": `{"user":"alice","channel":"room"}`, "disconnect": `{"user":"alice"}`,
	"refresh": `{"user":"alice"}`, "info": `{}`, "nodes": `{}`, "channels": `{}`,
}

func bodyOf(method string) string {
	if b := bodies[method]; b != "" {
		return b
	}
	return `{"channel":"room"}`
}

func TestTheServerAPINeedsAKey(t *testing.T) {
	w := start(t, gateway.Options{})
	s := w.api(nil)
	bad := []string{"", "x", apiKeys["admin"][:15], apiKeys["admin"] + "x", strings.ToUpper(apiKeys["admin"]), "*", strings.Repeat("x", 10_000), tokenOf(t, "alice")}
	for method := range scopes {
		for _, key := range bad {
			if status, answer := w.command(s, key, method, bodyOf(method)); status != http.StatusUnauthorized {
				t.Errorf("/api/%s with the key %.30q is 401, not %d %s", method, key, status, answer)
			}
		}
	}
	for _, header := range []string{"Bearer " + apiKeys["admin"], "Basic " + apiKeys["admin"], apiKeys["admin"], "apikey", "apikey " + apiKeys["admin"][1:]} {
		if status, answer := w.command(s, "", "publish", bodyOf("publish"), "Authorization", header); status != http.StatusUnauthorized {
			t.Errorf("Authorization: %.10q… is no key: 401, not %d %s", header, status, answer)
		}
	}
	if status, answer := w.command(s, "", "", `{"method":"publish","params":{"channel":"room","data":1}}`); status != http.StatusUnauthorized {
		t.Errorf("nor are commands on lines carried out: 401, not %d %s", status, answer)
	}
	if page, err := historyOf(w, "room"); err != nil || len(page) > 0 {
		t.Errorf("nothing was published: %v, %v", page, err)
	}
	ring, err := apikey.Open(nil, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := w.command(w.api(func(o *serverapi.Options) { o.Keys = ring }), "", "publish", bodyOf("publish")); status != http.StatusForbidden {
		t.Errorf("without any key in the settings the API is closed: 403, not %d %s", status, answer)
	}
}

func TestAKeyDoesWhatItsScopeSays(t *testing.T) {
	w := start(t, gateway.Options{})
	s := w.api(nil)
	for _, name := range methodsOf(t) {
		if name != "batch" && scopes[name] == "" {
			t.Errorf("the method %s has no scope in this test; say who may call it", name)
		}
	}
	for method, needed := range scopes {
		for scope, key := range apiKeys {
			allowed := scope == needed || scope == "admin"
			status, answer := w.command(s, key, method, bodyOf(method))
			if (status != http.StatusForbidden) != allowed {
				t.Errorf("/api/%s with a key of scope %s: %d %s", method, scope, status, answer)
			}
			for _, wrapped := range []struct{ path, body string }{
				{"batch", fmt.Sprintf(`{"commands":[{%q:%s}]}`, method, bodyOf(method))},
				{"batch", fmt.Sprintf(`{"parallel":true,"commands":[{%q:%s}]}`, method, bodyOf(method))},
				{"", fmt.Sprintf(`{"method":%q,"params":%s}`, method, bodyOf(method))},
			} {
				_, answer := w.command(s, key, wrapped.path, wrapped.body)
				if refused := strings.Contains(answer, `"code":103`); refused == allowed {
					t.Errorf("/api/%s of %s with a key of scope %s: %s", wrapped.path, wrapped.body, scope, answer)
				}
			}
		}
	}
	if _, answer := w.command(s, apiKeys["admin"], "batch", `{"commands":[{"batch":{"commands":[]}}]}`); !strings.Contains(answer, `"code":107`) {
		t.Errorf("a batch in a batch is refused, not answered with %s", answer)
	}
}

// methodsOf are the methods that the document of the API names.
func methodsOf(t *testing.T) (names []string) {
	t.Helper()
	for line := range strings.Lines(string(serverapi.Document())) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), `"/api/`); ok {
			name, _, _ = strings.Cut(name, `"`)
			names = append(names, name)
		}
	}
	if len(names) < len(scopes) {
		t.Fatalf("the document names the methods, not only %q", names)
	}
	return names
}

func TestGuessingKeysIsSlowedDown(t *testing.T) {
	w := start(t, gateway.Options{})
	from := "203.0.113.1"
	s := w.api(func(o *serverapi.Options) {
		o.Address = func(*http.Request) netip.Addr { return netip.MustParseAddr(from) }
	})
	limited := 0
	for i := range 100 {
		status, _ := w.command(s, fmt.Sprintf("guess-%016d", i), "publish", bodyOf("publish"))
		if status == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited < 70 {
		t.Errorf("of 100 guesses of an address most are not even looked at, not %d", limited)
	}
	if status, _ := w.command(s, apiKeys["admin"], "publish", bodyOf("publish")); status != http.StatusTooManyRequests {
		t.Errorf("even the right key has to wait then, so that no guess is told from another: 429, not %d", status)
	}
	from = "203.0.113.2"
	if status, _ := w.command(s, apiKeys["admin"], "publish", bodyOf("publish")); status != http.StatusOK {
		t.Errorf("other addresses are served, not answered with %d", status)
	}
}

// TestKeysAreComparedInConstantTime looks into the code: how long a comparison takes is too fine to be measured in a test. Keys are kept
// as sums alone, every one is compared by crypto/subtle, and no comparison ends the search.
func TestKeysAreComparedInConstantTime(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../httpapi/apikey/apikey.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	ast.Inspect(file, func(n ast.Node) bool {
		f, ok := n.(*ast.FuncDecl)
		if !ok || f.Name.Name != "match" {
			return true
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			loop, ok := n.(*ast.RangeStmt)
			if !ok {
				return true
			}
			ast.Inspect(loop.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BranchStmt, *ast.ReturnStmt, *ast.IfStmt:
					t.Error("the search must look at every key, however early one matches")
				case *ast.SelectorExpr:
					found = found || n.Sel.Name == "ConstantTimeCompare"
				}
				return true
			})
			return false
		})
		return false
	})
	if !found {
		t.Error("match must compare every key by subtle.ConstantTimeCompare")
	}
}

func TestBodiesOfTheServerAPIAreBounded(t *testing.T) {
	w := start(t, gateway.Options{})
	s := w.api(func(o *serverapi.Options) { o.Body = 1 << 16 })
	if status, answer := w.command(s, apiKeys["admin"], "publish", `{"channel":"room","data":"`+strings.Repeat("x", 1<<16)+`"}`); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that is too large is 413, not %d %s", status, answer)
	}
	many := `{"commands":[` + strings.TrimSuffix(strings.Repeat(`{"info":{}},`, 1001), ",") + `]}`
	if _, answer := w.command(s, apiKeys["admin"], "batch", many); !strings.Contains(answer, `"code":106`) {
		t.Errorf("a batch of 1001 is error 106, not %s", answer)
	}
	if _, answer := w.command(s, apiKeys["admin"], "broadcast", `{"data":1,"channels":[`+strings.TrimSuffix(strings.Repeat(`"a",`, 1001), ",")+`]}`); !strings.Contains(answer, `"code":106`) {
		t.Errorf("a broadcast into 1001 channels is error 106, not %s", answer)
	}
}
