//go:build system

package js_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	js "barrage/clients/js"
)

// most is how large the client may be as it reaches a browser: minified and compressed by gzip, in bytes.
const most = 5_000

// tool runs a program of node_modules and returns what it writes.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join("node_modules", ".bin", name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v must succeed (make deps installs it): %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestModules(t *testing.T) {
	files, err := filepath.Glob("test/*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests found in clients/js/test: %v", err)
	}
	out, err := exec.Command("node", append([]string{"--test"}, files...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("the tests of the client must pass (they need Node.js 20 or newer): %v\n%s", err, out)
	}
}

func TestTypesAreThoseOfTheSource(t *testing.T) {
	dir := t.TempDir()
	tool(t, "tsc", "--project", "tsconfig.json", "--outDir", dir)
	want, err := os.ReadFile(filepath.Join(dir, "barrage.d.ts"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("barrage.d.ts")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("barrage.d.ts is not what barrage.js says (%v); run npm run types in clients/js", err)
	}
	tool(t, "tsc", "--project", "test/tsconfig.json")
}

func TestTheClientIsSmall(t *testing.T) {
	out := filepath.Join(t.TempDir(), "barrage.min.js")
	tool(t, "esbuild", "barrage.js", "--minify", "--format=esm", "--target=es2022", "--log-level=warning", "--outfile="+out)
	minified, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if _, err := w.Write(minified); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the client has %d bytes, %d minified, %d minified and compressed by gzip", len(js.Module()), len(minified), packed.Len())
	if packed.Len() > most {
		t.Errorf("minified and compressed the client has %d bytes; it must stay below %d", packed.Len(), most)
	}
}

func TestThePackageHoldsTheClientAndNothingElse(t *testing.T) {
	out, err := exec.Command("npm", "pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error").Output()
	if err != nil {
		t.Fatalf("npm pack --dry-run must succeed: %v", err)
	}
	var packages []struct {
		Name  string
		Files []struct{ Path string }
	}
	if err := json.Unmarshal(out, &packages); err != nil || len(packages) != 1 {
		t.Fatalf("npm pack says what it would pack, got %s, %v", out, err)
	}
	var files []string
	for _, f := range packages[0].Files {
		files = append(files, f.Path)
	}
	slices.Sort(files)
	want := []string{"LICENSE", "README.md", "barrage.d.ts", "barrage.js", "package.json"}
	if packages[0].Name != "barrage-client" || !slices.Equal(files, want) {
		t.Errorf("the package %s holds %v; barrage-client must hold %v", packages[0].Name, files, want)
	}
	ours, err := os.ReadFile("LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := os.ReadFile("../../LICENSE"); err != nil || !bytes.Equal(ours, theirs) {
		t.Errorf("clients/js/LICENSE is the repository's: %v", err)
	}
}

func TestThePackageHasNoDependencies(t *testing.T) {
	text, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var p map[string]any
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"dependencies", "peerDependencies", "optionalDependencies"} {
		if p[key] != nil {
			t.Errorf("package.json has %s; the client must need nothing", key)
		}
	}
	if p["license"] != "Apache-2.0" {
		t.Errorf("the license is %v; it must be the repository's, Apache-2.0", p["license"])
	}
}
