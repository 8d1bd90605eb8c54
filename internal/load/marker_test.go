package load

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"barrage/internal/trace"
)

func TestMarkersComeBackFromAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text []byte
		var want []Marker
		for range rapid.IntRange(0, 4).Draw(t, "markers") {
			m := Marker{
				Run: rapid.Uint16Range(0, maxRun).Draw(t, "run"), Stream: rapid.Int32Range(0, maxStream).Draw(t, "stream"),
				Number: rapid.Int32Range(0, maxNumber).Draw(t, "number"), Due: rapid.Int64Range(0, 1<<48-1).Draw(t, "due"),
			}
			text = append(text, rapid.StringMatching(`[~!{}":a-z]{0,20}`).Draw(t, "before")...)
			text = append(text, ' ')
			text = m.append(text)
			want = append(want, m)
		}
		rest := append(text, rapid.StringMatching(`[ a-z]{0,20}`).Draw(t, "after")...)
		for _, w := range want {
			m, r, ok := nextMarker(rest)
			if !ok || m != w {
				t.Fatalf("%q holds %+v, got %+v, %v", text, w, m, ok)
			}
			rest = r
		}
		if m, _, ok := nextMarker(rest); ok {
			t.Fatalf("%q has no more markers, got %+v", text, m)
		}
	})
}

func TestMarkerHasItsSizeAndSurvivesJSON(t *testing.T) {
	m := Marker{maxRun, maxStream, maxNumber, 1<<48 - 1}
	text := m.append(nil)
	if len(text) != MarkerSize {
		t.Errorf("a marker has %d bytes, got %d", MarkerSize, len(text))
	}
	quoted, _ := json.Marshal(string(text))
	if got, _, ok := nextMarker(quoted); !ok || got != m {
		t.Errorf("a marker in JSON is the same, got %+v from %s", got, quoted)
	}
}

func TestInventedTextsHoldNoMarker(t *testing.T) {
	for i := range uint64(2000) {
		if text := trace.Text(i, i, 300); strings.Contains(text, string(markerStart)) {
			t.Fatalf("text %d holds the start of a marker: %q", i, text)
		}
	}
}

func TestMessageTextIsFilledToItsSize(t *testing.T) {
	for _, size := range []int{MarkerSize, MarkerSize + 1, 128, 5000} {
		text := messageText(nil, Marker{Run: 1, Stream: 2, Number: 3, Due: 4}, size)
		if m, _, ok := nextMarker(text); len(text) != size || !ok || m.Number != 3 || !bytes.HasPrefix(text, markerStart) {
			t.Errorf("a message of %d bytes begins with its marker, got %d bytes: %q", size, len(text), text)
		}
	}
}

func FuzzNextMarker(f *testing.F) {
	f.Add([]byte("~!~~!~00000000000000000000"))
	f.Add(Marker{1, 2, 3, 4}.append([]byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, rest, ok := nextMarker(b); ok {
			if again := m.append(nil); !bytes.Contains(b[:len(b)-len(rest)], again) {
				t.Errorf("%q: what was found, %+v, is written %q", b, m, again)
			}
		}
	})
}
