package load

import "bytes"

// MarkerSize is the length of a marker, and of the shortest message, in bytes.
const MarkerSize = 22

// Limits of what a marker can say.
const (
	maxRun    = 1<<12 - 1
	maxStream = 1<<24 - 1
	maxNumber = 1<<30 - 1
)

// Marker is how a message is known again:
//
//	~!~  3 bytes, which none of the invented texts contains
//	run  2 digits, stream 4 digits, number 5 digits, due 8 digits; base 64 of markerDigits, the most significant first
//
// All of its bytes stand for themselves inside of a JSON string.
type Marker struct {
	// Run tells messages of different runs apart, to 4095.
	Run uint16
	// Stream is the number of the publisher, to 16,777,215.
	Stream int32
	// Number counts the messages of a stream from 0.
	Number int32
	// Due is when the message was to be sent, in microseconds of CLOCK_MONOTONIC.
	Due int64
}

const markerDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"

var (
	markerStart = []byte("~!~")
	// digitValue is the value of a digit, noDigit for other bytes.
	digitValue = func() (values [256]uint8) {
		for i := range values {
			values[i] = noDigit
		}
		for i, c := range []byte(markerDigits) {
			values[c] = uint8(i)
		}
		return values
	}()
)

const noDigit = 0xff

// append appends the bytes of m.
func (m Marker) append(dst []byte) []byte {
	dst = append(dst, markerStart...)
	dst = appendDigits(dst, uint64(m.Run), 2)
	dst = appendDigits(dst, uint64(m.Stream), 4)
	dst = appendDigits(dst, uint64(m.Number), 5)
	return appendDigits(dst, uint64(m.Due), 8)
}

func appendDigits(dst []byte, v uint64, n int) []byte {
	for shift := 6 * (n - 1); shift >= 0; shift -= 6 {
		dst = append(dst, markerDigits[v>>shift&63])
	}
	return dst
}

// nextMarker finds the first marker in b and gives what follows it; ok is false when there is none.
func nextMarker(b []byte) (m Marker, rest []byte, ok bool) {
	for {
		at := bytes.Index(b, markerStart)
		if at < 0 || len(b)-at < MarkerSize {
			return Marker{}, nil, false
		}
		p := b[at+len(markerStart) : at+MarkerSize]
		var v [4]uint64
		bad, pos := uint8(0), 0
		for i, n := range [4]int{2, 4, 5, 8} {
			for _, c := range p[pos : pos+n] {
				d := digitValue[c]
				bad |= d
				v[i] = v[i]<<6 | uint64(d)
			}
			pos += n
		}
		if bad < 64 {
			m = Marker{Run: uint16(v[0]), Stream: int32(v[1]), Number: int32(v[2]), Due: int64(v[3])}
			return m, b[at+MarkerSize:], true
		}
		b = b[at+1:]
	}
}
