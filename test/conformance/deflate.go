package conformance

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// tail ends a deflate block on a byte; messages are sent without it. RFC 7692, section 7.2.1.
const tail = "\x00\x00\xff\xff"

// deflate compresses a message by itself: without the context of earlier ones, which a client may always do.
func deflate(text string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		panic(err) // the level is good
	}
	// A buffer takes everything.
	_, _ = io.WriteString(w, text)
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), tail)
}

// stored is text in deflate blocks that are not compressed, each of at most size bytes. final sets BFINAL on the last one.
func stored(text string, size int, final bool) string {
	var b strings.Builder
	for len(text) > 0 {
		n := min(size, len(text))
		last := byte(0)
		if final && n == len(text) {
			last = 1
		}
		b.Write([]byte{last, byte(n), byte(n >> 8), ^byte(n), ^byte(n >> 8)})
		b.WriteString(text[:n])
		text = text[n:]
	}
	if final {
		return b.String() + "\x00" // section 7.2.3.4
	}
	b.WriteByte(0)
	return b.String() // the tail completes an empty block
}

// inflater decompresses what a server sends.
type inflater struct {
	fresh  bool   // the server keeps no context
	window []byte // the last of what came out
}

// newInflater reads what the server has accepted.
func newInflater(extensions []string) (*inflater, error) {
	name, params, _ := strings.Cut(strings.Join(extensions, ","), ";")
	if strings.TrimSpace(name) != "permessage-deflate" {
		return nil, fmt.Errorf("the server accepts %q, which was not offered", extensions)
	}
	return &inflater{fresh: strings.Contains(params, "server_no_context_takeover")}, nil
}

const windowSize = 32 << 10

func (f *inflater) message(b []byte) ([]byte, error) {
	// After the tail comes an empty last block, so that the reader ends.
	in := io.MultiReader(bytes.NewReader(b), strings.NewReader(tail+"\x01\x00\x00\xff\xff"))
	out, err := io.ReadAll(flate.NewReaderDict(in, f.window))
	if err != nil {
		return nil, err
	}
	if !f.fresh {
		f.window = append(f.window, out...)
		f.window = bytes.Clone(f.window[max(0, len(f.window)-windowSize):])
	}
	return out, nil
}

// sample is text that compresses about as well as chat does.
func sample(size int, rng *rand.Rand) string {
	words := []string{"hello ", "弹幕 ", "haha ", "666 ", "the ", "viewer ", "left ", "what a goal! ", "💯 "}
	var b strings.Builder
	for b.Len() < size {
		if b.WriteString(words[rng.IntN(len(words))]); rng.IntN(5) == 0 {
			fmt.Fprint(&b, rng.Uint32())
		}
	}
	text := strings.ToValidUTF8(b.String()[:size], "")
	return text + strings.Repeat(".", size-len(text))
}

// compressed is a frame with a whole compressed message.
func compressed(op byte, text string) frame { return frame{op: op, rsv: 4, payload: deflate(text)} }

// Deflate is 12 and 13: compression of messages. RFC 7692. A server that does not negotiate it need not pass them.
func Deflate() (all []Case) {
	all = append(all, deflateSizes()...)
	all = append(all, deflateOffers()...)
	all = append(all, deflateFrames()...)
	return append(all, deflateFailures()...)
}

func deflateSizes() (all []Case) {
	for i, size := range []int{16, 64, 256, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		for j, op := range []byte{opText, opBinary} {
			count := min(20, max(4, (64<<10)/size)) // compressing takes its time, and more under the race detector
			name := fmt.Sprintf("12.%d.%d %d messages of %d bytes", j+1, i+1, count, size)
			all = append(all, offering("permessage-deflate", Case{Name: name, exchange: func() (sent []byte, replies []message) {
				rng := rand.New(rand.NewPCG(uint64(size), 0))
				for range count {
					text := sample(size, rng)
					sent = compressed(op, text).append(sent)
					replies = append(replies, message{op, text})
				}
				return sent, replies
			}}))
			all = append(all, offering("permessage-deflate", Case{Name: name + " in fragments", exchange: func() (sent []byte, replies []message) {
				text := sample(size, rand.New(rand.NewPCG(uint64(size), 1)))
				whole := deflate(text)
				return append(fragments(op, 4, whole, max(len(whole)/7, 1)), join(frame{op: opPing})...), []message{{op, text}, {op: opPong}}
			}}))
		}
	}
	return all
}

