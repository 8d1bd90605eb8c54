// Package apikey holds the keys of the server API: what each may do, and which one a request has.
//
// Keys are compared by their SHA-256 sums in constant time, each with all, so that how long an answer takes tells nothing about
// them. A key is never part of an error, and nothing here logs one. Keys of a file are taken again when the file has changed and
// then stayed the same for two looks; a file that cannot be used leaves the keys before it in force.
package apikey

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// Scope is what a key may do: any of its bits.
type Scope uint8

// Scopes.
const (
	// Publish is for publish and broadcast.
	Publish Scope = 1 << iota
	// Read is for everything that changes nothing.
	Read
	// Manage is for everything else; only Admin has it.
	Manage

	// Admin is for everything.
	Admin = Publish | Read | Manage
)

// String names the least scope that has s.
func (s Scope) String() string {
	switch s {
	case Publish:
		return "publish"
	case Read:
		return "read"
	case Publish | Read:
		return "publish+read"
	}
	return "admin"
}

// Limits of a key, in bytes, and of how many there are.
const (
	MinBytes = 16
	MaxBytes = 256
	MaxKeys  = 1000
)

// Key is one key as it is compared.
type Key struct {
	// Name is what the key is called in logs.
	Name  string
	Scope Scope
	sum   [sha256.Size]byte
}

// New makes a key. The error does not contain its text.
func New(name string, scope Scope, text string) (Key, error) {
	if len(text) < MinBytes || len(text) > MaxBytes {
		return Key{}, fmt.Errorf("the key %q has %d characters; give %d to %d random ones", name, len(text), MinBytes, MaxBytes)
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return Key{}, fmt.Errorf("the key %q has a character at place %d that cannot stand in a header; use letters, digits and punctuation", name, i+1)
		}
	}
	return Key{Name: name, Scope: scope, sum: sha256.Sum256([]byte(text))}, nil
}

// ParseScope reads publish, read, publish+read or admin.
func ParseScope(text string) (Scope, error) {
	var s Scope
	for part := range strings.SplitSeq(text, "+") {
		switch part {
		case "publish":
			s |= Publish
		case "read":
			s |= Read
		case "admin":
			s |= Admin
		default:
			return 0, errors.New("the scope must be publish, read, publish+read or admin")
		}
	}
	return s, nil
}

// ParseList reads settings of the form NAME:SCOPE:KEY. Errors name the place in the list, from 1.
func ParseList(items []string) ([]Key, error) {
	var keys []Key
	var wrong []error
	for i, item := range items {
		name, rest, _ := strings.Cut(item, ":")
		scope, text, ok := strings.Cut(rest, ":")
		if !ok {
			wrong = append(wrong, fmt.Errorf("api.keys: item %d is not of the form NAME:SCOPE:KEY", i+1))
			continue
		}
		k, err := parse(name, scope, text)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("api.keys: item %d: %w", i+1, err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, errors.Join(append(wrong, unique("api.keys", keys))...)
}

// parseFile reads lines of the form "SCOPE KEY [NAME]"; empty lines and those that begin with # are passed over.
func parseFile(path, content string) ([]Key, error) {
	var keys []Key
	var wrong []error
	number := 0
	for line := range strings.Lines(content) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 || len(fields) > 3 {
			wrong = append(wrong, fmt.Errorf("api.keys_file: %s:%d: the line is not of the form SCOPE KEY [NAME]", path, number))
			continue
		}
		name := fmt.Sprintf("line %d", number)
		if len(fields) == 3 {
			name = fields[2]
		}
		k, err := parse(name, fields[0], fields[1])
		if err != nil {
			wrong = append(wrong, fmt.Errorf("api.keys_file: %s:%d: %w", path, number, err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, errors.Join(append(wrong, unique("api.keys_file", keys))...)
}

func parse(name, scope, text string) (Key, error) {
	const limit = 64
	if name == "" || len(name) > limit {
		return Key{}, fmt.Errorf("the name has %d characters; give 1 to %d", len(name), limit)
	}
	s, err := ParseScope(scope)
	if err != nil {
		return Key{}, err
	}
	return New(name, s, text)
}

// unique wants each key once: which of two scopes it has would be left to chance.
func unique(setting string, keys []Key) error {
	if len(keys) > MaxKeys {
		return fmt.Errorf("%s: there are %d keys; at most %d are allowed", setting, len(keys), MaxKeys)
	}
	seen := map[[sha256.Size]byte]string{}
	for _, k := range keys {
		if other, twice := seen[k.sum]; twice {
			return fmt.Errorf("%s: %q and %q are the same key; remove one", setting, other, k.Name)
		}
		seen[k.sum] = k.Name
	}
	return nil
}

// match looks for the key with the given text. It compares with every key, however early one matches.
func match(keys []Key, text string) (found Key, ok bool) {
	sum := sha256.Sum256([]byte(text))
	at, hit := 0, 0
	for i := range keys {
		same := subtle.ConstantTimeCompare(sum[:], keys[i].sum[:])
		at = subtle.ConstantTimeSelect(same, i, at)
		hit |= same
	}
	if hit == 0 {
		return Key{}, false
	}
	return keys[at], true
}
