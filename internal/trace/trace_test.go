package trace

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	got, err := Parse(strings.NewReader("t_ms,author,bytes\r\n0,1,25\n14,2,0\n14,1,64"))
	want := []Entry{{0, 1, 25}, {14 * time.Millisecond, 2, 0}, {14 * time.Millisecond, 1, 64}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}

func TestBadRowsNameTheirLine(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		line       int
	}{
		{"", "the file is empty", 1},
		{"0,1,25\n", "the first line must be t_ms,author,bytes", 1},
		{"t_ms,author,bytes\n", "there are no messages", 2},
		{"t_ms,author,bytes\n0,1\n", "a row has 3 columns", 2},
		{"t_ms,author,bytes\n0,1,1\n\n", "a row has 3 columns", 3},
		{"t_ms,author,bytes\n0,1,1\n5,1,1\n4,1,1\n", "4 ms comes before the 5 ms of the row above", 4},
		{"t_ms,author,bytes\n-1,1,1\n", "t_ms must be a whole number from 0", 2},
		{"t_ms,author,bytes\n0,0,1\n", "author must be a whole number from 1", 2},
		{"t_ms,author,bytes\n0,1,16777217\n", "bytes must be a whole number from 0 to 16777216", 2},
		{"t_ms,author,bytes\n0,1,1.5\n", `not "1.5"`, 2},
		{"t_ms,author,bytes\n99999999999999999999,1,1\n", "t_ms must be", 2},
		{"t_ms,author,bytes\n" + strings.Repeat("0", 5000), "longer than 4096 bytes", 2},
	} {
		_, err := Parse(strings.NewReader(tc.text))
		var e *Error
		if !errors.As(err, &e) || e.Line != tc.line || !strings.Contains(e.Text, tc.want) {
			t.Errorf("%.40q: want line %d, %q, got %v", tc.text, tc.line, tc.want, err)
		}
	}
}

func entries(ms ...int) []Entry {
	var out []Entry
	for _, m := range ms {
		out = append(out, Entry{At: time.Duration(m) * time.Millisecond, Author: 1})
	}
	return out
}

func TestWindow(t *testing.T) {
	all := entries(0, 5, 5, 9, 20)
	for _, tc := range []struct{ from, to, want int }{{0, 100, 5}, {5, 9, 2}, {5, 10, 3}, {21, 30, 0}, {9, 5, 0}, {0, 0, 0}} {
		got := Window(all, time.Duration(tc.from)*time.Millisecond, time.Duration(tc.to)*time.Millisecond)
		if len(got) != tc.want {
			t.Errorf("from %d to %d there are %d messages, got %d", tc.from, tc.to, tc.want, len(got))
		}
	}
}

func TestBusiestHoldsAtLeastAsManyAsEveryOtherWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.SliceOfN(rapid.IntRange(0, 200), 1, 50).Draw(t, "ms")
		slices.Sort(ms)
		d := time.Duration(rapid.IntRange(1, 100).Draw(t, "d")) * time.Millisecond
		all := entries(ms...)
		from, to := Busiest(all, d)
		best := len(Window(all, from, to))
		for start := range 201 {
			at := time.Duration(start) * time.Millisecond
			if n := len(Window(all, at, at+d)); n > best {
				t.Fatalf("the window of %v at %v holds %d messages, the busiest at %v only %d", d, at, n, from, best)
			}
		}
	})
}

func TestTextHasExactlyTheLength(t *testing.T) {
	for n := range 300 {
		for i := range uint64(20) {
			s := Text(1, i, n)
			if len(s) != n || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
				t.Fatalf("text %d of %d bytes is valid UTF-8 of that length, got %d bytes: %q", i, n, len(s), s)
			}
			if s != Text(1, i, n) {
				t.Fatalf("the same seed gives the same text")
			}
		}
	}
	if Text(1, 1, 100) == Text(2, 1, 100) || Text(1, 1, 100) == Text(1, 2, 100) {
		t.Error("seeds and numbers give different texts")
	}
}

func TestSmallTrace(t *testing.T) {
	f, err := os.Open("../../testdata/traces/small.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	writeSmall(&written)
	if want, _ := os.ReadFile(f.Name()); !bytes.Equal(written.Bytes(), want) {
		t.Error("testdata/traces/small.csv is not what its generator makes; run: go test ./internal/trace -run Small -write")
	}
	if last := all[len(all)-1].At; len(all) < 250 || len(all) > 400 || last < 55*time.Second || last > 60*time.Second {
		t.Errorf("the small trace has about 300 messages in a minute, got %d in %v", len(all), last)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("t_ms,author,bytes\n0,1,25\n14,2,64\n"))
	f.Add([]byte("\xef\xbb\xbft_ms,author,bytes\r\n0,1,0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := Parse(bytes.NewReader(text))
		if (err == nil) != (len(all) > 0) {
			t.Errorf("a trace has messages or an error: %d, %v", len(all), err)
		}
		for i, e := range all {
			if e.Author < 1 || e.Bytes < 0 || e.Bytes > MaxBytes || e.At < 0 || i > 0 && e.At < all[i-1].At {
				t.Errorf("entry %d is out of bounds: %+v", i, e)
			}
		}
	})
}
