package testserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// RepoRoot returns the folder of this module's go.mod, looking upward from the working folder.
func RepoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module barrage\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod of module barrage here or above: run this inside the repository")
		}
		dir = up
	}
}
