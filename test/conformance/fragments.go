package conformance

import "strings"

// fragmentation is 5.
func fragmentation() (all []Case) {
	first := frame{op: opText, more: true, payload: "fragment1"}
	last := frame{op: opContinuation, payload: "fragment2"}
	ping := frame{op: opPing, payload: "ping payload"}
	pong := message{opPong, "ping payload"}
	both := message{opText, "fragment1fragment2"}
	lost := frame{op: opContinuation, payload: "non-continuation payload"}
	for _, c := range []Case{
		failing("5.1 a ping in two fragments", 1002, nil, frame{op: opPing, more: true, payload: "fragment1"}, last),
		failing("5.2 a pong in two fragments", 1002, nil, frame{op: opPong, more: true, payload: "fragment1"}, last),
		failing("5.2 a close in two fragments", 1002, nil, frame{op: opClose, more: true, payload: "\x03\xe8"}, last),
		fixed("5.3 a text in two fragments", []message{both}, first, last),
		fixed("5.6 a text in two fragments with a ping between them", []message{pong, both}, first, ping, last),
		fixed("5.6 a text in two fragments with a pong between them", []message{both}, first, frame{op: opPong, payload: "x"}, last),
		failing("5.6 a text in two fragments with a close between them", 1001, nil, first, frame{op: opClose, payload: closing(1001, "")}, last),
		failing("5.9 a final continuation of nothing, then a text", 1002, nil, lost, frame{op: opText, payload: "Hello, world!"}),
		failing("5.12 a continuation of nothing that is not final, then a text", 1002, nil,
			frame{op: opContinuation, more: true, payload: lost.payload}, frame{op: opText, payload: "Hello, world!"}),
		failing("5.15 a continuation after the message was complete", 1002, []message{both}, first, last,
			frame{op: opContinuation, more: true, payload: "fragment3"}, frame{op: opText, payload: "fragment4"}),
		failing("5.16 a continuation before the beginning", 1002, nil, frame{op: opContinuation, more: true, payload: "fragment1"}, first, last),
		failing("5.17 a final continuation before the beginning", 1002, nil, frame{op: opContinuation, payload: "fragment1"}, first, last),
		failing("5.18 a second beginning", 1002, nil, first, frame{op: opText, payload: "fragment2"}),
		failing("5.18 a second beginning of another kind", 1002, nil, first, frame{op: opBinary, more: true, payload: "fragment2"}),
		fixed("5.19 a text in five fragments with pings between them", []message{pong, pong, {opText, strings.Repeat("fragment", 5)}},
			frame{op: opText, more: true, payload: "fragment"}, frame{op: opContinuation, more: true, payload: "fragment"}, ping,
			frame{op: opContinuation, more: true, payload: "fragment"}, frame{op: opContinuation, more: true, payload: "fragment"}, ping,
			frame{op: opContinuation, payload: "fragment"}),
		fixed("5.21 fragments of nothing", []message{{opBinary, "x"}}, frame{op: opBinary, more: true}, frame{op: opContinuation, more: true},
			frame{op: opContinuation, more: true, payload: "x"}, frame{op: opContinuation, more: true}, frame{op: opContinuation}),
		fixed("5.22 a message after a fragmented one", []message{both, {opBinary, "\xff"}, both}, first, last, frame{op: opBinary, payload: "\xff"}, first, last),
		{Name: "5.23 a binary message in 5000 fragments of one byte", exchange: func() ([]byte, []message) {
			data := strings.Repeat("\xf0\x0f", 2500)
			return fragments(opBinary, 0, data, 1), []message{{opBinary, data}}
		}},
	} {
		all = append(all, c)
		if c.code == 0 || c.code == 1002 {
			all = append(all, chopped(1, c), chopped(17, c))
		}
	}
	return all
}
