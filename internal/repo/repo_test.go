package repo

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// source is one Go file.
type source struct {
	path string // from the root, with slashes
	pkg  string // folder from the root; empty for the root
	file *ast.File
	set  *token.FileSet
	test bool
}

// sources parses all Go files of the module, generated ones and testdata left out.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "bin" || name == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		pkg := strings.TrimSuffix(rel[:len(rel)-len(name)], "/")
		all = append(all, source{path: rel, pkg: pkg, file: f, set: set, test: strings.HasSuffix(name, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// layers are the packages from the floor up; a package imports only from layers below its own, and packages below it
// in its own folder. journal stands for journal/sqlite too.
var layers = [][]string{
	{"proto", "clients"},
	{"fanout", "ws", "config", "web"},
	{"journal", "broker", "client", "auth", "limit"},
	{"channel", "cluster"},
	{"node"},
	{"session", "engine"},
	{"gateway"},
	{"metrics"},
	{"httpapi"},
	{"cmd"},
}

// bans are single edges that the layers would allow, each with its reason. from stands for the packages below it too,
// and "*" for every package of the module.
var bans = []struct{ from, to, why string }{
	{"journal", "broker", "the journal is the truth and does not know that there are hints"},
	{"broker", "journal", "a broker carries bytes; what they mean is the node's business"},
	{"client", "journal", "a client knows the protocol alone"},
	{"client", "broker", "a client knows the protocol alone"},
	{"channel", "broker", "the channel never learns what carries its messages"},
	{"channel", "journal/sqlite", "the channel knows the interface, not an implementation"},
	{"channel", "journal/postgres", "the channel knows the interface, not an implementation"},
	{"channel", "net", "the middle is pure: sockets stay in the engine"},
	{"session", "net", "the middle is pure: sockets stay in the engine"},
	{"proto", "net", "the codec is the floor: bytes in, values out"},
	{"proto", "net/http", "the codec is the floor: bytes in, values out"},
	{"ws", "net", "the codec is the floor: bytes in, values out; the engine owns sockets"},
	{"fanout", "net", "byte logs are written through a seam, so that they can be tested without sockets"},
	{"node", "journal/sqlite", "only cmd chooses an implementation"},
	{"node", "journal/postgres", "only cmd chooses an implementation"},
	{"node", "broker/redis", "only cmd chooses an implementation"},
	{"*", "internal/testserver", "real servers are for tests and demonstrations"},
	{"*", "test", "whole-system tests are at the top"},
	{"*", "github.com/gobwas/ws", "a reference for tests; the product has its own frames"},
	{"*", "github.com/chromedp/chromedp", "the browser is for tests"},
	{"*", "github.com/stretchr/testify", "a failure message is a sentence of the specification, not a diff of values"},
	{"*", "math/rand", "use math/rand/v2"},
	{"*", "log", "loggers are injected: use log/slog"},
	{"*", "io/ioutil", "use io and os"},
}

// within says whether path is pkg or below it.
func within(path, pkg string) bool { return path == pkg || strings.HasPrefix(path, pkg+"/") }

// layerOf returns the layer of a package of this module, -1 when it is in none.
func layerOf(pkg string) int {
	return slices.IndexFunc(layers, func(names []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return within(pkg, n) })
	})
}

// sibling says whether both packages are in the same folder of the top level.
func sibling(a, b string) bool {
	a, _, _ = strings.Cut(a, "/")
	b, _, _ = strings.Cut(b, "/")
	return a == b
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || within(s.pkg, "test") || within(s.pkg, "bench") || within(s.pkg, "internal") || strings.HasSuffix(s.pkg, "test") {
			continue // tests, test kits and benchmarks may look everywhere
		}
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ours := strings.CutPrefix(path, "barrage/")
			for _, b := range bans {
				if (b.from == "*" || within(s.pkg, b.from)) && to == b.to && !within(s.pkg, b.to) {
					t.Errorf("%s imports %s: %s", s.path, path, b.why)
				}
			}
			if !ours || sibling(s.pkg, to) {
				continue
			}
			from, below := layerOf(s.pkg), layerOf(to)
			if from >= 0 && below >= 0 && below >= from {
				t.Errorf("%s imports %s: arrows point down only, and %s is not below %s", s.path, path, to, s.pkg)
			}
		}
	}
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		text := strings.TrimSpace(s.file.Doc.Text())
		documented[s.pkg] = documented[s.pkg] || strings.HasPrefix(text, "Package ") || strings.HasPrefix(text, "Command ")
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no comment that begins with \"Package\" or \"Command\" and says what it promises", pkg)
		}
	}
}

// private matches paths that exist on one developer's machine only.
var private = regexp.MustCompile(`(^|[^A-Za-z0-9_.\-])/(home|root|Users|work)/[A-Za-z]|/tmp/bash`)

func TestTrackedFilesNameNobodysMachine(t *testing.T) {
	list := exec.Command("git", "ls-files", "-z")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Logf("this is no git repository, so nothing is tracked: %v", err)
		return
	}
	for path := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if path == "internal/repo/repo_test.go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || slices.Contains(text, 0) {
			continue // deleted, or not text
		}
		for i, line := range strings.Split(string(text), "\n") {
			if private.MatchString(line) {
				t.Errorf("%s:%d names a path of somebody's machine: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	}
}

// TestSizes logs the tail of long functions and files. It is a report, not a limit.
func TestSizes(t *testing.T) {
	const longFunction, longFile = 60, 500
	for _, s := range sources(t) {
		if n := s.set.Position(s.file.End()).Line; n > longFile && !s.test {
			t.Logf("%s has %d lines", s.path, n)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || s.test {
				continue
			}
			if n := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1; n > longFunction {
				t.Logf("%s: %s has %d lines", s.path, f.Name.Name, n)
			}
		}
	}
}