func offering(offer string, c Case) Case {
	c.Offer = offer
	return c
}

func deflateOffers() (all []Case) {
	for i, offer := range []string{
		"permessage-deflate; client_no_context_takeover",
		"permessage-deflate; server_no_context_takeover",
		"permessage-deflate; client_max_window_bits",
		"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
		"permessage-deflate; server_max_window_bits=15",
		"permessage-deflate; unknown, permessage-deflate",
		"x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
	} {
		c := fixed(fmt.Sprintf("13.%d the offer %s", i+1, offer), []message{{opText, "hello hello hello"}, {opText, "hello hello hello"}, {opText, "plain"}},
			compressed(opText, "hello hello hello"), compressed(opText, "hello hello hello"), frame{op: opText, payload: "plain"})
		all = append(all, offering(offer, c))
	}
	return all
}

// deflateFrames are rules that the numbers of Autobahn do not reach.
func deflateFrames() (all []Case) {
	long := strings.Repeat("a long text ", 1000)
	for _, c := range []Case{
		fixed("13.8.1 an empty message, in the one byte of RFC 7692, 7.2.3.6", []message{{opText, ""}}, frame{op: opText, rsv: 4, payload: "\x00"}),
		fixed("13.8.2 a block that is not compressed", []message{{opText, "Hello"}}, frame{op: opText, rsv: 4, payload: stored("Hello", 100, false)}),
		fixed("13.8.3 a block with BFINAL set", []message{{opText, "Hello"}}, frame{op: opText, rsv: 4, payload: "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"}),
		fixed("13.8.4 two blocks in one message", []message{{opText, "Hello"}}, frame{op: opText, rsv: 4, payload: "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"}),
		fixed("13.8.5 blocks of one byte", []message{{opText, long[:500]}}, frame{op: opText, rsv: 4, payload: stored(long[:500], 1, false)}),
		fixed("13.8.6 a ping between fragments", []message{{opPong, "1"}, {opText, long}},
			frame{op: opText, rsv: 4, more: true, payload: deflate(long)[:10]}, frame{op: opPing, payload: "1"}, frame{op: opContinuation, payload: deflate(long)[10:]}),
		fixed("13.8.7 characters that are split over fragments", []message{{opText, "弹幕"}},
			frame{op: opText, rsv: 4, more: true, payload: stored("弹幕", 100, false)[:7]}, frame{op: opContinuation, payload: stored("弹幕", 100, false)[7:]}),
		chopped(1, fixed("13.8.8 chopped into octets", []message{{opText, long}, {opText, "plain"}}, compressed(opText, long), frame{op: opText, payload: "plain"})),
	} {
		all = append(all, offering("permessage-deflate", c))
	}
	return all
}

// bomb is 32 MiB, more than any message may have: blocks that end on a byte, one after the other.
func bomb() string {
	block := deflate(strings.Repeat("\x00", 1<<20))
	return strings.Repeat(block+tail, 31) + block
}

func deflateFailures() (all []Case) {
	bomb := bomb()
	for _, c := range []Case{
		failing("13.9.1 RSV1 on a control frame", 1002, nil, frame{op: opPing, rsv: 4}),
		failing("13.9.2 RSV1 on a continuation", 1002, nil, frame{op: opText, rsv: 4, more: true, payload: "\x00"}, frame{op: opContinuation, rsv: 4, payload: "\x00"}),
		failing("13.9.3 RSV2", 1002, nil, frame{op: opText, rsv: 2, payload: "x"}),
		failing("13.9.4 RSV1 and RSV3", 1002, nil, frame{op: opText, rsv: 5, payload: "\x00"}),
		failing("13.9.5 what is no deflate block", 1007, nil, frame{op: opText, rsv: 4, payload: "\xff\xff\xff\xff"}),
		failing("13.9.6 a distance to before the beginning", 1007, nil, frame{op: opText, rsv: 4, payload: "\x03\x82\x00"}),
		failing("13.9.7 text that is not UTF-8", 1007, nil, compressed(opText, "hello \xff")),
		failing("13.9.8 a bomb", 1009, nil, frame{op: opBinary, rsv: 4, payload: bomb}),
		failing("13.9.9 a bomb in fragments", 1009, nil, frame{op: opText, rsv: 4, more: true, payload: bomb[:len(bomb)/2]}, frame{op: opContinuation, payload: bomb[len(bomb)/2:]}),
	} {
		all = append(all, offering("permessage-deflate", c))
	}
	return all
}
