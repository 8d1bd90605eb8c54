package session

import (
	"bytes"
	"strings"
	"testing"

	"barrage/fanout"
	"barrage/proto"
	"barrage/ws"
)

// inflated reads the one frame of a server in b, which may be deflated.
func inflated(t *testing.T, b []byte) (text string, deflated bool) {
	t.Helper()
	a := ws.NewAssembler(&ws.Rules{FromServer: true, Deflate: true, MaxMessage: 1 << 20})
	n := 0
	if err := a.Feed(bytes.Clone(b), func(ev ws.Event) error {
		text, deflated, n = string(ev.Payload), ev.Deflated, n+1
		return nil
	}); err != nil || n != 1 || a.Buffered() != 0 {
		t.Fatalf("%x is one frame, not %d (%v)", b, n, err)
	}
	return text, deflated
}

func TestDeflatedFormatsSayTheSameAsThePlainOnes(t *testing.T) {
	compression := &Compression{Threshold: 100}
	plain, all := Codecs(), DeflatedCodecs(compression)
	if len(all) != formats+overWebSocket || len(plain) != formats {
		t.Fatalf("there are %d formats, and those over WebSocket come deflated too: %d, %d", formats, len(plain), len(all))
	}
	plain = plain[:overWebSocket]
	prefix := []byte("before")
	for format := range plain {
		for _, size := range []int{0, 50, 99, 100, 5000, 100_000} {
			m := &proto.Message{Offset: 7, Time: 8, Data: []byte(`"` + strings.Repeat("x", size) + `"`)}
			want := plain[format].AppendFrame(nil, "", m)
			if got := all[format].AppendFrame(nil, "", m); !bytes.Equal(got, want) {
				t.Errorf("format %d stays plain in DeflatedCodecs", format)
			}
			got := all[formats+format].AppendFrame(bytes.Clone(prefix), "", m)
			text, deflated := inflated(t, got[len(prefix):])
			wantText, _ := inflated(t, want)
			if !bytes.HasPrefix(got, prefix) || text != wantText {
				t.Errorf("the deflated format %d says the same in a message of %d bytes", format, size)
			}
			if should := len(wantText) >= 100; deflated != should || should == (len(got)-len(prefix) >= len(want)) {
				t.Errorf("a payload of %d bytes is deflated from the threshold of 100 on, not %v, and has %d bytes then", len(wantText), deflated, len(got))
			}
		}
		p := proto.Position{Epoch: "e", Offset: 3}
		a, b := plain[format].Reset("", p, "why"), all[formats+format].Reset("", p, "why")
		if !bytes.Equal(a.Frames, b.Frames) || a.End != b.End {
			t.Errorf("the deflated format %d resets as the plain one does", format)
		}
	}
	noise := &proto.Message{Data: []byte(`"0G7dQz4vXw1BpLk9sRjT2mYcHn6uEa8fVoI3gK5xWhZbDyCqPtNrUlAeSiJfMO+_)(*&^%$#@!~{}|:<>?,./;'[]-=AbCdEf0918273645zZyYxX"`)}
	compression.Threshold = 0
	if text, deflated := inflated(t, all[formats+Raw].AppendFrame(nil, "", noise)); deflated || text != strings.Trim(string(noise.Data), `"`) {
		t.Error("what does not become smaller is sent as it is")
	}
	if n, before, after := compression.Deflated.Load(), compression.Before.Load(), compression.After.Load(); n == 0 || before < 210_000 || after > before/10 {
		t.Errorf("what was deflated is counted: %d, %d bytes to %d", n, before, after)
	}
}

func TestASessionThatNegotiatedCompression(t *testing.T) {
	for format := range formats {
		b := &backend{}
		writers := fanout.NewWriters(1)
		t.Cleanup(writers.Close)
		s := New(Options{
			Connection: &client{out: fanout.NewOutlet(writers, &socket{}, 0), server: &Server{Backend: b, Compression: &Compression{}}},
			Channel:    "room", Format: format, Deflated: true,
		})
		s.Start(&proto.JoinQuery{})
		if got := b.joins[0].Format; got != formats+format {
			t.Errorf("it joins with the deflated codec of its format %d, not with codec %d", format, got)
		}
	}
}

func TestLongAnswersAreDeflated(t *testing.T) {
	c := open(t, JSON, "")
	c.deflate, c.server.Compression = true, &Compression{Threshold: 500}
	c.join()
	c.next(1)
	c.says(`{"history":{"id":"h"}}`)
	c.backend.page(proto.History{Epoch: "e", Offset: 1, Messages: []proto.Message{{Offset: 1, Data: []byte(`"` + strings.Repeat("x", 1000) + `"`)}}}, nil)
	c.says(`{"ping":{}}`)
	frames := c.next(2)
	// The kit gives the payload; the frame around it was deflated.
	header := ws.AppendHeader(nil, ws.Header{Fin: true, RSV: 4, Op: ws.OpText, Length: uint64(len(frames[0]))})
	if text, _ := inflated(t, append(header, frames[0]...)); len(frames[0]) > 200 || !strings.HasPrefix(text, `{"history":{"id":"h",`) {
		t.Errorf("a page of history is deflated, not sent as %d bytes, %s", len(frames[0]), text)
	}
	if frames[1] != `{"pong":{}}` {
		t.Errorf("a short answer stays as it is, not %q", frames[1])
	}
}
