package ws

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"pgregory.net/rapid"
)

// deflated makes the payload of a deflated message by the standard library: parts with a flush after each.
func deflated(level int, parts ...string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err)
	}
	for _, part := range parts {
		_, _ = w.Write([]byte(part))
		_ = w.Flush()
	}
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// final makes a payload whose blocks end with BFINAL after each part.
func final(level int, parts ...string) string {
	var b bytes.Buffer
	for _, part := range parts {
		w, err := flate.NewWriter(&b, level)
		if err != nil {
			panic(err)
		}
		_, _ = w.Write([]byte(part))
		_ = w.Close()
	}
	return b.String() + "\x00" // the beginning of the empty block that the receiver completes: section 7.2.3.4
}

// zeros is a bomb: n bytes of 0, of which about a thousandth is sent.
func zeros(n int) string { return deflated(9, strings.Repeat("\x00", n)) }

// dynamic is a first byte with BTYPE 10.
const dynamic = "\x04"

func TestDeflatedMessages(t *testing.T) {
	long := strings.Repeat("ab", 100) // of 200 bytes, the limit
	hello := deflated(-1, "Hello")
	for _, c := range []struct {
		what   string
		stream string
		code   uint16
		events []string
	}{
		// The examples of RFC 7692.
		{"one compressed block (7.2.3.1)", masked(0xC1, "\xf2\x48\xcd\xc9\xc9\x07\x00"), 0, []string{text("Hello")}},
		{"one compressed block in fragments (7.2.3.1)", masked(0x41, "\xf2\x48\xcd") + masked(0x80, "\xc9\xc9\x07\x00"), 0, []string{text("Hello")}},
		{"a second message without context (7.2.3.2)", masked(0xC1, "\xf2\x48\xcd\xc9\xc9\x07\x00") + masked(0xC1, "\xf2\x48\xcd\xc9\xc9\x07\x00"), 0, []string{text("Hello"), text("Hello")}},
		{"a second message that refers to the first (7.2.3.2)", masked(0xC1, "\xf2\x48\xcd\xc9\xc9\x07\x00") + masked(0xC1, "\xf2\x00\x11\x00\x00"), 1007, []string{text("Hello")}},
		{"a block with no compression (7.2.3.3)", masked(0xC1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), 0, []string{text("Hello")}},
		{"a block with BFINAL (7.2.3.4)", masked(0xC1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), 0, []string{text("Hello")}},
		{"two blocks in one message (7.2.3.5)", masked(0xC1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), 0, []string{text("Hello")}},
		{"an empty message (7.2.3.6)", masked(0xC1, "\x00"), 0, []string{text("")}},
		{"a last fragment that is empty (7.2.3.6)", masked(0x41, hello) + masked(0x80, ""), 0, []string{text("Hello")}},

		{"a message that is not deflated", masked(0x81, "Hello") + masked(0xC1, hello) + masked(0x82, "Hello"), 0, []string{text("Hello"), text("Hello"), blob("Hello")}},
		{"a binary message", masked(0xC2, deflated(-1, "\xff\x00\xfe")), 0, []string{blob("\xff\x00\xfe")}},
		{"an empty message with a full flush", masked(0xC1, "\x02\x00"), 0, []string{text("")}},
		{"an empty message with BFINAL", masked(0xC1, "\x03\x00\x00"), 0, []string{text("")}},
		{"empty fragments", masked(0x41, "") + masked(0x00, "") + masked(0x80, hello), 0, []string{text("Hello")}},
		{
			"control frames between fragments", masked(0x41, hello[:3]) + masked(0x89, "p") + masked(0x00, hello[3:5]) + masked(0x8A, "") + masked(0x80, hello[5:]), 0,
			[]string{ping("p"), pong(""), text("Hello")},
		},
		{"blocks of nothing with their own codes", masked(0xC1, dynamicBlocks(8)+"\x00"), 0, []string{text("")}},
		{"several blocks with BFINAL", masked(0xC1, final(-1, "Hel", "", "lo", "!")), 0, []string{text("Hello!")}},
		{"a last block of the sender's with BFINAL that the receiver completes", masked(0xC1, strings.TrimSuffix(final(-1, "Hello"), "\x00\x00\xff\xff\x00")), 0, []string{text("Hello")}},
		{"a character cut by blocks", masked(0xC1, deflated(-1, "a\xe5", "\xa4", "\xa7b")), 0, []string{text("a大b")}},
		{"a message of the largest size", masked(0xC1, deflated(-1, long)), 0, []string{text(long)}},
		{"a message of the largest size that does not shrink", masked(0xC1, deflated(0, long[:67], long[67:134], long[134:])), 0, []string{text(long)}},

		{"RSV1 on a fragment that is not the first (6)", masked(0x41, hello[:3]) + masked(0xC0, hello[3:]), 1002, nil},
		{"RSV1 on a later fragment of a message that is not deflated (6)", masked(0x01, "Hel") + masked(0xC0, "lo"), 1002, nil},
		{"RSV1 on a ping (6)", masked(0xC9, "p"), 1002, nil},
		{"RSV1 on a pong (6)", masked(0xCA, ""), 1002, nil},
		{"RSV1 on a close (6)", masked(0xC8, "\x03\xe8"), 1002, nil},
		{"RSV1 on a continuation of nothing (6)", masked(0xC0, hello), 1002, nil},
		{"RSV1 on a reserved opcode", masked(0xC3, hello), 1002, nil},
		{"RSV2", masked(0xA1, "Hello"), 1002, nil},
		{"RSV3", masked(0x91, "Hello"), 1002, nil},
		{"RSV1 and RSV2", masked(0xE1, hello), 1002, nil},
		{"RSV1 and RSV3 on the second fragment", masked(0x41, hello[:3]) + masked(0xD0, hello[3:]), 1002, nil},
		{"a new message in a deflated one", masked(0x41, hello[:3]) + masked(0xC1, hello), 1002, nil},

		{"a payload of no bytes", masked(0xC1, ""), 1007, nil},
		{"a block type that is reserved", masked(0xC1, "\x07\x00"), 1007, nil},
		{"a block with a wrong length", masked(0xC1, "\x00\x05\x00\xfb\xff\x48\x65\x6c\x6c\x6f\x00"), 1007, nil},
		{"a payload that ends too early", masked(0xC1, hello[:3]), 1007, nil},
		{"a payload that ends in the header of a block", masked(0xC1, dynamic), 1007, nil},
		{"a payload that goes on after its end", masked(0xC1, hello+"\x00\x00\xff\xff"), 1007, nil},
		{"a payload without the beginning of an empty block (7.2.1)", masked(0xC1, "\xf3\x48\xcd\xc9\xc9\x07\x00"), 1007, nil},
		{"a distance beyond the beginning", masked(0xC1, "\x4a\x04\x22\x00"), 1007, nil},
		{"no DEFLATE at all", masked(0xC1, "Hello, this is not compressed"), 1007, nil},
		{"a text that is not UTF-8", masked(0xC1, deflated(-1, "a\xffb")), 1007, nil},
		{"a text that ends inside a character", masked(0xC1, deflated(-1, "a\xe5\xa4")), 1007, nil},
		{"one byte more than allowed", masked(0xC1, deflated(-1, long+"x")), 1009, nil},
		{"one byte more than allowed, after BFINAL", masked(0xC1, final(-1, long, "x")), 1009, nil},
		{"a bomb", masked(0xC2, zeros(100_000)), 1009, nil},
		{"a bomb in a text", masked(0xC1, zeros(20_000)), 1009, nil},
		{"a payload that cannot be that of a message so small, before it arrives", masked(0xC2, strings.Repeat("x", 300))[:8], 1009, nil},
		{"fragments of that size, before the last arrives", masked(0x42, strings.Repeat("x", 200)) + masked(0x80, strings.Repeat("x", 100))[:6], 1009, nil},
	} {
		everyWay(t, c.what, &Rules{MaxMessage: 200, Deflate: true}, c.stream, outcome{c.events, c.code})
	}
}

