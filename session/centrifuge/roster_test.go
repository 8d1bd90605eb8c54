package centrifuge

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/centrifugal/protocol"

	"barrage/proto"
)

func TestARosterIsEncodedOnceForAllWhoAskAndIsTheirReply(t *testing.T) {
	for f := range formats {
		if f.unidirectional() {
			continue // they ask nothing
		}
		for _, count := range []int{0, 1, 300} {
			r, w := proto.Roster{}, wires[f]
			members := map[string]*protocol.ClientInfo{}
			for i := range count {
				m := proto.MemberInfo{User: fmt.Sprint("u", i), Client: fmt.Sprint("c", i), Info: []byte(`{"a":1}`)}
				r.Members = append(r.Members, m)
				members[m.Client] = clientInfo(&m)
			}
			r.Share()
			for _, id := range []uint32{0, 1, 128, 1<<32 - 1} {
				got := w.roster(id, &r)
				want := w.reply(&protocol.Reply{Id: id, Presence: &protocol.PresenceResult{Presence: members}})
				// A map is written in any order, so with several members only the length is the same.
				if len(got) != len(want) || count < 2 && !bytes.Equal(got, want) {
					t.Errorf("format %d, %d members, id %d: the reply is %q, but got %q", f, count, id, want, got)
				}
			}
			r.Members = nil
			if a, b := w.roster(1, &r), w.roster(1, &r); count > 0 && !bytes.Equal(a, b) || len(a) < count {
				t.Errorf("format %d: what was encoded once is given again", f)
			}
		}
	}
}
