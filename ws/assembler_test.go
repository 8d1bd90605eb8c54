package ws

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	gobwas "github.com/gobwas/ws"
	"pgregory.net/rapid"

	"barrage/proto"
)

var testKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// masked makes a frame of a client; first is its first byte.
func masked(first byte, payload string) string {
	h := Header{Fin: first&0x80 != 0, RSV: first >> 4 & 7, Op: Opcode(first & 15), Masked: true, Key: testKey, Length: uint64(len(payload))}
	b := []byte(payload)
	Mask(testKey, 0, b)
	return string(AppendHeader(nil, h)) + string(b)
}

// outcome is all that comes out of a stream: its events, written out, and the close code of its error, 0 for none.
type outcome struct {
	events []string
	code   uint16
}

func describe(ev Event) string { return fmt.Sprintf("%x %d %q", uint8(ev.Op), ev.Code, ev.Payload) }

// run feeds a stream in pieces, which it takes from a copy, and checks the promises about memory.
func run(t rapid.TB, rules *Rules, pieces ...string) (o outcome) {
	t.Helper()
	a := NewAssembler(rules)
	arrived := 0
	for _, piece := range pieces {
		arrived += len(piece)
		err := a.Feed([]byte(piece), func(ev Event) error {
			o.events = append(o.events, describe(ev))
			return nil
		})
		if err != nil && o.code != 0 {
			t.Fatalf("after the error %d another one came: %v", o.code, err)
		}
		if err != nil {
			if o.code = code(err); o.code == 0 {
				t.Fatalf("the error %v has no close code", err)
			}
			if c := (proto.Close{}); errors.As(err, &c) && (len(c.Reason) > MaxReason || !strings.Contains(c.Reason, " ")) {
				t.Fatalf("the reason %q is not a sentence of at most %d bytes", c.Reason, MaxReason)
			}
		}
		if held := a.Buffered(); held > arrived || held > int(rules.maxMessage())+MaxHeader+MaxControl {
			t.Fatalf("%d bytes are held of %d that have arrived, the largest message having %d", held, arrived, rules.maxMessage())
		}
	}
	return o
}

func split(s string, at ...int) (pieces []string) {
	last := 0
	for _, i := range at {
		pieces = append(pieces, s[last:i])
		last = i
	}
	return append(pieces, s[last:])
}

// everyWay feeds a stream whole, byte by byte, and cut at every place and every two places, and wants the same each time.
func everyWay(t *testing.T, what string, rules *Rules, stream string, want outcome) {
	t.Helper()
	check := func(how string, pieces []string) {
		t.Helper()
		if got := run(t, rules, pieces...); !reflect.DeepEqual(got, want) {
			t.Errorf("%s, %s, should give\n%v, not\n%v", what, how, want, got)
		}
	}
	check("whole", []string{stream})
	check("byte by byte", bytewise(stream))
	if len(stream) > 300 {
		return
	}
	for i := range len(stream) + 1 {
		check(fmt.Sprintf("cut at %d", i), split(stream, i))
		for j := i; j < len(stream)+1 && len(stream) < 80; j++ {
			check(fmt.Sprintf("cut at %d and %d", i, j), split(stream, i, j))
		}
	}
}

func bytewise(s string) (pieces []string) {
	for i := range len(s) {
		pieces = append(pieces, s[i:i+1])
	}
	return pieces
}

func text(s string) string { return describe(Event{Op: OpText, Payload: []byte(s)}) }
func blob(s string) string { return describe(Event{Op: OpBinary, Payload: []byte(s)}) }
func ping(s string) string { return describe(Event{Op: OpPing, Payload: []byte(s)}) }
func pong(s string) string { return describe(Event{Op: OpPong, Payload: []byte(s)}) }
func closed(c uint16, s string) string {
	return describe(Event{Op: OpClose, Code: c, Payload: []byte(s)})
}

