package proto

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestFramings(t *testing.T) {
	for _, tt := range []struct {
		framing             Framing
		payload, want, kind string
	}{
		{FrameEvent, `{"a":1}`, "data: {\"a\":1}\n\n", "text/event-stream"},
		{FrameEvent, "", "data: \n\n", "text/event-stream"},
		{FrameEvent, "a\nid: evil\r\rb\r\n", "data: a\ndata: id: evil\ndata: \ndata: b\ndata: \n\n", "text/event-stream"},
		{FrameLine, `{"a":1}`, "{\"a\":1}\n", "application/x-ndjson"},
		{FrameDelimited, strings.Repeat("x", 300), "\xac\x02" + strings.Repeat("x", 300), "application/octet-stream"},
	} {
		if got := tt.framing.Append([]byte("before"), []byte(tt.payload)); string(got) != "before"+tt.want {
			t.Errorf("%.20q is framed as %.40q, not %.40q", tt.payload, tt.want, got)
		}
		if got := tt.framing.ContentType(); got != tt.kind {
			t.Errorf("the type of framing %d is %s, not %s", tt.framing, tt.kind, got)
		}
	}
	if got := string(AppendComment(nil, "a\nb\rc")); got != ": a b c\n\n" {
		t.Errorf("a comment is one line, not %q", got)
	}
	if got := string(AppendRetry(nil, 1500)); got != "retry: 1500\n\n" {
		t.Errorf("a time to wait is a field of its own, not %q", got)
	}
}

// Whatever a client publishes, its message is one line of data.
func TestDataOfAMessageHasNoLineBreaks(t *testing.T) {
	for _, data := range []string{"[1,\r\n2]", "{\"a\"\r:\n1}", `"\r\n"`, "\"\u2028\u0085\""} {
		c, err := ParseCommand([]byte(`{"publish":{"data":` + data + `}}`))
		if err != nil {
			t.Fatalf("%q can be published: %v", data, err)
		}
		if bytes.ContainsAny(c.Data, "\r\n") {
			t.Errorf("what is stored of %q has no line break: %q", data, c.Data)
		}
	}
	for _, data := range []string{"\"a\nb\"", "\"a\rb\""} {
		if _, err := ParseCommand([]byte(`{"publish":{"data":` + data + `}}`)); err == nil {
			t.Errorf("%q is no JSON", data)
		}
	}
	if data := RawToData([]byte("a\r\nb\rc\n")); bytes.ContainsAny(data, "\r\n") {
		t.Errorf("what is stored of a text has no line break: %q", data)
	}
}

func FuzzEventID(f *testing.F) {
	for _, id := range []string{"abc/5", "/0", "a/b/9007199254740991", "a/9007199254740992", "", "/", "a\nb/1", "x", "a/-1", "a/01", "a/1 "} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		p, err := ParseEventID(id)
		if err != nil {
			if !errors.Is(err, ErrBadRequest) || len(err.Error()) > 250 {
				t.Errorf("%q is refused with a short sentence, not %v", id, err)
			}
			return
		}
		again := string(AppendEventID(nil, p))
		if q, err := ParseEventID(again); err != nil || q != p {
			t.Errorf("%q is the position %+v, which is written %q, which is %+v, %v", id, p, again, q, err)
		}
		if strings.ContainsAny(again, "\r\n\x00") {
			t.Errorf("an id is one line: %q", again)
		}
	})
}

// Nothing in the data of an event can begin another field or event.
func FuzzEvent(f *testing.F) {
	f.Add("a\nb")
	f.Add("\r\n\r\nevent: x")
	f.Fuzz(func(t *testing.T, data string) {
		b := AppendEvent(nil, "name", &Position{"e", 7}, func(b []byte) []byte { return append(b, data...) })
		rest, ok := strings.CutPrefix(string(b), "event: name\nid: e/7\n")
		rest, end := strings.CutSuffix(rest, "\n\n")
		if !ok || !end {
			t.Fatalf("an event has its name, its id, its data and an empty line: %q", b)
		}
		var lines []string
		for line := range strings.SplitSeq(rest, "\n") {
			value, ok := strings.CutPrefix(line, "data: ")
			if !ok || strings.Contains(value, "\r") {
				t.Fatalf("%q becomes fields of data alone, not %q", data, b)
			}
			lines = append(lines, value)
		}
		if got, want := strings.Join(lines, "\n"), strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data); got != want {
			t.Errorf("%q comes out as %q", want, got)
		}
	})
}
