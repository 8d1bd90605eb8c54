package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

// member is one subscriber: its place in the channel, and what went wrong. It is owned by the loop of its process; while
// it has no connection, by the goroutine that connects it.
type member struct {
	fd      int // -1 without a connection
	next    uint64
	epoch   string
	missing map[uint64]bool // offsets that were passed over; nil while there are none
	left    []byte          // the beginning of a frame whose end has not arrived
	lost    time.Time       // when the last connection ended; zero before the first and once welcomed
	met     bool            // was welcomed once
	state   *findings       // of the process
}

// errClosed is a close frame from the server.
var errClosed = errors.New("closed by the server")

// errFrame is something that no server should send.
var errFrame = errors.New("unexpected frame")

// feed takes bytes as they came, handles all whole frames in them and keeps the rest. pong is called with the payload
// of each ping.
func (m *member) feed(data []byte, now time.Time, pong func([]byte)) error {
	if len(m.left) > 0 {
		m.left = append(m.left, data...)
		data = m.left
	}
	for {
		opcode, payload, size, err := cutFrame(data)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		data = data[size:]
		switch opcode {
		case 1:
			m.text(payload, now)
		case 8:
			return errClosed
		case 9:
			pong(payload)
		}
	}
	m.left = append(m.left[:0], data...)
	return nil
}

// cutFrame returns the first frame of data and its size, 0 when it is not whole. Servers do not mask, and barrage does
// not fragment.
func cutFrame(data []byte) (opcode byte, payload []byte, size int, err error) {
	if len(data) < 2 {
		return 0, nil, 0, nil
	}
	if data[0]&0xf0 != 0x80 || data[1]&0x80 != 0 {
		return 0, nil, 0, errFrame
	}
	length, head := int(data[1]), 2
	switch length {
	case 126:
		if head = 4; len(data) < head {
			return 0, nil, 0, nil
		}
		length = int(binary.BigEndian.Uint16(data[2:]))
	case 127:
		if head = 10; len(data) < head {
			return 0, nil, 0, nil
		}
		length = int(binary.BigEndian.Uint64(data[2:]))
	}
	if len(data) < head+length {
		return 0, nil, 0, nil
	}
	return data[0] & 0x0f, data[head : head+length], head + length, nil
}

var (
	messageStart = []byte(`{"message":{"offset":`)
	welcomeStart = []byte(`{"welcome":`)
	resetStart   = []byte(`{"reset":`)
)

// text handles the lines of one frame.
func (m *member) text(frame []byte, now time.Time) {
	for line := range bytes.SplitSeq(frame, []byte("\n")) {
		switch {
		case bytes.HasPrefix(line, messageStart):
			m.message(number(line[len(messageStart):]), millis(line), now)
		case bytes.HasPrefix(line, welcomeStart):
			m.welcome(line, now)
		case bytes.HasPrefix(line, resetStart):
			m.state.Resets++
			m.next = number(after(line, `"offset":`)) + 1
		case len(line) > 0:
			m.state.Errors++
		}
	}
}

func (m *member) message(offset uint64, stored int64, now time.Time) {
	switch {
	case offset == m.next:
		m.next++
	case offset > m.next:
		if m.missing == nil {
			m.missing = map[uint64]bool{}
		}
		for ; m.next < offset; m.next++ {
			m.missing[m.next] = true
		}
		m.next++
	case m.missing[offset]:
		delete(m.missing, offset)
		m.state.OutOfOrder++
	default:
		m.state.Repeated++
		return
	}
	m.state.Deliveries++
	m.state.Latency.Add(now.Sub(time.UnixMilli(stored)))
}

func (m *member) welcome(line []byte, now time.Time) {
	epoch, _, _ := bytes.Cut(after(line, `"epoch":"`), []byte(`"`))
	m.epoch = string(epoch)
	if !m.met {
		m.met = true
		node, _, _ := bytes.Cut(after(line, `"node":"`), []byte(`"`))
		m.state.Nodes[string(node)]++
	} else if !m.lost.IsZero() {
		m.state.Reconnects++
		m.state.Pauses.Add(now.Sub(m.lost))
	}
	m.lost = time.Time{}
}

// missed is how many offsets up to head the member has not seen.
func (m *member) missed(head uint64) uint64 {
	n := uint64(len(m.missing))
	if m.next <= head {
		n += head + 1 - m.next
	}
	return n
}

// after is what follows the first occurrence of key; empty when there is none.
func after(line []byte, key string) []byte {
	if i := bytes.Index(line, []byte(key)); i >= 0 {
		return line[i+len(key):]
	}
	return nil
}

// millis is the time of a message. It stands before everything that a user can write.
func millis(line []byte) int64 { return int64(number(after(line, `"time":`))) }

// number reads decimal digits.
func number(text []byte) (n uint64) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
