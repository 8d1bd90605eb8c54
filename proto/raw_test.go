package proto

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendRawText(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{`"hello"`, `hello`},
		{`""`, ``},
		{`"\"\\\/\b\f\n\r\t\u0000\u00e4\u00E4"`, "\"\\/\b\f\n\r\t\x00ää"},
		{`"\ud83d\ude00 😀"`, "😀 😀"},
		{`"\ud83d"`, "\ufffd"},
		{`"\ud83d\u0041\ud83d\ud83d\ude00\ude00x"`, "\ufffdA\ufffd😀\ufffdx"},
		{`{"a":"\n"}`, `{"a":"\n"}`},
		{`["a"]`, `["a"]`},
		{`null`, `null`},
		{`12.5`, `12.5`},
		{``, ``},
		// Not JSON: no protocol stores it, and it must not break anything.
		{`"abc`, `"abc`},
		{`"\u12`, `"\u12`},
		{`"a"b`, `"a"b`},
	} {
		if got := AppendRawText([]byte("before "), []byte(c.data)); string(got) != "before "+c.want {
			t.Errorf("the text of %s should be %q, not %q", c.data, c.want, got[len("before "):])
		}
	}
}

func FuzzRaw(f *testing.F) {
	f.Add("hello")
	f.Add("\x00\"\\\n\u2028 <b>大家好</b> 😀")
	f.Add("\xff\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, text string) {
		data := RawToData([]byte(text))
		if !json.Valid(data) || strings.ContainsAny(string(data), "\n\r") {
			t.Fatalf("the data %q of the text %q is not compact JSON", data, text)
		}
		want := text
		if !utf8.ValidString(text) {
			want = string([]rune(text))
		}
		if got := AppendRawText(nil, data); string(got) != want {
			t.Fatalf("the text %q comes back as %q", text, got)
		}
	})
}

func BenchmarkRaw(b *testing.B) {
	text := []byte("hello everyone, 大家好! \"quoted\"")
	dst := make([]byte, 0, 1024)
	b.Run("in", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = RawToData(text)
		}
	})
	b.Run("out", func(b *testing.B) {
		data := RawToData(text)
		b.ReportAllocs()
		for b.Loop() {
			dst = AppendRawText(dst[:0], data)
		}
	})
}
