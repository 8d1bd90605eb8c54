package ws

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
	"pgregory.net/rapid"
)

// chat is a message line like those of a room, of about size bytes.
func chat(rng *rand.Rand, size int) []byte {
	words := strings.Fields("the a stream is great today who won that fight lol 哈哈 太好了 please play another song I think you " +
		"missed it 弹幕 hello from everyone watching here never seen anything like this before what time does it end gg wp nice shot")
	var b strings.Builder
	for b.Len() < size-150 {
		fmt.Fprintf(&b, "%s%c ", words[rng.IntN(len(words))], " ,.!"[rng.IntN(4)])
		if rng.IntN(6) == 0 {
			fmt.Fprintf(&b, "@user%d ", rng.IntN(10000))
		}
	}
	return fmt.Appendf(nil, `{"message":{"offset":%d,"time":%d,"user":"viewer-%d","client":"%016x","data":{"type":"chat","text":%q,"color":"#%06x"}}}`,
		rng.IntN(1e6), 1700000000000+rng.Int64N(1e9), rng.IntN(1e5), rng.Uint64(), b.String(), rng.IntN(1<<24))
}

func TestDeflateFrame(t *testing.T) {
	before := AppendFrame(nil, OpText, []byte("before"))
	for _, size := range []int{300, 4000, 70_000, 1 << 20} {
		message := chat(rand.New(rand.NewPCG(1, 2)), size)
		frames, ok := DeflateFrame(AppendFrame(bytes.Clone(before), OpText, message), len(before))
		if !ok || !bytes.HasPrefix(frames, before) || len(frames) > len(before)+MaxHeader+len(message)*9/10 {
			t.Fatalf("a message of %d bytes becomes shorter: %v, %d bytes", len(message), ok, len(frames))
		}
		frames = frames[len(before):]
		h, n, err := ParseHeader(frames)
		if err != nil || !h.Fin || h.RSV != rsv1 || h.Op != OpText || h.Length != uint64(len(frames)-n) {
			t.Fatalf("the frame has the header of a deflated message, not %+v (%v)", h, err)
		}
		a := NewAssembler(&Rules{MaxMessage: 2 << 20, FromServer: true, Deflate: true})
		if err := a.Feed(frames, func(ev Event) error {
			if !bytes.Equal(ev.Payload, message) {
				t.Errorf("the message of %d bytes comes back unchanged", len(message))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	short := AppendFrame(bytes.Clone(before), OpText, []byte("xyz"))
	if frames, ok := DeflateFrame(bytes.Clone(short), len(before)); ok || !bytes.Equal(frames, short) {
		t.Errorf("what does not become shorter stays as it is, not %q", frames)
	}
	random := make([]byte, 10_000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	if _, ok := DeflateFrame(AppendFrame(nil, OpBinary, random), 0); ok {
		t.Error("noise does not become shorter")
	}
}

// What is deflated can be inflated by the standard library, by itself, whatever was deflated before.
func TestDeflatedFramesCanBeInflated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, message := range rapid.SliceOfN(rapid.String(), 1, 4).Draw(t, "messages") {
			message = strings.Repeat(message, rapid.IntRange(1, 50).Draw(t, "times"))
			payload := deflaters.Get().(*deflater).deflate([]byte(message))
			if got, ok := referenceInflate(string(payload)); !ok || string(got) != message {
				t.Fatalf("%q as %x is inflated to %q, %v", message, payload, got, ok)
			}
		}
	})
}

// BenchmarkDeflateLevels is what deflateLevel was chosen by.
func BenchmarkDeflateLevels(b *testing.B) {
	for _, size := range []int{256, 512, 1024, 4096} {
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		messages := make([][]byte, 64)
		for i := range messages {
			messages[i] = chat(rng, size)
		}
		for _, level := range []int{1, 3, -1} {
			b.Run(fmt.Sprintf("%d B/level %d", size, level), func(b *testing.B) {
				d := new(deflater)
				d.w, _ = flate.NewWriter(d, level)
				before, after := 0, 0
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					before += len(messages[i%64])
					after += len(d.deflate(messages[i%64]))
				}
				b.ReportMetric(100*float64(after)/float64(before), "%")
			})
		}
	}
}
