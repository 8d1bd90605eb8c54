// Package migration reads numbered SQL files: how a journal's schema came about, step by step. It opens no database.
package migration

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Step is one migration. Running steps 1..n in order on an empty database gives version n of the schema.
type Step struct {
	Version int
	Name    string
	SQL     string
}

// Load reads all files named NNNN_what.sql in the folder migrations of fsys. Their numbers must be 1, 2, 3, …
func Load(fsys fs.FS) ([]Step, error) {
	names, err := fs.Glob(fsys, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		base := strings.TrimPrefix(name, "migrations/")
		number, _, _ := strings.Cut(base, "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("migration %s: the name must begin with its number", base)
		}
		steps = append(steps, Step{Version: version, Name: base, SQL: string(text)})
	}
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Compare(a.Version, b.Version) })
	for i, s := range steps {
		if s.Version != i+1 {
			return nil, fmt.Errorf("migration %s: number %d is expected in its place", s.Name, i+1)
		}
	}
	return steps, nil
}

// MustLoad is Load for embedded files, which are tested with the program.
func MustLoad(fsys fs.FS) []Step {
	steps, err := Load(fsys)
	if err != nil {
		panic(err)
	}
	return steps
}
