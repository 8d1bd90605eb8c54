package conformance

import (
	"fmt"
	"strings"
)

// Cases are all cases but those of compression.
func Cases() (all []Case) {
	for _, group := range [][]Case{payloads(), pings(), reservedBits(), opcodes(), headers(), fragmentation(), utf8Text(), closings(), sizes()} {
		all = append(all, group...)
	}
	return all
}

// fixed is a case that is made of few frames, after which the client closes.
func fixed(name string, replies []message, frames ...frame) Case {
	return Case{Name: name, exchange: func() ([]byte, []message) { return join(frames...), replies }}
}

// failing is a case that the server must end with a code.
func failing(name string, code uint16, replies []message, frames ...frame) Case {
	c := fixed(name, replies, frames...)
	c.code = code
	return c
}

func chopped(size int, c Case) Case {
	c.chop = size
	c.Name += fmt.Sprintf(", chopped into %d", size)
	return c
}

// fragments is a message in fragments of at most size bytes; rsv is set on the first.
func fragments(op, rsv byte, text string, size int) (b []byte) {
	for {
		n := min(size, len(text))
		b = frame{op: op, rsv: rsv, payload: text[:n], more: n < len(text)}.append(b)
		if text = text[n:]; text == "" {
			return b
		}
		op, rsv = opContinuation, 0
	}
}

// payloads is 1: framing.
func payloads() (all []Case) {
	for i, op := range []byte{opText, opBinary} {
		fill := []string{"*", "\xfe"}[i]
		for j, size := range []int{0, 125, 126, 127, 128, 65535, 65536} {
			text := strings.Repeat(fill, size)
			c := fixed(fmt.Sprintf("1.%d.%d a message of %d bytes", i+1, j+1, size), []message{{op, text}}, frame{op: op, payload: text})
			all = append(all, c)
			if size <= 128 {
				all = append(all, chopped(1, c))
			} else {
				all = append(all, chopped(997, c))
			}
		}
	}
	return all
}

// pings is 2.
func pings() []Case {
	wild := "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	full := strings.Repeat("\xfe", 125)
	ten := func(n int, name string) Case {
		c := Case{Name: name, chop: n, exchange: func() (sent []byte, replies []message) {
			for i := range 10 {
				text := fmt.Sprintf("payload-%d", i)
				sent = frame{op: opPing, payload: text}.append(sent)
				replies = append(replies, message{opPong, text})
			}
			return sent, replies
		}}
		return c
	}
	return []Case{
		fixed("2.1 a ping without payload", []message{{op: opPong}}, frame{op: opPing}),
		fixed("2.2 a ping with text", []message{{opPong, "Hello, world!"}}, frame{op: opPing, payload: "Hello, world!"}),
		fixed("2.3 a ping with bytes that are no text", []message{{opPong, wild}}, frame{op: opPing, payload: wild}),
		fixed("2.4 a ping of 125 bytes", []message{{opPong, full}}, frame{op: opPing, payload: full}),
		failing("2.5 a ping of 126 bytes", 1002, nil, frame{op: opPing, payload: full + "x"}),
		failing("2.5 a ping of 126 bytes, its header only", 1002, nil, frame{op: opPing, length: 126}),
		chopped(1, fixed("2.6 a ping of 125 bytes", []message{{opPong, full}}, frame{op: opPing, payload: full})),
		fixed("2.7 a pong that nobody asked for, without payload", nil, frame{op: opPong}),
		fixed("2.8 a pong that nobody asked for", nil, frame{op: opPong, payload: "unsolicited pong payload"}),
		fixed("2.9 a pong that nobody asked for, and a ping", []message{{opPong, "ping payload"}},
			frame{op: opPong, payload: "unsolicited pong payload"}, frame{op: opPing, payload: "ping payload"}),
		failing("2.9 a pong of 126 bytes", 1002, nil, frame{op: opPong, payload: full + "x"}),
		ten(0, "2.10 ten pings"),
		ten(1, "2.11 ten pings, chopped into octets"),
	}
}

// reservedBits is 3: each combination on each kind of frame, as long as no extension defines them.
func reservedBits() (all []Case) {
	hello := message{opText, "Hello, world!"}
	first := frame{op: opText, payload: hello.data}
	for _, op := range []byte{opText, opBinary, opClose, opPing, opPong} {
		for rsv := byte(1); rsv <= 7; rsv++ {
			bad := frame{op: op, rsv: rsv, payload: "\x03\xe8"}
			name := fmt.Sprintf("3.%d the reserved bits %03b on opcode %d", rsv, rsv, op)
			all = append(all,
				failing(name, 1002, nil, bad),
				chopped(1, failing(name+" after a message", 1002, []message{hello}, first, bad, frame{op: opPing})))
		}
	}
	for rsv := byte(1); rsv <= 7; rsv++ {
		all = append(all, failing(fmt.Sprintf("3.8 the reserved bits %03b on a continuation", rsv), 1002, nil,
			frame{op: opText, more: true, payload: "x"}, frame{op: opContinuation, rsv: rsv, payload: "y"}))
	}
	return all
}

// opcodes is 4: the reserved ones.
func opcodes() (all []Case) {
	hello := message{opText, "Hello, world!"}
	first := frame{op: opText, payload: hello.data}
	for i, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		name := fmt.Sprintf("4.%d.%d the opcode %d", 1+i/5, 1+i%5, op)
		all = append(all,
			failing(name, 1002, nil, frame{op: op}),
			failing(name+" with a payload", 1002, nil, frame{op: op, payload: "reserved"}),
			failing(name+" after a message", 1002, []message{hello}, first, frame{op: op}, frame{op: opPing}),
			chopped(1, failing(name+" within a message", 1002, nil, frame{op: opText, more: true, payload: "x"}, frame{op: op, payload: "y"})))
	}
	return all
}

// headers are mistakes that Autobahn does not make.
func headers() []Case {
	huge := "\x00\x00\x00\x00\x00\x00\x00\x00"
	return []Case{
		failing("4.3.1 a frame that is not masked", 1002, nil, frame{op: opText, naked: true, payload: "x"}),
		failing("4.3.2 a ping that is not masked", 1002, nil, frame{op: opPing, naked: true}),
		failing("4.3.3 a length of 125 in two bytes", 1002, nil, frame{op: opBinary, wide: 2, payload: huge}),
		failing("4.3.4 a length of 8 in eight bytes", 1002, nil, frame{op: opBinary, wide: 8, payload: huge}),
		failing("4.3.5 a length of 65535 in eight bytes", 1002, nil, frame{op: opBinary, wide: 8, length: 65535}),
		{Name: "4.3.6 a length with the highest bit set", code: 1002, exchange: func() ([]byte, []message) {
			return []byte("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x01" + string(key[:])), nil
		}},
		failing("4.3.7 a length of exabytes", 1009, nil, frame{op: opBinary, length: 1 << 60}),
	}
}
