package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"
)

func sampleEnvelopes() []Envelope {
	return []Envelope{
		{Kind: EnvelopeEntries, Node: "a", Epoch: "e1", Messages: []Message{
			{Offset: 7, Time: 1700000000000, User: "Zoë", Client: "c1", Data: []byte(`"弹幕"`)},
			{Offset: math.MaxUint64, Time: -1, Data: []byte(`{}`)},
		}},
		{Kind: EnvelopeEntries, Node: "", Epoch: "", Messages: []Message{}},
		{Kind: EnvelopeLive, Node: "a", Number: 1 << 40, Messages: []Message{{Time: 1700000000000, User: "u", Client: "c", Data: []byte(`1`)}, {Data: []byte(`2`)}}},
		{Kind: EnvelopeEntries, Node: "a", Epoch: "e1", Messages: []Message{
			{Offset: 8, Time: 1700000000000, User: "u", Data: []byte(`1`), Attributes: []byte(`{"info":1}`)}, {Offset: 9, Data: []byte(`2`)},
		}},
		{Kind: EnvelopeLive, Node: "a", Number: 7, Messages: []Message{{Data: []byte(`1`), Attributes: []byte(`{"tags":{"a":"b"}}`)}}},
		{Kind: EnvelopeRemoved, Node: "node-2", Epoch: "e1", Head: 1 << 40},
		{Kind: EnvelopeHead, Node: "node-2", Epoch: "e1", Head: 1 << 40},
		{Kind: EnvelopeMembers, Node: "node-3", Members: math.MaxUint32},
	}
}

func TestEnvelopeRoundTrip(t *testing.T) {
	for _, want := range sampleEnvelopes() {
		prefix := []byte("kept")
		b := AppendEnvelope(prefix, &want)
		if !bytes.HasPrefix(b, prefix) {
			t.Fatalf("AppendEnvelope must append; it wrote %q", b)
		}
		b = b[len(prefix):]
		got, err := ParseEnvelope(b)
		if err != nil {
			t.Fatalf("an encoded %+v cannot be parsed: %v", want, err)
		}
		clear(b)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("parsed %+v, want %+v, also after the bytes were reused", got, want)
		}
	}
}

func TestEveryCutEnvelopeIsRefused(t *testing.T) {
	for _, e := range sampleEnvelopes() {
		b := AppendEnvelope(nil, &e)
		for n := range b {
			if _, err := ParseEnvelope(b[:n]); !errors.Is(err, ErrEnvelope) {
				t.Errorf("the first %d of %d bytes of %+v give error %v, want ErrEnvelope", n, len(b), e, err)
			}
		}
		if _, err := ParseEnvelope(append(b, 0)); !errors.Is(err, ErrEnvelope) {
			t.Errorf("a byte after the end of %+v gives error %v, want ErrEnvelope", e, err)
		}
	}
}

func TestEnvelopeOfAnotherVersionIsNamed(t *testing.T) {
	for _, b := range [][]byte{{3, 1, 0, 0, 0}, {0, 1, 0, 0, 0}, {1, 99, 0, 0, 0}} {
		if _, err := ParseEnvelope(b); !errors.Is(err, ErrEnvelopeVersion) {
			t.Errorf("envelope % x gives error %v, want ErrEnvelopeVersion", b, err)
		}
	}
}

// Nodes of the version before know version 1 alone: it must stay as it is, byte by byte, and must be what is written wherever it can
// say the same.
func TestEnvelopeBytes(t *testing.T) {
	m := Message{Offset: 7, Time: 3, User: "u", Client: "c", Data: []byte(`"d"`)}
	with := m
	with.Attributes = []byte(`{"info":1}`)
	for _, c := range []struct {
		e    Envelope
		want string
	}{
		{Envelope{Kind: EnvelopeEntries, Node: "n", Epoch: "e", Messages: []Message{m}}, "\x01\x01\x01n\x01e\x01\x07\x06\x01u\x01c\x03\"d\""},
		{
			Envelope{Kind: EnvelopeEntries, Node: "n", Epoch: "e", Messages: []Message{m, with}},
			"\x02\x01\x01n\x01e\x02\x07\x06\x01u\x01c\x03\"d\"\x00\x07\x06\x01u\x01c\x03\"d\"\x0a{\"info\":1}",
		},
		{Envelope{Kind: EnvelopeLive, Node: "n", Number: 5, Messages: []Message{{Data: []byte(`1`)}}}, "\x01\x04\x01n\x00\x05\x01\x00\x00\x00\x00\x011"},
		{
			Envelope{Kind: EnvelopeLive, Node: "n", Number: 5, Messages: []Message{{Data: []byte(`1`), Attributes: []byte(`{}`)}}},
			"\x02\x04\x01n\x00\x05\x01\x00\x00\x00\x00\x011\x02{}",
		},
		{Envelope{Kind: EnvelopeHead, Node: "n", Epoch: "e", Head: 300}, "\x01\x02\x01n\x01e\xac\x02"},
		{Envelope{Kind: EnvelopeRemoved, Node: "n", Epoch: "e", Head: 300}, "\x01\x08\x01n\x01e\xac\x02"},
		{Envelope{Kind: EnvelopeMembers, Node: "n", Members: 9}, "\x01\x03\x01n\x00\x09"},
	} {
		if got := string(AppendEnvelope(nil, &c.e)); got != c.want {
			t.Errorf("%+v must be written as %q, not %q", c.e, c.want, got)
		}
	}
}

func TestALiveMessageHasNoOffset(t *testing.T) {
	b := AppendEnvelope(nil, &Envelope{Kind: EnvelopeLive, Messages: []Message{{Offset: 3, Data: []byte(`1`)}}})
	if _, err := ParseEnvelope(b); !errors.Is(err, ErrEnvelope) {
		t.Errorf("a live message with an offset gives error %v, want ErrEnvelope", err)
	}
}

func TestDeclaredLengthsDoNotAllocate(t *testing.T) {
	huge := binary.AppendUvarint([]byte{1, 1, 0, 0}, 1<<40)    // messages
	text := binary.AppendUvarint([]byte{1, 1}, 1<<40)          // bytes of the node's id
	members := binary.AppendUvarint([]byte{1, 3, 0, 0}, 1<<40) // more than fit
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, b := range [][]byte{huge, text, members} {
		if _, err := ParseEnvelope(b); !errors.Is(err, ErrEnvelope) {
			t.Errorf("envelope % x gives error %v, want ErrEnvelope", b, err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("three short envelopes with huge declared lengths allocated %d bytes", grown)
	}
}

func FuzzParseEnvelope(f *testing.F) {
	for _, e := range sampleEnvelopes() {
		f.Add(AppendEnvelope(nil, &e))
	}
	f.Add([]byte{1, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnvelope(b)
		if err != nil {
			return
		}
		again, err := ParseEnvelope(AppendEnvelope(nil, &e))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("% x parses as %+v, which encodes and parses as %+v (%v)", b, e, again, err)
		}
	})
}
