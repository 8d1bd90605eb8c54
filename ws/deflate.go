package ws

import (
	"sync"

	"github.com/klauspost/compress/flate"
)

// rsv1 is the bit of Header.RSV that marks the first frame of a deflated message. RFC 7692, section 6.
const rsv1 = 4

// deflateLevel is the library's default. Sizes and times of lines of chat (BenchmarkDeflateLevels, best of 25 runs):
//
//	          level 1         level 3         default
//	256 B     94 %,  3 µs     83 %,  9 µs     78 %, 11 µs
//	512 B     74 %, 11 µs     66 %, 14 µs     64 %, 16 µs
//	1 KiB     58 %, 17 µs     54 %, 19 µs     53 %, 27 µs
//	4 KiB     43 %, 50 µs     40 %, 47 µs     39 %, 64 µs
//
// A message is deflated once and sent to a whole room, so that bytes weigh more than time.
const deflateLevel = flate.DefaultCompression

// keepDeflated is the largest buffer that is used again, in bytes.
const keepDeflated = 64 << 10

// deflater is what deflates messages. There are no more than are at work at a time.
type deflater struct {
	w   *flate.Writer
	out []byte
}

// Write implements io.Writer for w.
func (d *deflater) Write(b []byte) (int, error) {
	d.out = append(d.out, b...)
	return len(b), nil
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(d, deflateLevel) // fails for levels that do not exist
	return d
}}

// deflate returns the payload of a deflated message, by section 7.2.1. It is valid until the next call.
func (d *deflater) deflate(message []byte) []byte {
	d.out = d.out[:0]
	d.w.Reset(d)
	_, _ = d.w.Write(message) // never fails, because d never does
	_ = d.w.Flush()
	return d.out[:len(d.out)-len("\x00\x00\xff\xff")]
}

// release gives d back, without a large buffer.
func (d *deflater) release() {
	if cap(d.out) > keepDeflated {
		d.out = nil
	}
	deflaters.Put(d)
}

// DeflateFrame deflates the payload of the frame that begins at start and is the last thing in frames, as made by
// AppendFrame with a text or a binary message, in place. ok is false, and nothing changes, when that makes it no shorter.
// Every receiver can inflate it by itself: it refers to no other message.
func DeflateFrame(frames []byte, start int) (deflated []byte, ok bool) {
	h, n, _ := ParseHeader(frames[start:])
	d := deflaters.Get().(*deflater)
	defer d.release()
	payload := d.deflate(frames[start+n:])
	if len(payload) >= int(h.Length) {
		return frames, false
	}
	h.RSV, h.Length = rsv1, uint64(len(payload))
	return append(AppendHeader(frames[:start], h), payload...), true
}
