package security

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestEveryAttackIsDocumented holds the table of docs/security.md and the tests of this package, those with the tag system too,
// together.
func TestEveryAttackIsDocumented(t *testing.T) {
	matches := func(path, pattern string) (names []string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
		return names
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests []string
	for _, file := range files {
		tests = append(tests, matches(file, `(?m)^func (Test\w+)\(t \*testing\.T\)`)...)
	}
	listed := matches("../../docs/security.md", "(?m)^\\| [^|]+ \\| [^|]+ \\| `(Test\\w+)` \\|$")
	for _, name := range tests {
		if name != t.Name() && !slices.Contains(listed, name) {
			t.Errorf("docs/security.md does not say what %s tries", name)
		}
	}
	for i, name := range listed {
		if !slices.Contains(tests, name) {
			t.Errorf("docs/security.md names %s, which is no test of this package", name)
		}
		if slices.Contains(listed[:i], name) {
			t.Errorf("docs/security.md names %s twice", name)
		}
	}
}
