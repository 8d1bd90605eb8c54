package load

import (
	"time"

	"barrage/internal/trace"
)

// Schedule says which message is due when: at a constant rate, the publishers in turn, or as recorded. It is open-loop: nothing that
// a server does changes it.
type Schedule struct {
	// Streams is the number of publishers, who take turns.
	Streams int `json:"streams"`
	// Rate is the number of messages a second in all rooms together; 0 with a trace.
	Rate float64 `json:"rate,omitempty"`
	// Size of each message in bytes; with a trace every message has the recorded size. At least MarkerSize is sent.
	Size int `json:"size,omitempty"`
	// Trace is what is played, its first message at Origin. An author always is the same publisher.
	Trace  []trace.Entry `json:"trace,omitempty"`
	Origin time.Duration `json:"origin,omitempty"`
	// Speed is how many times as fast a trace is played; 0 means 1.
	Speed float64 `json:"speed,omitempty"`
	// Length is how long messages are sent, warm-up included.
	Length time.Duration `json:"length"`
}

// planned is one message of a schedule.
type planned struct {
	// at is when it is due, since the start.
	at     time.Duration
	stream int32
	size   int
}

// message gives message number i; ok is false at the end.
func (s *Schedule) message(i int) (p planned, ok bool) {
	if s.Trace != nil {
		if i >= len(s.Trace) {
			return planned{}, false
		}
		e := s.Trace[i]
		at := e.At - s.Origin
		if s.Speed > 0 {
			at = time.Duration(float64(at) / s.Speed)
		}
		return planned{at, int32((e.Author - 1) % s.Streams), max(e.Bytes, MarkerSize)}, at < s.Length
	}
	if s.Rate <= 0 {
		return planned{}, false
	}
	at := time.Duration(float64(i) / s.Rate * float64(time.Second))
	return planned{at, int32(i % s.Streams), max(s.Size, MarkerSize)}, at < s.Length
}

// messageText appends a message: its marker, and a text that fills it to size bytes.
func messageText(dst []byte, m Marker, size int) []byte {
	dst = m.append(dst)
	if left := size - MarkerSize; left > 0 {
		dst = append(dst, trace.Text(uint64(m.Stream), uint64(m.Number), left)...)
	}
	return dst
}
