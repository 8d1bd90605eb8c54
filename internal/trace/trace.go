// Package trace reads recorded chats that are reduced to facts: when each message was sent, by which numbered author,
// and how long its text was. It finds parts of them, and invents texts of the same lengths.
//
// A trace is a CSV file with the header t_ms,author,bytes and one row per message: milliseconds since the first
// message, ascending; the author's number, from 1; and the length of the text in bytes of UTF-8, from 0 to MaxBytes.
package trace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Limits of a trace.
const (
	// MaxBytes is the longest text of a message.
	MaxBytes = 16 << 20
	// MaxEntries is the most rows, so that a wrong file cannot fill the memory.
	MaxEntries = 10_000_000
	// maxRow is the longest row, in bytes.
	maxRow = 4096
	// maxMillis is the latest time of a message: a hundred years.
	maxMillis = 100 * 366 * 24 * 3600 * 1000
)

const header = "t_ms,author,bytes"

// Entry is one message of a trace.
type Entry struct {
	// At is when the message was sent, since the first message of the recording.
	At time.Duration
	// Author numbers authors from 1.
	Author int
	// Bytes is the length of the text.
	Bytes int
}

// Error is a row that cannot be used.
type Error struct {
	// Line counts from 1, the header being line 1.
	Line int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// Parse reads a whole trace. What is wrong with its content is an *Error with the line.
func Parse(r io.Reader) ([]Entry, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxRow), maxRow)
	var entries []Entry
	n := 0
	for lines.Scan() {
		n++
		row := strings.TrimSuffix(lines.Text(), "\r")
		if n == 1 {
			if strings.TrimPrefix(row, "\ufeff") != header {
				return nil, &Error{1, "the first line must be " + header}
			}
			continue
		}
		if len(entries) == MaxEntries {
			return nil, &Error{n, fmt.Sprintf("there are more than %d messages", MaxEntries)}
		}
		e, err := parseRow(row)
		if err != nil {
			return nil, &Error{n, err.Error()}
		}
		if last := len(entries) - 1; last >= 0 && e.At < entries[last].At {
			return nil, &Error{n, fmt.Sprintf("%d ms comes before the %d ms of the row above; sort the rows by t_ms",
				e.At.Milliseconds(), entries[last].At.Milliseconds())}
		}
		entries = append(entries, e)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, &Error{n + 1, fmt.Sprintf("the line is longer than %d bytes; is this a trace?", maxRow)}
	case err != nil:
		return nil, err
	case n == 0:
		return nil, &Error{1, "the file is empty; the first line must be " + header}
	case len(entries) == 0:
		return nil, &Error{2, "there are no messages"}
	}
	return entries, nil
}

func parseRow(row string) (Entry, error) {
	fields := strings.Split(row, ",")
	if len(fields) != 3 {
		return Entry{}, fmt.Errorf("a row has 3 columns (%s), not %d", header, len(fields))
	}
	at, err := column(fields[0], "t_ms", 0, maxMillis)
	if err != nil {
		return Entry{}, err
	}
	author, err := column(fields[1], "author", 1, 1<<31-1)
	if err != nil {
		return Entry{}, err
	}
	size, err := column(fields[2], "bytes", 0, MaxBytes)
	return Entry{At: time.Duration(at) * time.Millisecond, Author: int(author), Bytes: int(size)}, err
}

func column(text, name string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		if len(text) > 40 {
			text = text[:40]
		}
		return 0, fmt.Errorf("%s must be a whole number from %d to %d, not %q", name, least, most, text)
	}
	return n, nil
}

// Window gives the entries with from <= At < to. It shares memory with entries.
func Window(entries []Entry, from, to time.Duration) []Entry {
	first := sort.Search(len(entries), func(i int) bool { return entries[i].At >= from })
	end := sort.Search(len(entries), func(i int) bool { return entries[i].At >= to })
	return entries[first:max(first, end)]
}

// Busiest gives the window of length d that holds the most messages; the earliest of several. It begins with a
// message.
func Busiest(entries []Entry, d time.Duration) (from, to time.Duration) {
	most, end := 0, 0
	for first, e := range entries {
		for end < len(entries) && entries[end].At < e.At+d {
			end++
		}
		if end-first > most {
			most, from = end-first, e.At
		}
	}
	return from, from + d
}