func TestAssembler(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		what   string
		stream string
		code   uint16
		events []string
	}{
		{"nothing", "", 0, nil},
		{"a text (5.6)", masked(0x81, "Hello"), 0, []string{text("Hello")}},
		{"an empty text", masked(0x81, ""), 0, []string{text("")}},
		{"a binary (5.6)", masked(0x82, "\xff\x00"), 0, []string{blob("\xff\x00")}},
		{"a text of 200 bytes", masked(0x81, long), 0, []string{text(long)}},
		{"several messages", masked(0x81, "a") + masked(0x82, "b") + masked(0x81, ""), 0, []string{text("a"), blob("b"), text("")}},
		{"fragments (5.4)", masked(0x01, "Hel") + masked(0x00, "l") + masked(0x80, "o"), 0, []string{text("Hello")}},
		{"empty fragments (5.4)", masked(0x02, "") + masked(0x00, "") + masked(0x00, "a") + masked(0x80, ""), 0, []string{blob("a")}},
		{"nothing but empty fragments", masked(0x01, "") + masked(0x80, "") + masked(0x81, "a"), 0, []string{text(""), text("a")}},
		{
			"control frames between fragments (5.4)", masked(0x01, "a") + masked(0x89, "p") + masked(0x8A, "") + masked(0x80, "b"), 0,
			[]string{ping("p"), pong(""), text("ab")},
		},
		{"a ping of 125 bytes (5.5)", masked(0x89, long[:125]), 0, []string{ping(long[:125])}},
		{"a character cut by a fragment (8.1)", masked(0x01, "a\xe5") + masked(0x00, "\xa4") + masked(0x80, "\xa7b"), 0, []string{text("a大b")}},
		{"a close (5.5.1)", masked(0x88, "\x03\xe8bye"), 0, []string{closed(1000, "bye")}},
		{"a close without a code (5.5.1)", masked(0x88, ""), 0, []string{closed(1005, "")}},
		{"a close between fragments", masked(0x01, "a") + masked(0x88, "\x03\xe8"), 0, []string{closed(1000, "")}},
		{"what follows a close (1.4)", masked(0x88, "\x03\xe8") + masked(0x81, "late") + "\xff\xff\xff", 0, []string{closed(1000, "")}},

		{"a frame that is not masked (5.1)", masked(0x81, "a") + "\x81\x01b" + masked(0x81, "c"), 1002, []string{text("a")}},
		{"RSV1 (5.2)", masked(0xC1, "a"), 1002, nil},
		{"RSV2 (5.2)", masked(0xA1, "a"), 1002, nil},
		{"RSV3 on a control frame (5.2)", masked(0x99, "a"), 1002, nil},
		{"the opcode 3 (5.2)", masked(0x83, "a"), 1002, nil},
		{"the opcode 7 (5.2)", masked(0x87, "a"), 1002, nil},
		{"the opcode 11 (5.2)", masked(0x8B, "a"), 1002, nil},
		{"the opcode 15 (5.2)", masked(0x8F, "a"), 1002, nil},
		{"a length that is not minimal (5.2)", "\x81\xfe\x00\x05\x00\x00\x00\x00Hello", 1002, nil},
		{"a length with the highest bit (5.2)", "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1002, nil},
		{"a fragmented ping (5.5)", masked(0x09, "a"), 1002, nil},
		{"a fragmented close (5.5)", masked(0x08, ""), 1002, nil},
		{"a ping of 126 bytes (5.5)", masked(0x89, long[:126]), 1002, nil},
		{"a continuation of nothing (5.4)", masked(0x80, "a"), 1002, nil},
		{"a continuation after the end (5.4)", masked(0x01, "a") + masked(0x80, "b") + masked(0x00, "c"), 1002, []string{text("ab")}},
		{"a text between fragments (5.4)", masked(0x01, "a") + masked(0x81, "b"), 1002, nil},
		{"a binary between fragments (5.4)", masked(0x01, "a") + masked(0x02, "b"), 1002, nil},
		{"a text that is not UTF-8 (8.1)", masked(0x81, "a\xffb"), 1007, nil},
		{"a text with a surrogate (8.1)", masked(0x81, "\xed\xa0\x80"), 1007, nil},
		{"an overlong text (8.1)", masked(0x81, "\xc0\x80"), 1007, nil},
		{"a text that ends inside a character (8.1)", masked(0x81, "a\xe5\xa4"), 1007, nil},
		{"fragments that end inside a character (8.1)", masked(0x01, "a\xe5") + masked(0x80, "\xa4"), 1007, nil},
		{"a bad first fragment, at once (8.1)", masked(0x01, "a\xff"), 1007, nil},
		{"a bad second fragment, at once (8.1)", masked(0x01, "a\xe5") + masked(0x00, "b"), 1007, nil},
		{"a bad character in a frame that goes on, at once (8.1)", masked(0x81, "a\xf4\x90xxxxxxxxxx")[:9], 1007, nil},
		{"a close of one byte (5.5.1)", masked(0x88, "a"), 1002, nil},
		{"a close with code 1005 (7.4.1)", masked(0x88, "\x03\xed"), 1002, nil},
		{"a close with a reason that is not UTF-8 (5.5.1)", masked(0x88, "\x03\xe8\xff"), 1007, nil},
		{"a message above the limit, before it arrives (7.4.1)", masked(0x82, strings.Repeat("x", 201))[:8], 1009, nil},
		{"fragments above the limit, before the last arrives", masked(0x02, long) + masked(0x80, "y")[:6], 1009, nil},
		{"a length of 2^63-1", "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1009, nil},
		{"a last fragment of 2^63-1", masked(0x02, "abc") + "\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1009, nil},
	} {
		everyWay(t, c.what, &Rules{MaxMessage: 200}, c.stream, outcome{c.events, c.code})
	}
}

func TestAssemblerOfClient(t *testing.T) {
	rules := &Rules{FromServer: true}
	stream := string(AppendFrame(nil, OpText, []byte("Hello"))) + string(AppendFrame(nil, OpPing, nil)) + string(AppendClose(nil, 3001, "shutdown"))
	everyWay(t, "frames of a server", rules, stream, outcome{[]string{text("Hello"), ping(""), closed(3001, "shutdown")}, 0})
	everyWay(t, "a masked frame of a server (5.1)", rules, masked(0x81, "a"), outcome{nil, 1002})
	full := strings.Repeat("x", DefaultMaxMessage)
	everyWay(t, "the largest message", rules, string(AppendFrame(nil, OpText, []byte(full))), outcome{[]string{text(full)}, 0})
	everyWay(t, "a larger message", rules, string(AppendFrame(nil, OpText, []byte(full+"x"))), outcome{nil, 1009})
}

func TestNextStopsAfterEachEvent(t *testing.T) {
	a := NewAssembler(&Rules{})
	frames := []string{masked(0x81, "a"), masked(0x01, "b"), masked(0x89, "p"), masked(0x80, "c"), masked(0x81, "de")[:7]}
	b := []byte(strings.Join(frames, ""))
	var got []string
	for {
		ev, n, err := a.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		b = b[n:]
		if ev.Op == 0 {
			break
		}
		got = append(got, describe(ev))
		if rest := strings.Join(frames, ""); !strings.HasSuffix(rest, string(b)) {
			t.Errorf("Next should not change what it has not taken, but left %q", b)
		}
	}
	if want := []string{text("a"), ping("p"), text("bc")}; !slices.Equal(got, want) || len(b) != 0 || a.Buffered() != 1 {
		t.Errorf("Next should give %v and hold 1 byte, not %v and %d, with %d bytes not taken", want, got, a.Buffered(), len(b))
	}
}

func TestFeedStopsAtAnErrorOfEmit(t *testing.T) {
	a := NewAssembler(&Rules{})
	calls := 0
	err := a.Feed([]byte(masked(0x81, "a")+masked(0x81, "b")), func(Event) error {
		calls++
		return io.ErrClosedPipe
	})
	if !errors.Is(err, io.ErrClosedPipe) || calls != 1 {
		t.Errorf("Feed should stop at the first error of emit and return it; it returned %v after %d calls", err, calls)
	}
}

func TestAssemblerMemory(t *testing.T) {
	if size := unsafe.Sizeof(Assembler{}); size > 24 {
		t.Errorf("an idle assembler should be three words, not %d bytes", size)
	}
	rules := &Rules{MaxMessage: 64 << 10}
	none := func(Event) error { t.Error("no event was expected"); return nil }
	feed := func(a *Assembler, s string) {
		t.Helper()
		if err := a.Feed([]byte(s), none); err != nil {
			t.Fatal(err)
		}
	}
	a := NewAssembler(rules)
	feed(&a, masked(0x82, strings.Repeat("x", 60000))[:9])
	if held := cap(a.part.message); held > keepBuffer {
		t.Errorf("a declared length of 60000 should cost nothing before it arrives, not %d bytes", held)
	}

	a = NewAssembler(rules)
	feed(&a, masked(0x02, ""))
	for range 100_000 {
		feed(&a, masked(0x00, ""))
	}
	if a.Buffered() != 0 || cap(a.part.message) > keepBuffer {
		t.Errorf("empty fragments should cost nothing, but %d bytes are held", cap(a.part.message))
	}
	for i := range rules.MaxMessage {
		feed(&a, masked(0x00, "x"))
		if held := cap(a.part.message); held > max(keepBuffer, 2*(i+1)) || held > rules.MaxMessage {
			t.Fatalf("%d fragments of one byte should cost at most twice that, not %d bytes", i+1, held)
		}
	}
	if err := a.Feed([]byte(masked(0x00, "x")), none); code(err) != 1009 {
		t.Errorf("one byte more should be refused with 1009, not with %v", err)
	}
	if a.Buffered() != 0 || a.part != nil {
		t.Error("after an error nothing should be held")
	}

	a = NewAssembler(rules)
	whole := []byte(masked(0x81, "hello"))
	err := a.Feed(whole, func(ev Event) error {
		if unsafe.SliceData(ev.Payload) != &whole[6] {
			t.Error("a whole frame should be emitted without a copy")
		}
		return nil
	})
	if err != nil || a.part != nil {
		t.Errorf("after a whole frame nothing should be held (%v)", err)
	}
	feed(&a, masked(0x81, "hello")[:3])
	if err := a.Feed([]byte(masked(0x81, "hello")[3:]), func(Event) error { return nil }); err != nil || a.part != nil {
		t.Errorf("after a frame in two pieces nothing should be held (%v)", err)
	}
}

// reference reads a whole stream of a client with the frames of another library, slowly and simply.
func reference(stream []byte, limit int) (o outcome) {
	r := bytes.NewReader(stream)
	state := gobwas.StateServerSide
	var op gobwas.OpCode
	var message []byte
	for {
		before := r.Len()
		h, err := gobwas.ReadHeader(r)
		if errors.Is(err, gobwas.ErrHeaderLengthMSB) {
			return outcome{o.events, 1002}
		}
		if err != nil { // it ends inside a header
			return o
		}
		if gobwas.HeaderSize(h) != before-r.Len() || gobwas.CheckHeader(h, state) != nil {
			return outcome{o.events, 1002}
		}
		if !h.OpCode.IsControl() && h.Length > int64(limit-len(message)) {
			return outcome{o.events, 1009}
		}
		payload := make([]byte, min(h.Length, int64(r.Len())))
		_, _ = io.ReadFull(r, payload)
		gobwas.Cipher(payload, h.Mask, 0)
		complete := int64(len(payload)) == h.Length
		if h.OpCode.IsControl() {
			if !complete {
				return o
			}
			if c := o.control(h.OpCode, payload); c != 0 {
				return outcome{o.events, c}
			}
			if h.OpCode == gobwas.OpClose {
				return o
			}
			continue
		}
		if h.OpCode != gobwas.OpContinuation {
			op = h.OpCode
		}
		message = append(message, payload...)
		if op == gobwas.OpText && !couldBeText(message, complete && h.Fin) {
			return outcome{o.events, 1007}
		}
		if !complete {
			return o
		}
		state = state.Set(gobwas.StateFragmented)
		if h.Fin {
			o.events = append(o.events, describe(Event{Op: Opcode(op), Payload: message}))
			message, op = nil, 0
			state = state.Clear(gobwas.StateFragmented)
		}
	}
}

func (o *outcome) control(op gobwas.OpCode, payload []byte) (code uint16) {
	ev := Event{Op: Opcode(op), Payload: payload}
	if op == gobwas.OpClose {
		ev.Code = NoStatus
		if len(payload) == 1 {
			return 1002
		}
		if len(payload) > 1 {
			c, reason := gobwas.ParseCloseFrameData(payload)
			if c >= 5000 { // the other library allows these
				return 1002
			}
			err := gobwas.CheckCloseFrameData(c, reason)
			if errors.Is(err, gobwas.ErrProtocolInvalidUTF8) {
				return 1007
			}
			iana := c >= 1012 && c <= 1014 // and does not know these
			if err != nil && !iana || iana && !utf8.ValidString(reason) {
				return map[bool]uint16{false: 1002, true: 1007}[iana]
			}
			ev.Code, ev.Payload = uint16(c), []byte(reason)
		}
	}
	o.events = append(o.events, describe(ev))
	return 0
}

// couldBeText says whether b is valid UTF-8 or, unless it has ended, can become so.
func couldBeText(b []byte, ended bool) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return !ended && !utf8.FullRune(b)
		}
		b = b[n:]
	}
	return true
}

