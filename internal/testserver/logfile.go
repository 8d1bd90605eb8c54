package testserver

import (
	"os"
	"path/filepath"
)

// logFile collects what a server prints. A file, not a pipe: the server never waits for a reader, and what it said
// last is there after a crash.
type logFile struct {
	file *os.File
	path string
}

func newLogFile(dir, name string) (*logFile, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &logFile{file: f, path: path}, nil
}

// text is all that was written so far; empty for nil.
func (l *logFile) text() string {
	if l == nil {
		return ""
	}
	text, _ := os.ReadFile(l.path)
	return string(text)
}

func (l *logFile) close() {
	if l != nil {
		l.file.Close()
	}
}
