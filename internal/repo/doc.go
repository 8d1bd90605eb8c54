// Package repo holds the tests that the repository does on itself: which package may import which, that each has a
// comment, that tracked files name nobody's machine, and that what deploy/ says fits the program.
package repo
