//go:build system

package test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
)

// wire is a WebSocket connection whose frames are written by hand.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
}

// openWire does a handshake by hand, without the client library.
func openWire(t *testing.T, addr, path string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(defaultWait))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, addr)
	w := &wire{conn: conn, r: bufio.NewReader(conn)}
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake succeeds: %v, %v", resp, err)
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455, section 1.3
		t.Fatalf("the accept key is the one of RFC 6455: got %s", got)
	}
	return w
}

// frame encodes one masked frame; first is its first byte: FIN, reserved bits, opcode.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// read returns the next frame that the server sends.
func (w *wire) read() (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1] & 0x7f)
	if n >= 126 {
		long := make([]byte, 2)
		if n == 127 {
			long = make([]byte, 8)
		}
		if _, err := io.ReadFull(w.r, long); err != nil {
			return 0, nil, err
		}
		n = 0
		for _, b := range long {
			n = n<<8 | uint64(b)
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(w.r, payload)
	return head[0] & 0x0f, payload, err
}

// closeCode reads until the server's close frame and returns its code, and 0 when the connection ends without one.
func (w *wire) closeCode() int {
	for {
		opcode, payload, err := w.read()
		if err != nil {
			return 0
		}
		if opcode == 8 && len(payload) >= 2 {
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}

func TestBrokenFramesCloseTheConnectionWithTheRightCode(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	text, ping := byte(0x81), `{"ping":{}}`
	for _, tt := range []struct {
		name  string
		bytes []byte
		code  int
	}{
		{"unmasked", append([]byte{text, byte(len(ping))}, ping...), 1002},
		{"reserved bit 1", frame(0x80|0x40|1, ping), 1002},
		{"reserved bit 3", frame(0x80|0x10|1, ping), 1002},
		{"unknown opcode 3", frame(0x83, ping), 1002},
		{"unknown control opcode 11", frame(0x8b, ""), 1002},
		{"continuation of nothing", frame(0x80, "x"), 1002},
		{"a new message inside a fragmented one", append(frame(0x01, "x"), frame(text, "y")...), 1002},
		{"a fragmented ping", frame(0x09, "x"), 1002},
		{"a ping of 126 bytes", frame(0x89, strings.Repeat("x", 126)), 1002},
		{"a close of one byte", frame(0x88, "x"), 1002},
		{"a close with code 1005", frame(0x88, "\x03\xed"), 1002},
		{"a close with code 999", frame(0x88, "\x03\xe7"), 1002},
		{"a length with its highest bit set", append([]byte{text, 0x80 | 127, 0xff}, make([]byte, 11)...), 0}, // 1002 or 1009
		{"binary", frame(0x82, ping), 1003},
		{"text that is not UTF-8", frame(text, "\xff\xfe"), 1007},
		{"text cut inside a character", frame(text, "\xe5\xbc"), 1007},
		{"a close reason that is not UTF-8", frame(0x88, "\x03\xe8\xff"), 1007},
		{"a message above the limit", frame(text, strings.Repeat("x", 64<<10+1)), 1009},
		{"a fragmented message above the limit", append(frame(0x01, strings.Repeat("x", 40<<10)), frame(0x80, strings.Repeat("x", 40<<10))...), 1009},
		{"a header that announces 1 GiB", []byte{text, 0x80 | 127, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4}, 1009},
		{"a normal close", frame(0x88, "\x03\xe8"), 1000},
		{"a close with an application's code", frame(0x88, "\x0f\xa0bye"), 4000},
	} {
		for _, path := range []string{"/ws/room", "/raw/room"} {
			w := openWire(t, n.Addr(), path)
			w.conn.Write(tt.bytes)
			code := w.closeCode()
			if tt.code == 0 && (code == 1002 || code == 1009) {
				continue
			}
			if code != tt.code {
				t.Errorf("%s on %s closes with %d: got %d", tt.name, path, tt.code, code)
			}
		}
	}
	c, w := join(t, n.URL(), "room")
	if w.Welcome.Offset != 0 {
		t.Errorf("nothing of all that was stored: the head is %d", w.Welcome.Offset)
	}
	c.Close()
}

func TestFramesInPieces(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	w := openWire(t, n.Addr(), "/raw/room")
	// "hello 弹幕" in three fragments, one of them inside a character, with a ping between them, byte by byte.
	text := "hello 弹幕"
	var bytes []byte
	bytes = append(bytes, frame(0x01, text[:3])...)
	bytes = append(bytes, frame(0x89, "are you there")...)
	bytes = append(bytes, frame(0x00, text[3:8])...)
	bytes = append(bytes, frame(0x80, text[8:])...)
	for _, b := range bytes {
		if _, err := w.conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if opcode, payload, err := w.read(); err != nil || opcode != 10 || string(payload) != "are you there" {
		t.Errorf("a ping between fragments is answered with its payload: got %d %q %v", opcode, payload, err)
	}
	if opcode, payload, err := w.read(); err != nil || opcode != 1 || string(payload) != text {
		t.Errorf("fragments are one message: got %d %q %v", opcode, payload, err)
	}
	// Many messages in one write.
	var many []byte
	for i := range 50 {
		many = append(many, frame(0x81, fmt.Sprint("m", i))...)
	}
	w.conn.Write(many)
	for i := range 50 {
		if _, payload, err := w.read(); err != nil || string(payload) != fmt.Sprint("m", i) {
			t.Fatalf("message m%d comes in its turn: got %q %v", i, payload, err)
		}
	}
}

func TestHandshakesHaveADeadline(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Env: []string{"BARRAGE_LIMITS_HANDSHAKE=500ms"}})
	for name, bytes := range map[string]string{
		"nothing": "", "half a request": "GET /ws/room HTTP/1.1\r\nHost: localhost\r\n", "half a line": "GE",
	} {
		conn, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		io.WriteString(conn, bytes)
		conn.SetReadDeadline(start.Add(8 * time.Second))
		_, err = io.Copy(io.Discard, conn)
		if took := time.Since(start); err != nil || took > 5*time.Second {
			t.Errorf("a client that sends %s is closed after the deadline of 0.5 s: %v after %s", name, err, took)
		}
		conn.Close()
	}
}

func TestBadHandshakes(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	good := []string{"Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"}
	with := func(i int, line string) string {
		lines := append([]string(nil), good...)
		lines[i] = line
		return strings.Join(lines, "\r\n")
	}
	for _, tt := range []struct {
		name, request string
		min, max      int
	}{
		{"a plain GET", "GET /ws/room HTTP/1.1\r\nHost: localhost", 400, 426},
		{"a POST", "POST /ws/room HTTP/1.1\r\n" + strings.Join(good, "\r\n"), 400, 405},
		{"version 8", "GET /ws/room HTTP/1.1\r\n" + with(4, "Sec-WebSocket-Version: 8"), 400, 426},
		{"no key", "GET /ws/room HTTP/1.1\r\n" + with(3, "X: y"), 400, 400},
		{"a short key", "GET /ws/room HTTP/1.1\r\n" + with(3, "Sec-WebSocket-Key: abc"), 400, 400},
		{"another upgrade", "GET /ws/room HTTP/1.1\r\n" + with(1, "Upgrade: h2c"), 400, 426},
		{"no host", "GET /ws/room HTTP/1.1\r\n" + with(0, "X: y"), 400, 400},
		{"an endless header", "GET /ws/room HTTP/1.1\r\n" + with(0, "Host: localhost\r\nX: "+strings.Repeat("y", 1<<20)), 400, 431},
		{"no HTTP", "HELLO", 400, 400},
	} {
		conn, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(defaultWait))
		go io.WriteString(conn, tt.request+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode < tt.min || resp.StatusCode > tt.max {
			t.Errorf("%s is refused with %d to %d: got %v, %v", tt.name, tt.min, tt.max, resp, err)
		}
		conn.Close()
	}
	if err := n.Ready(); err != nil {
		t.Error(err)
	}
}