func TestOnlyADeflatedMessageIsMarkedSo(t *testing.T) {
	a := NewAssembler(&Rules{Deflate: true})
	var got []bool
	stream := masked(0xC1, deflated(-1, "a")) + masked(0x81, "b") + masked(0x41, deflated(-1, "c")) + masked(0x89, "") + masked(0x80, "")
	if err := a.Feed([]byte(stream), func(ev Event) error { got = append(got, ev.Deflated); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []bool{true, false, false, true}; !slices.Equal(got, want) {
		t.Errorf("the events are marked %v, not %v", want, got)
	}
}

func TestABombIsToldFromALargeMessage(t *testing.T) {
	for stream, bomb := range map[string]bool{masked(0xC2, zeros(1000)): true, masked(0x82, strings.Repeat("x", 201)): false} {
		a := NewAssembler(&Rules{MaxMessage: 200, Deflate: true})
		err := a.Feed([]byte(stream), func(Event) error { return nil })
		if code(err) != 1009 || errors.Is(err, ErrBomb) != bomb {
			t.Errorf("it is %v that this is a bomb, and the error is %v", bomb, err)
		}
	}
}

// Whatever a message is, however it is deflated, flushed, fragmented and cut, it arrives.
func TestDeflatedMessagesArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := &Rules{MaxMessage: 4000, Deflate: true}
		part := rapid.OneOf(rapid.String(), rapid.Map(rapid.IntRange(0, 900), func(n int) string { return strings.Repeat("na", n) }))
		parts := rapid.SliceOfN(part, 1, 4).Draw(t, "parts")
		message := strings.Join(parts, "")
		level := rapid.IntRange(-2, 9).Draw(t, "level")
		payload := ""
		switch rapid.SampledFrom([]string{"flush", "final", "ours"}).Draw(t, "end") {
		case "flush":
			payload = deflated(level, parts...)
		case "final":
			payload = final(level, parts...)
		case "ours":
			payload = string(deflaters.Get().(*deflater).deflate([]byte(message)))
		}
		stream, first := "", byte(0x41)
		for cut := payload; ; first = 0 {
			n := rapid.IntRange(0, len(cut)).Draw(t, "fragment")
			if rapid.Bool().Draw(t, "last") {
				stream += masked(first|0x80, cut)
				break
			}
			stream += masked(first, cut[:n])
			if cut = cut[n:]; rapid.Bool().Draw(t, "ping") {
				stream += masked(0x89, "")
			}
		}
		want := outcome{nil, 0}
		if len(message) > rules.MaxMessage {
			want.code = 1009
		} else {
			want.events = []string{text(message)}
		}
		check := func(pieces []string) {
			o := run(t, rules, pieces...)
			o.events = slices.DeleteFunc(o.events, func(s string) bool { return s == ping("") })
			if len(o.events) == 0 {
				o.events = nil
			}
			if !reflect.DeepEqual(o, want) {
				t.Fatalf("%q as %x should give %v, not %v", message, stream, want, o)
			}
		}
		check([]string{stream})
		check(bytewise(stream))
		for i := range min(len(stream), 100) {
			check(split(stream, i))
		}
		at := rapid.IntRange(0, len(stream)).Draw(t, "cut")
		check(split(stream, at))
	})
}

