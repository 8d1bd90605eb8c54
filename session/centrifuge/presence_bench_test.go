package centrifuge

import (
	"fmt"
	"testing"

	"barrage/proto"
)

// BenchmarkPresenceReply is what the answer to each who asks for a roster of 1,000 members costs to write.
func BenchmarkPresenceReply(b *testing.B) {
	r := proto.Roster{Counts: proto.Counts{Clients: 1000, Users: 1000, Exact: true}}
	for i := range 1000 {
		r.Members = append(r.Members, proto.MemberInfo{User: fmt.Sprint("user", i), Client: fmt.Sprintf("%016x", i), Info: []byte(`{"name":"Somebody","color":"#aabbcc"}`)})
	}
	r.Share()
	for name, w := range map[string]wire{"JSON": wires[JSON], "Protobuf": wires[Protobuf]} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.roster(7, &r)
			}
		})
	}
	b.Run("ws", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			proto.AppendPresence(nil, &proto.Presence{ID: "7", Roster: r})
		}
	})
}
