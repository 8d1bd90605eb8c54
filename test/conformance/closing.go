package conformance

import (
	"fmt"
	"strings"
)

// closings is 7: the closing handshake.
func closings() (all []Case) {
	normal := frame{op: opClose, payload: closing(1000, "")}
	hello := frame{op: opText, payload: "Hello World!"}
	echoed := []message{{opText, "Hello World!"}}
	longest := strings.Repeat("弹", 41) // 123 bytes
	all = []Case{
		failing("7.1.1 a message and a close", 1000, echoed, hello, normal),
		failing("7.1.2 two closes", 1000, nil, normal, normal),
		failing("7.1.3 a ping after the close", 1000, nil, normal, frame{op: opPing}),
		failing("7.1.4 a message after the close", 1000, nil, normal, hello),
		failing("7.1.5 a close between fragments", 1000, nil, frame{op: opText, more: true, payload: "fragment1"}, normal, frame{op: opContinuation, payload: "fragment2"}),
		failing("7.1.5 what is no frame after the close", 1000, nil, normal, frame{op: 15, rsv: 7, naked: true, payload: "\xff\xff\xff"}),
		{Name: "7.1.6 a message of 256 KiB, a close and a ping", Message: 256 << 10, code: 1000, exchange: func() ([]byte, []message) {
			large := strings.Repeat("BAsd7&jh23", 26215)[:256<<10]
			return join(frame{op: opText, payload: large}, normal, frame{op: opPing}), []message{{opText, large}}
		}},
		failing("7.3.1 a close without payload", noStatus, nil, frame{op: opClose}),
		failing("7.3.2 a close of one byte", 1002, nil, frame{op: opClose, payload: "a"}),
		failing("7.3.3 a close with a code", 1000, nil, normal),
		failing("7.3.4 a close with a reason", 1000, nil, frame{op: opClose, payload: closing(1000, "Hello World!")}),
		failing("7.3.5 a close with the longest reason", 1000, nil, frame{op: opClose, payload: closing(1000, longest)}),
		failing("7.3.6 a close with a reason that is too long", 1002, nil, frame{op: opClose, payload: closing(1000, longest+"x")}),
		failing("7.5.1 a reason that is not UTF-8", 1007, nil, frame{op: opClose, payload: closing(1000, "κόσμε\xed\xa0\x80edited")}),
		failing("7.5.1 a reason that ends within a character", 1007, nil, frame{op: opClose, payload: closing(1000, "\xe5\xbc")}),
	}
	all = append(all, chopped(1, all[len(all)-1]), chopped(1, all[0]))
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		name := fmt.Sprintf("7.7.%d the code %d", i+1, code)
		all = append(all, failing(name, code, nil, frame{op: opClose, payload: closing(code, "")}),
			chopped(1, failing(name+" with a reason", code, nil, frame{op: opClose, payload: closing(code, "good bye")})))
	}
	for i, code := range []uint16{1012, 1013, 1014} {
		all = append(all, failing(fmt.Sprintf("7.8.%d the code %d, registered after RFC 6455", i+1, code), code, nil, frame{op: opClose, payload: closing(code, "")}))
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		name := fmt.Sprintf("7.9.%d the code %d, which must not be sent", i+1, code)
		all = append(all, failing(name, 1002, nil, frame{op: opClose, payload: closing(code, "")}),
			chopped(1, failing(name+", with a reason", 1002, nil, frame{op: opClose, payload: closing(code, "good bye")})))
	}
	return all
}
