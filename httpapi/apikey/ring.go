package apikey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"barrage/internal/every"
)

// maxFile bounds the file of keys, in bytes.
const maxFile = 1 << 20

// Ring is all keys in force. Its methods may be called from any goroutine.
type Ring struct {
	path    string // of the file; empty for none
	log     *slog.Logger
	fixed   []Key                 // those of the settings
	current atomic.Pointer[[]Key] // fixed and those of the file
	seen    every.Settled[string] // owner: Watch; what the file holds, or why it cannot be read
}

// Open makes a ring of keys, and of those in the file at path unless that is empty. The error says what to do and names the setting.
func Open(fixed []Key, path string, log *slog.Logger) (*Ring, error) {
	r := &Ring{path: path, log: log, fixed: fixed}
	keys := fixed
	if path != "" {
		content, err := read(path)
		if err != nil {
			return nil, err
		}
		if keys, err = r.with(content); err != nil {
			return nil, err
		}
		r.seen = every.Settle(content)
	}
	r.current.Store(&keys)
	return r, nil
}

// Empty says that there are no keys at all.
func (r *Ring) Empty() bool { return len(*r.current.Load()) == 0 }

// Find looks for the key with the given text.
func (r *Ring) Find(text string) (Key, bool) { return match(*r.current.Load(), text) }

// Watch looks at the file again and again until ctx ends. It is called once; without a file it returns at once.
func (r *Ring) Watch(ctx context.Context, interval time.Duration) {
	if r.path != "" {
		every.Interval(ctx, interval, r.look)
	}
}

// look takes the keys that the file holds now, when it has changed and can be used. A file that is half written is without keys that
// are still in it: it must hold the same at two looks.
func (r *Ring) look() {
	content, err := read(r.path)
	now := content
	if err != nil {
		now = err.Error()
	}
	if !r.seen.Changed(now) {
		return
	}
	var keys []Key
	if err == nil {
		keys, err = r.with(content)
	}
	if err != nil {
		r.log.Error("the changed file of API keys cannot be used; the keys before stay in force", "error", err)
		return
	}
	r.current.Store(&keys)
	r.log.Info("the API keys were read again", "keys", len(keys))
}

func (r *Ring) with(content string) ([]Key, error) {
	keys, err := parseFile(r.path, content)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(r.fixed, keys)
	return all, unique("api.keys and api.keys_file", all)
}

func read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("api.keys_file: the file %s does not exist", path)
		}
		return "", fmt.Errorf("api.keys_file: the file cannot be read: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("api.keys_file: the file cannot be read: %w", err)
	case len(content) > maxFile:
		return "", fmt.Errorf("api.keys_file: the file %s is larger than 1MiB; is it the right file?", path)
	}
	return string(content), nil
}
