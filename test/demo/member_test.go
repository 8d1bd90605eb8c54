package main

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func frameOf(opcode byte, text string) []byte {
	b := []byte{0x80 | opcode}
	if len(text) < 126 {
		b = append(b, byte(len(text)))
	} else {
		b = append(b, 126, byte(len(text)>>8), byte(len(text)))
	}
	return append(b, text...)
}

func line(offset int, now time.Time) string {
	return fmt.Sprintf(`{"message":{"offset":%d,"time":%d,"data":"\"offset\":99 \"time\":1"}}`, offset, now.Add(-7*time.Millisecond).UnixMilli())
}

func TestMemberAccountsForEveryOffsetInAnySplit(t *testing.T) {
	now := time.Now()
	var bytes []byte
	bytes = append(bytes, frameOf(1, `{"welcome":{"node":"b","client":"c","channel":"live","epoch":"e1","offset":0}}`)...)
	bytes = append(bytes, frameOf(1, line(1, now)+"\n"+line(2, now))...)
	bytes = append(bytes, frameOf(9, "hi")...)
	bytes = append(bytes, frameOf(1, line(5, now))...) // 3 and 4 are missing
	bytes = append(bytes, frameOf(1, line(4, now))...) // late
	bytes = append(bytes, frameOf(1, line(2, now))...) // again
	for split := 1; split < len(bytes); split++ {
		state := &findings{Nodes: map[string]int{}}
		m := &member{next: 1, state: state}
		pongs := 0
		for i := 0; i < len(bytes); i += split {
			if err := m.feed(bytes[i:min(i+split, len(bytes))], now, func(p []byte) {
				if string(p) == "hi" {
					pongs++
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		if state.Deliveries != 4 || state.OutOfOrder != 1 || state.Repeated != 1 || m.missed(6) != 2 || pongs != 1 ||
			m.epoch != "e1" || state.Nodes["b"] != 1 || state.Errors != 0 {
			t.Fatalf("in pieces of %d: 4 deliveries, 1 late, 1 repeated, 3 and 6 missing: got %+v, missing %d, %d pongs", split, state, m.missed(6), pongs)
		}
		if ms := state.Latency.Quantile(0.5).Milliseconds(); ms < 7 || ms > 8 {
			t.Fatalf("the latency is taken from the message's time: got %d ms", ms)
		}
	}
}

func TestMemberKnowsTheEndOfAConnection(t *testing.T) {
	m := &member{next: 1, state: &findings{Nodes: map[string]int{}}}
	if err := m.feed(frameOf(8, "\x0b\xb9"), time.Now(), nil); !errors.Is(err, errClosed) {
		t.Errorf("a close frame ends the connection: got %v", err)
	}
	if err := m.feed([]byte{0x81, 0x85, 0, 0}, time.Now(), nil); !errors.Is(err, errFrame) {
		t.Errorf("a masked frame from a server is an error: got %v", err)
	}
}