// randomStream makes a stream of a client that is mostly right.
func randomStream(rng *rand.Rand) string {
	texts := []string{"", "a", "hello", "大家好", "\xe5", "\xa4\xa7", "\xff", strings.Repeat("ä", 70), strings.Repeat("x", 126), "\x03\xe8bye", "\x0b\xb9", "\x03\xf5", "\x13\x88"}
	firsts := []byte{0x81, 0x81, 0x01, 0x00, 0x00, 0x80, 0x80, 0x02, 0x82, 0x89, 0x8A, 0x88}
	var b strings.Builder
	for range rng.IntN(8) {
		first := firsts[rng.IntN(len(firsts))]
		if rng.IntN(50) == 0 {
			first = byte(rng.Uint32())
		}
		frame := masked(first, texts[rng.IntN(len(texts))])
		if rng.IntN(50) == 0 {
			frame = frame[:rng.IntN(len(frame))]
		}
		b.WriteString(frame)
	}
	return b.String()
}

func TestAssemblerAgainstReference(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	rules := &Rules{MaxMessage: 300}
	for range 5000 {
		compare(t, fmt.Sprintf("seed %d", seed), rules, randomStream(rng), rng)
	}
}

// compare feeds a stream whole, byte by byte and cut at random, and wants what the reference gives.
func compare(t testing.TB, what string, rules *Rules, stream string, rng *rand.Rand) {
	t.Helper()
	want := reference([]byte(stream), rules.MaxMessage)
	var cuts []int
	for range rng.IntN(6) {
		cuts = append(cuts, rng.IntN(len(stream)+1))
	}
	slices.Sort(cuts)
	for _, pieces := range [][]string{{stream}, bytewise(stream), split(stream, cuts...)} {
		if got := run(t, rules, pieces...); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: the stream %x in the pieces %x should give\n%v, not\n%v", what, stream, pieces, want, got)
		}
	}
}

