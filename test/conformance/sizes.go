package conformance

import (
	"fmt"
	"strings"
)

// big makes a case of one message of size bytes, a multiple of 16; write turns it into frames.
func big(name string, op byte, size, chop int, write func(text string) []byte) Case {
	return Case{Name: fmt.Sprintf("%s of %d KiB", name, size>>10), Message: size, chop: chop, exchange: func() ([]byte, []message) {
		text := strings.Repeat("BAsd7&jh弹幕23", size/16)
		return write(text), []message{{op, text}}
	}}
}

// sizes is 9 and 10: large messages, whole, in fragments and chopped, and many small ones.
func sizes() (all []Case) {
	for k, op := range []byte{opText, opBinary} {
		kind := []string{"a text", "a binary message"}[k]
		for i, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} {
			all = append(all, big(fmt.Sprintf("9.%d.%d %s", k+1, i+1, kind), op, size, 0,
				func(text string) []byte { return join(frame{op: op, payload: text}) }))
		}
		for i := range 9 {
			part := 64 << (2 * i)
			all = append(all, big(fmt.Sprintf("9.%d.%d %s in fragments of %d bytes", k+3, i+1, kind, part), op, 4<<20, 0,
				func(text string) []byte { return fragments(op, 0, text, part) }))
		}
		for i := range 6 {
			all = append(all, big(fmt.Sprintf("9.%d.%d %s chopped into %d", k+5, i+1, kind, 64<<i), op, 1<<20, 64<<i,
				func(text string) []byte { return join(frame{op: op, payload: text}) }))
		}
		for i, size := range []int{0, 16, 64, 256, 1024, 4096} {
			all = append(all, Case{Name: fmt.Sprintf("9.%d.%d 1000 of %s of %d bytes", k+7, i+1, kind, size), exchange: func() (sent []byte, replies []message) {
				text := strings.Repeat("x", size)
				for range 1000 {
					sent = frame{op: op, payload: text}.append(sent)
					replies = append(replies, message{op, text})
				}
				return sent, replies
			}})
		}
	}
	over := strings.Repeat("x", 60<<10)
	return append(all,
		Case{Name: "10.1.1 a text of 65536 bytes in fragments of 1300", exchange: func() ([]byte, []message) {
			text := strings.Repeat("*", 65536)
			return fragments(opText, 0, text, 1300), []message{{opText, text}}
		}},
		failing("10.2.1 a message that is larger than any server takes, its header only", 1009, nil, frame{op: opBinary, length: 1 << 40}),
		failing("10.2.2 fragments that are larger together than any server takes", 1009, nil,
			frame{op: opBinary, more: true, payload: over}, frame{op: opContinuation, length: 1 << 40}))
}
