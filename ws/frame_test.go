package ws

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	gobwas "github.com/gobwas/ws"

	"barrage/proto"
)

// code is the close code that an error carries, 0 for none.
func code(err error) uint16 {
	if c, ok := errors.AsType[proto.Close](err); ok {
		return c.Code
	}
	return 0
}

func TestParseHeader(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	for _, c := range []struct {
		bytes string
		want  Header
	}{
		{"\x81\x05", Header{Fin: true, Op: OpText, Length: 5}},
		{"\x01\x7d", Header{Op: OpText, Length: 125}},
		{"\x82\x7e\x00\x7e", Header{Fin: true, Op: OpBinary, Length: 126}},
		{"\x82\x7e\xff\xff", Header{Fin: true, Op: OpBinary, Length: 0xFFFF}},
		{"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", Header{Fin: true, Op: OpBinary, Length: 0x10000}},
		{"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", Header{Fin: true, Op: OpBinary, Length: 1<<63 - 1}},
		{"\xf0\x80\x01\x02\x03\x04", Header{Fin: true, RSV: 7, Masked: true, Key: key}},
		{"\x4f\xfe\x01\x00\x01\x02\x03\x04", Header{RSV: 4, Op: 15, Masked: true, Key: key, Length: 256}},
	} {
		for n := range len(c.bytes) {
			if _, took, err := ParseHeader([]byte(c.bytes[:n])); took != 0 || err != nil {
				t.Errorf("%d bytes of the header %x should ask for more, not take %d (%v)", n, c.bytes, took, err)
			}
		}
		got, n, err := ParseHeader([]byte(c.bytes + "payload"))
		if got != c.want || n != len(c.bytes) || err != nil {
			t.Errorf("%x should be read as %+v, not as %+v in %d bytes (%v)", c.bytes, c.want, got, n, err)
		}
		if got := AppendHeader([]byte("x"), c.want); string(got) != "x"+c.bytes {
			t.Errorf("%+v should be written as %x, not as %x", c.want, c.bytes, got[1:])
		}
	}
	for _, b := range []string{
		"\x81\x7e\x00\x00", "\x81\x7e\x00\x7d", // RFC 6455, section 5.2: the fewest bytes
		"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
		"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", // the highest bit
	} {
		if _, n, err := ParseHeader([]byte(b)); code(err) != 1002 || n != 0 {
			t.Errorf("the header %x should be refused with 1002, not with %v", b, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("\x81\x85\x01\x02\x03\x04hello"))
	f.Add([]byte("\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseHeader(b)
		want, wantErr := gobwas.ReadHeader(bytes.NewReader(b))
		switch {
		case err != nil:
			if code(err) != 1002 || n != 0 {
				t.Fatalf("%x is refused with %d bytes taken and %v", b, n, err)
			}
		case n == 0:
			if wantErr == nil {
				t.Fatalf("%x is a whole header, but more is asked for", b)
			}
		default:
			if !bytes.Equal(AppendHeader(nil, h), b[:n]) {
				t.Fatalf("%x is read as %+v and written as %x", b[:n], h, AppendHeader(nil, h))
			}
			same := gobwas.Header{Fin: h.Fin, Rsv: h.RSV, OpCode: gobwas.OpCode(h.Op), Masked: h.Masked, Mask: h.Key, Length: int64(h.Length)}
			if wantErr != nil || want != same {
				t.Fatalf("%x is read as %+v, by another library as %+v (%v)", b, h, want, wantErr)
			}
		}
	})
}

func TestMask(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	if b := []byte("Hello"); true { // RFC 6455, section 5.7
		Mask(key, 0, b)
		if string(b) != "\x7f\x9f\x4d\x51\x58" {
			t.Errorf("the masked Hello of RFC 6455 should be 7f9f4d5158, not %x", b)
		}
	}
	for n := range 100 {
		for pos := range 9 {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			want := bytes.Clone(b)
			gobwas.Cipher(want, key, pos)
			if Mask(key, pos, b); !bytes.Equal(b, want) {
				t.Fatalf("%d bytes masked from position %d should be\n%x, not\n%x", n, pos, want, b)
			}
		}
	}
}

func TestAppendFrames(t *testing.T) {
	for _, c := range []struct {
		what      string
		got, want []byte
	}{ // RFC 6455, section 5.7
		{"an unmasked text", AppendFrame(nil, OpText, []byte("Hello")), []byte("\x81\x05Hello")},
		{
			"a masked text", AppendMaskedFrame(nil, OpText, [4]byte{0x37, 0xfa, 0x21, 0x3d}, []byte("Hello")),
			[]byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
		},
		{"a ping", AppendFrame(nil, OpPing, []byte("Hello")), []byte("\x89\x05Hello")},
		{"256 bytes", AppendFrame(nil, OpBinary, make([]byte, 256)), append([]byte("\x82\x7e\x01\x00"), make([]byte, 256)...)},
		{"a close", AppendClose(nil, 1000, "bye"), []byte("\x88\x05\x03\xe8bye")},
		{"a close without code", AppendClose(nil, 0, "bye"), []byte("\x88\x00")},
		{"a close with a long reason", AppendClose(nil, 3001, strings.Repeat("x", 200)), []byte("\x88\x7d\x0b\xb9" + strings.Repeat("x", 123))},
		{
			"a close with a long reason of 3 bytes a character", AppendClose(nil, 3001, "ab"+strings.Repeat("大", 50)),
			[]byte("\x88\x7c\x0b\xb9ab" + strings.Repeat("大", 40)),
		},
		{"a close with a bad reason", AppendClose(nil, 3001, "a\xff"), []byte("\x88\x06\x0b\xb9a\ufffd")},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s should be the frame\n%x, not\n%x", c.what, c.want, c.got)
		}
	}
}

func TestParseClose(t *testing.T) {
	if code, reason, err := ParseClose(nil); code != 1005 || reason != nil || err != nil {
		t.Errorf("a close without body should have code 1005, not %d, %q, %v", code, reason, err)
	}
	if _, _, err := ParseClose([]byte{3}); code(err) != 1002 {
		t.Errorf("a close with one byte of body should be refused with 1002, not with %v", err)
	}
	if _, _, err := ParseClose([]byte("\x03\xe8a\xff")); code(err) != 1007 {
		t.Errorf("a close whose reason is not valid UTF-8 should be refused with 1007, not with %v", err)
	}
	bad := func(c int) bool {
		return c < 1000 || c == 1004 || c == 1005 || c == 1006 || c >= 1015 && c < 3000 || c >= 5000
	}
	for c := range 1 << 16 {
		got, reason, err := ParseClose([]byte{byte(c >> 8), byte(c), 'x'})
		if bad(c) && code(err) != 1002 {
			t.Errorf("a close with code %d should be refused with 1002, not with %v", c, err)
		} else if !bad(c) && (int(got) != c || string(reason) != "x" || err != nil) {
			t.Errorf("a close with code %d should be accepted, not read as %d, %q, %v", c, got, reason, err)
		}
	}
}

func FuzzClose(f *testing.F) {
	f.Add(uint16(1000), "bye")
	f.Add(uint16(3001), strings.Repeat("大", 50))
	f.Add(uint16(0), "\xff")
	f.Fuzz(func(t *testing.T, c uint16, reason string) {
		frame := AppendClose(nil, c, reason)
		h, n, err := ParseHeader(frame)
		if err != nil || !h.Fin || h.Op != OpClose || h.Masked || h.Length > MaxControl || n+int(h.Length) != len(frame) {
			t.Fatalf("the close frame %x of %d, %q is not one (%v)", frame, c, reason, err)
		}
		got, text, err := ParseClose(frame[n:])
		if err != nil {
			if code(err) != 1002 {
				t.Fatalf("the close frame of %d, %q is refused with %v", c, reason, err)
			}
			return
		}
		want := string([]rune(reason))
		if c == 0 {
			c, want = NoStatus, ""
		}
		if got != c || !utf8.Valid(text) || !strings.HasPrefix(want, string(text)) || len(text) < min(len(want), MaxReason-3) {
			t.Fatalf("the close of %d, %q is read as %d, %q", c, want, got, text)
		}
		// And whatever bytes there are, reading them must not panic.
		_, _, _ = ParseClose([]byte(reason))
	})
}

func BenchmarkMask(b *testing.B) {
	for _, n := range []int{5, 20, 100, 1000, 64 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			buf := make([]byte, n)
			key := [4]byte{1, 2, 3, 4}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				Mask(key, 1, buf)
			}
		})
	}
}

func BenchmarkMaskOfGobwas(b *testing.B) {
	for _, n := range []int{20, 64 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			buf := make([]byte, n)
			key := [4]byte{1, 2, 3, 4}
			b.SetBytes(int64(n))
			for b.Loop() {
				gobwas.Cipher(buf, key, 1)
			}
		})
	}
}

func BenchmarkParseHeader(b *testing.B) {
	h := []byte("\x81\x85\x01\x02\x03\x04hello")
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = ParseHeader(h)
	}
}