// referenceInflate inflates by the standard library, without bound.
func referenceInflate(payload string) (message []byte, ok bool) {
	r := strings.NewReader(payload + deflateTail)
	for r.Len() > 0 {
		b, err := io.ReadAll(io.LimitReader(flate.NewReader(r), 1<<20))
		if err != nil {
			return nil, false
		}
		message = append(message, b...)
		if len(message) >= 1<<20 {
			return message, true
		}
	}
	return message, true
}

func FuzzInflate(f *testing.F) {
	for _, seed := range []string{
		"\xf2\x48\xcd\xc9\xc9\x07\x00", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
		"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "\x00", "", "\x03\x00\x03\x00\x00", "\x4a\x04\x22\x00", dynamic,
		zeros(100_000), zeros(300), final(9, "Hello", "", "world"), final(9, strings.Repeat("\x00", 5000), strings.Repeat("\x00", 5000)),
		dynamicBlocks(8) + "\x00", deflated(9, "大家好", "hello"), deflated(-2, strings.Repeat("huffman only ", 9)), deflated(0, "stored"), "not DEFLATE",
	} {
		f.Add([]byte(seed), 3)
	}
	const limit = 300
	rules := &Rules{MaxMessage: limit, Deflate: true}
	f.Fuzz(func(t *testing.T, payload []byte, cut int) {
		payload = payload[:min(len(payload), 4<<10)] // the reference is slow
		out, err := inflate(nil, append(slices.Clone(payload), deflateTail...), limit)
		if cap(out) > limit {
			t.Fatalf("%d bytes are allocated for a message of at most %d", cap(out), limit)
		}
		want, ok := referenceInflate(string(payload))
		switch {
		case err == nil && (!ok || !bytes.Equal(out, want)):
			t.Fatalf("%x is %q by the standard library (%v), not %q", payload, want, ok, out)
		case errors.Is(err, ErrBomb) && ok && len(want) <= limit:
			t.Fatalf("%x is no bomb: it has %d bytes", payload, len(want))
		case err != nil && !errors.Is(err, ErrBomb) && ok && len(want) <= limit:
			t.Fatalf("%x can be inflated, to %q", payload, want)
		}
		expected := outcome{[]string{text(string(out))}, 0}
		switch {
		case uint64(len(payload)) > maxDeflated(limit):
			expected = outcome{nil, 1009}
		case err != nil:
			expected = outcome{nil, code(err)}
		case !utf8.Valid(out):
			expected = outcome{nil, 1007}
		}
		n := max(0, min(cut, len(payload)))
		stream := masked(0x41, string(payload[:n])) + masked(0x80, string(payload[n:]))
		if got := run(t, rules, stream); !reflect.DeepEqual(got, expected) {
			t.Fatalf("the message %x should give %v, not %v", payload, expected, got)
		}
	})
}

