package load

import (
	"fmt"
	"slices"
	"testing"

	"barrage/ws"
)

// collector writes down what a scan finds.
type collector struct{ found []string }

func (c *collector) marker(m Marker) { c.found = append(c.found, fmt.Sprint("message ", m.Number)) }
func (c *collector) controlFrame(op ws.Opcode, payload []byte) {
	c.found = append(c.found, fmt.Sprintf("control %d %s", op, payload))
}

func number(n int32) []byte { return Marker{Number: n}.append(nil) }

// stream has every kind of frame that a server sends.
func stream() (b []byte, want []string) {
	padded := func(n int32, size int) []byte { return messageText(nil, Marker{Number: n}, size) }
	b = ws.AppendFrame(b, ws.OpText, []byte(`{"welcome":{}}`))
	b = ws.AppendFrame(b, ws.OpText, number(0))
	b = ws.AppendFrame(b, ws.OpText, fmt.Appendf(nil, "{%q}\n{%q}\n", number(1), number(2)))
	b = ws.AppendFrame(b, ws.OpPing, []byte("are you there"))
	b = ws.AppendFrame(b, ws.OpText, padded(3, 126))
	b = ws.AppendFrame(b, ws.OpBinary, padded(4, 65535))
	b = ws.AppendFrame(b, ws.OpText, padded(5, 65536))
	b = ws.AppendHeader(b, ws.Header{Op: ws.OpText, Length: MarkerSize})
	b = append(b, number(6)...)
	b = ws.AppendFrame(b, ws.OpPong, nil)
	b = ws.AppendHeader(b, ws.Header{Fin: true, Op: ws.OpContinuation, Length: MarkerSize})
	b = append(b, number(7)...)
	b = ws.AppendFrame(b, ws.OpText, nil)
	return b, []string{
		"message 0", "message 1", "message 2", "control 9 are you there", "message 3", "message 4", "message 5", "message 6",
		"control 10 ", "message 7",
	}
}

func TestScanFindsTheSameInEverySplit(t *testing.T) {
	b, want := stream()
	splits := []int{1, 2, 3, 5, 22, 23, 24, 25, 100, 4096, 70_000, len(b)}
	for _, step := range splits {
		var c collector
		var waiting []byte
		for at := 0; at < len(b); at += step {
			waiting = append(waiting, b[at:min(at+step, len(b))]...)
			used, need, err := scan(waiting, &c)
			if err != nil {
				t.Fatalf("%d bytes at a time: %v", step, err)
			}
			waiting = waiting[used:]
			if len(waiting) > 0 && need <= len(waiting) {
				t.Fatalf("%d bytes at a time: %d bytes wait for at least %d", step, len(waiting), need)
			}
		}
		if len(waiting) > 0 || !slices.Equal(c.found, want) {
			t.Errorf("%d bytes at a time the same is found, got %v\nwant %v", step, c.found, want)
		}
	}
}

func TestScanRefusesFramesThatNoServerSends(t *testing.T) {
	for name, b := range map[string][]byte{
		"masked":             ws.AppendMaskedFrame(nil, ws.OpText, mask, number(1)),
		"length not minimal": {0x81, 126, 0, 1, 'x'},
		"length negative":    {0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0},
		"longer than memory": {0x81, 127, 0x10, 0, 0, 0, 0, 0, 0, 0},
	} {
		if _, _, err := scan(b, &collector{}); err == nil {
			t.Errorf("%s: a frame that no server may send is an error", name)
		}
	}
}

func FuzzScan(f *testing.F) {
	b, _ := stream()
	f.Add(b[:200])
	f.Add([]byte{0x81, 126, 0, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		used, need, err := scan(b, &collector{})
		if used < 0 || used > len(b) || err == nil && used < len(b) && need <= len(b)-used {
			t.Errorf("of %d bytes %d were used and %d are needed", len(b), used, need)
		}
	})
}