func FuzzAssembler(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 30 {
		f.Add([]byte(randomStream(rng)), uint64(1))
	}
	rules := &Rules{MaxMessage: 300}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		compare(t, "fuzz", rules, string(stream), rand.New(rand.NewPCG(seed, 0)))
	})
}

func BenchmarkAssembler(b *testing.B) {
	rules := &Rules{}
	hello := masked(0x81, "hello everyone, 大家好!")
	bench := func(name string, stream string, piece int) {
		b.Run(name, func(b *testing.B) {
			a := NewAssembler(rules)
			buf := make([]byte, len(stream))
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, stream) // the last run has unmasked it
				for rest := buf; len(rest) > 0; {
					n := min(piece, len(rest))
					if err := a.Feed(rest[:n], func(Event) error { return nil }); err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
			}
		})
	}
	bench("1 frame", hello, 1<<20)
	bench("100 frames", strings.Repeat(hello, 100), 1<<20)
	bench("1 frame in 2 pieces", hello, 6)
	bench("3 fragments", masked(0x01, "hello ")+masked(0x00, "every")+masked(0x80, "one"), 1<<20)
	bench("1 frame of 64 KiB", masked(0x82, strings.Repeat("x", 64<<10)), 1<<20)
	bench("1 frame of 64 KiB in pieces of 1 KiB", masked(0x82, strings.Repeat("x", 64<<10)), 1<<10)
}

func TestNoAllocations(t *testing.T) {
	a := NewAssembler(&Rules{})
	stream := masked(0x81, "hello") + masked(0x89, "") + masked(0x81, "大家好")
	buf := make([]byte, len(stream))
	events := 0
	n := testing.AllocsPerRun(100, func() {
		copy(buf, stream)
		if err := a.Feed(buf, func(Event) error { events++; return nil }); err != nil {
			t.Error(err)
		}
	})
	if n != 0 || events != 3*101 {
		t.Errorf("whole frames should cost no allocation, not %v (%d events)", n, events)
	}
}