func TestInflationIsBounded(t *testing.T) {
	const limit = 64 << 10
	rules := &Rules{MaxMessage: limit, Deflate: true}
	bomb := []byte(masked(0xC2, zeros(32<<20))) // 32 MiB in 32 KiB
	attack := func() {
		a := NewAssembler(rules)
		if err := a.Feed(bytes.Clone(bomb), func(Event) error { return nil }); !errors.Is(err, ErrBomb) {
			t.Fatalf("a bomb is refused, not %v", err)
		}
		if a.part != nil {
			t.Fatal("after a bomb nothing is held")
		}
	}
	attack() // fills the pools
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 20
	for range rounds {
		attack()
	}
	runtime.ReadMemStats(&after)
	// The copy of the frame, what has arrived of it, and the message while it grows to the limit, twice at most; and the
	// pools may have been emptied meanwhile.
	each := (after.TotalAlloc - before.TotalAlloc) / rounds
	if most := uint64(2*len(bomb) + 2*limit + 64<<10); each > most {
		t.Errorf("a bomb makes the server allocate %d bytes, more than %d", each, most)
	}
}

func TestAnIdleAssemblerHoldsNoInflater(t *testing.T) {
	if size := unsafe.Sizeof(Assembler{}); size > 24 {
		t.Errorf("an idle assembler should be three words, not %d bytes", size)
	}
	a := NewAssembler(&Rules{Deflate: true})
	stream := masked(0x41, deflated(-1, strings.Repeat("Hello", 2000))) + masked(0x80, "")
	for _, piece := range bytewise(stream) {
		if err := a.Feed([]byte(piece), func(ev Event) error {
			if len(ev.Payload) != 10_000 {
				t.Errorf("the message has 10000 bytes, not %d", len(ev.Payload))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if a.part != nil {
		t.Error("an assembler whose messages are complete holds nothing")
	}
	// Tiny fragments cost what has arrived.
	if err := a.Feed([]byte(masked(0x42, "")), nil); err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		if err := a.Feed([]byte(masked(0x00, "")+masked(0x00, "\x02")[:7]), nil); err != nil {
			t.Fatal(err)
		}
	}
	if held := cap(a.part.message) + cap(a.part.inflated); held > 2*10_000+keepBuffer {
		t.Errorf("10000 fragments of a byte cost twice that at most, not %d bytes", held)
	}
}

func BenchmarkInflate(b *testing.B) {
	for _, size := range []int{256, 1024, 4096} {
		message := chat(rand.New(rand.NewPCG(1, 2)), size)
		b.Run(fmt.Sprintf("%d B", size), func(b *testing.B) {
			frame := []byte(masked(0xC1, deflated(-1, string(message))))
			buf := make([]byte, len(frame))
			a := NewAssembler(&Rules{Deflate: true})
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, frame)
				if err := a.Feed(buf, func(Event) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// Much work for its size: blocks of nothing, and such that end a sequence of blocks.
	for name, blocks := range map[string]string{"fixed": "\x02\x08\x20\x80\x00", "dynamic": dynamicBlocks(8), "final": "\x03\x00"} {
		b.Run("64 KiB of empty "+name+" blocks", func(b *testing.B) {
			frame := []byte(masked(0xC2, strings.Repeat(blocks, (64<<10-1)/len(blocks))+"\x00"))
			buf := make([]byte, len(frame))
			a := NewAssembler(&Rules{Deflate: true})
			for b.Loop() {
				copy(buf, frame)
				if err := a.Feed(buf, func(Event) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// dynamicBlocks is n blocks of nothing, a multiple of 8, each with its own Huffman codes. RFC 1951, section 3.2.7.
func dynamicBlocks(n int) string {
	var b []byte
	at := 0
	put := func(value, bits int) { // the lowest bit first
		for i := range bits {
			if at%8 == 0 {
				b = append(b, 0)
			}
			b[at/8] |= byte(value>>i&1) << (at % 8)
			at++
		}
	}
	for range n {
		put(4, 3)  // not the last block, with codes of its own
		put(0, 10) // 257 lengths of literals, 1 of distances
		put(14, 4) // 18 lengths of codes: those of 18 and 1, the third and the last one, are 1
		for i := range 18 {
			put(map[int]int{2: 1, 17: 1}[i], 3)
		}
		put(1, 1)   // 18: so many zeros
		put(127, 7) // 138
		put(1, 1)
		put(107, 7) // 118, together 256
		put(0, 1)   // the end of a block has the length 1
		put(0, 1)   // and so has the distance
		put(0, 1)   // the end of the block
	}
	return string(b)
}
