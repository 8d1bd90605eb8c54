package ws

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"barrage/proto"
)

// ErrBomb is the error of an Assembler for a deflated message that is too large once it is inflated.
var ErrBomb = proto.CloseTooBig.With("the message is larger than allowed once it is inflated")

// errInflate has the code for "data within a message that was not consistent with the type of the message": RFC 6455,
// section 7.4.1. RFC 7692 names none.
var errInflate = proto.CloseBadData.With("a compressed message cannot be inflated (RFC 7692, 7.2.2)")

// deflateTail is what ends a deflated payload: the four bytes that its sender has removed (RFC 7692, section 7.2.2), which
// complete an empty block, and one more empty block that is marked as the last one, so that the end is seen as such.
const deflateTail = "\x00\x00\xff\xff" + "\x01\x00\x00\xff\xff"

// maxDeflated is how large the payload of a message of at most n bytes can be when it is deflated, generously: what
// zlib promises, and some empty blocks more.
func maxDeflated(n uint64) uint64 { return n + n>>3 + n>>6 + 64 }

// inflater is what inflates messages: about 40 KiB, of which there are no more than are at work at a time.
type inflater struct {
	in  bytes.Reader
	out io.ReadCloser // of flate.NewReader
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.out = flate.NewReader(&f.in)
	return f
}}

// inflate appends to dst the message of a payload to which deflateTail has been added. dst never grows beyond limit bytes.
// The error is ErrBomb or errInflate.
func inflate(dst, payload []byte, limit int) ([]byte, error) {
	f := inflaters.Get().(*inflater)
	f.in.Reset(payload)
	dst, err := f.run(dst, limit)
	f.in.Reset(nil)
	inflaters.Put(f)
	return dst, err
}

// run inflates until there is nothing left. A sender may end blocks with BFINAL, after which another sequence of blocks
// begins at the next byte, without what came before in its window: section 7.2.1.
func (f *inflater) run(dst []byte, limit int) ([]byte, error) {
	for f.in.Len() > 0 {
		// A bytes.Reader is an io.ByteReader: no more bytes are taken from it than needed.
		if err := f.out.(flate.Resetter).Reset(&f.in, nil); err != nil {
			return dst, errInflate
		}
		var err error
		if dst, err = readBounded(dst, f.out, limit); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// readBounded appends what r gives until its end to dst, whose capacity at most doubles and never exceeds limit.
func readBounded(dst []byte, r io.Reader, limit int) ([]byte, error) {
	for {
		var over [1]byte
		room := over[:] // one byte more than allowed shows that there is more
		if len(dst) < limit {
			if len(dst) == cap(dst) {
				dst = grow(dst, limit)
			}
			room = dst[len(dst):min(cap(dst), limit)]
		}
		n, err := r.Read(room)
		if n > 0 && len(dst) >= limit {
			return dst, ErrBomb
		}
		dst = dst[:len(dst)+n]
		switch {
		case errors.Is(err, io.EOF):
			return dst, nil
		case err != nil:
			return dst, errInflate
		}
	}
}

// grow returns b with twice its capacity, at least minBuffer and at most limit.
func grow(b []byte, limit int) []byte {
	grown := make([]byte, len(b), min(max(2*cap(b), minBuffer), limit))
	copy(grown, b)
	return grown
}
