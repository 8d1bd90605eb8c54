package config

import (
	"slices"
	"strings"
)

// nearest gives the name of the setting that is closest to what was written, by edits of the whole name or, a little
// less good, of its last part: both "limits.mesage" and a "message" outside its group find limits.message.
func nearest(written string) string {
	const limit = 64
	if len(written) > limit {
		written = written[:limit]
	}
	written = strings.ToLower(strings.NewReplacer("-", "_", ".", "_").Replace(written))
	best, name := 0, ""
	for i := range settings {
		known := settings[i].Name
		last := known[strings.LastIndex(known, ".")+1:]
		d := min(edits(written, strings.ReplaceAll(known, ".", "_")), edits(written, last)+1)
		if name == "" || d < best {
			best, name = d, known
		}
	}
	return name
}

// nearestOf gives the one of known that is closest to what was written.
func nearestOf(written string, known ...string) string {
	const limit = 64
	written = strings.ToLower(written[:min(len(written), limit)])
	return slices.MinFunc(known, func(a, b string) int { return edits(written, a) - edits(written, b) })
}

// edits counts the insertions, deletions, replacements and swaps of neighbours that turn a into b.
func edits(a, b string) int {
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
