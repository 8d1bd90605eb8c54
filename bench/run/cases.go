package main

import (
	"fmt"
	"strconv"
)

// benchCase is a load, what it is put on, and which figures are told.
type benchCase struct {
	name string
	// ours is how a node is measured, beside what it is compared with; nil for nothing.
	ours   side
	beside *side
	// figures to tell.
	figures []figure
}

// side is one of the two ways in which a case is measured.
type side struct {
	name string
	// args are what "barrage bench" is told besides the addresses, room what stands in them for the channel.
	args []string
	room string
	// wire is the protocol that is spoken; /raw when it is the zero value.
	wire wire
	// floor says that the floor is measured instead of nodes.
	floor bool
	// nodes is how many nodes are started, two of them with Redis and PostgreSQL; serve are their further flags.
	nodes int
	serve []string
}

// sides are the ways in which c is measured, in this order.
func (c *benchCase) sides() []side {
	if c.beside == nil {
		return []side{c.ours}
	}
	return []side{*c.beside, c.ours}
}

// wire is a protocol as the generator speaks it.
type wire struct {
	path, query string // of readers; query is that of publishers
	// hello is what readers send first, publisherHello what publishers do, wrap what a message is put into.
	hello, publisherHello, wrap string
}

var (
	rawWire  = wire{path: "/raw/{room}", query: "?echo=0"}
	jsonWire = wire{path: "/ws/{room}", query: "?echo=0", wrap: `{"publish":{"data":"{text}"}}`}
	// A frame holds several commands, one a line.
	centrifugeWire = wire{
		path:           "/connection/websocket",
		hello:          `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"{room}"}}`,
		publisherHello: `{"id":1,"connect":{}}`,
		wrap:           `{"id":2,"publish":{"channel":"{room}","data":"{text}"}}`,
	}
)

// unpinged keeps a node from pinging: the generator does not answer the pings of the Centrifuge protocol, which are messages.
var unpinged = []string{"--limits-ping", "1h"}

// with returns s speaking another protocol.
func (s side) with(name string, w wire, serve ...string) side {
	s.name, s.wire, s.serve = name, w, append(s.serve, serve...)
	return s
}

// liveClass makes the channels whose names begin with "live:" live ones: their messages are not stored.
var liveClass = []string{"--namespaces", "live:class=live"}

const liveRoom = "live:{room}"

func cases(o *options) []benchCase {
	s := scaled{o}
	all := []benchCase{
		{
			name: "storm of 10,000 connections", ours: node(s.args("--connections", s.n(10_000), "--storm")),
			beside:  floor(s.args("--connections", s.n(10_000), "--storm")),
			figures: []figure{connectCPU.atMost(1.5, 45), connectRate},
		},
		{
			name: "18,000 idle connections", ours: node(s.args("--connections", s.n(18_000), "--idle", s.longer(60).String())),
			beside:  floor(s.args("--connections", s.n(18_000), "--idle", s.longer(60).String())),
			figures: []figure{idleBytes.atMost(0, 600), idleCPU.atMost(0, 1)},
		},
	}
	for _, rate := range []string{"5", "20", "50", "100"} {
		args := s.traffic(10_000, 1, rate)
		c := benchCase{name: "1 room of 10,000, " + rate + "/s", ours: node(args), beside: floor(args), figures: traffic(1.25, 0)}
		if rate == "100" {
			c.figures = traffic(1.25, 1.5)
		}
		all = append(all, c)
	}
	return append(append(append(all, s.manyRooms()...), s.special()...), s.centrifuge()...)
}

// centrifuge are the cases of the Centrifuge protocol, beside the same load over /ws.
func (s scaled) centrifuge() (all []benchCase) {
	for _, rate := range []string{"20", "100"} {
		args := s.traffic(10_000, 1, rate)
		beside := node(args).with("/ws", jsonWire)
		all = append(all, benchCase{
			name: "Centrifuge JSON, 1 room of 10,000, " + rate + "/s", ours: node(args).with(ours, centrifugeWire, unpinged...), beside: &beside,
			figures: traffic(1.3, 0),
		})
	}
	idle := s.args("--connections", s.n(10_000), "--idle", s.longer(10).String())
	tokens := centrifugeWire
	tokens.hello = `{"id":1,"connect":{"token":"` + benchToken + `"}}`
	return append(all, benchCase{
		name: "10,000 idle Centrifuge connections, 1 channel", ours: node(idle).with(ours, centrifugeWire, unpinged...),
		figures: []figure{idleBytes.atMost(0, 1200)},
	}, benchCase{
		name: "storm of 10,000 Centrifuge connections with tokens", ours: node(s.args("--connections", s.n(10_000), "--storm")).with(ours, tokens, append([]string{"--auth-secret", benchSecret, "--limits-user-connections", "0"}, unpinged...)...),
		figures: []figure{connectCPU.atMost(0, 1e6/5000), connectRate},
	})
}

// benchToken is for the user "bench", signed by HS256 with benchSecret, and never expires.
const (
	benchSecret = "a secret of the benchmark with 32 bytes or more"
	benchToken  = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiZW5jaCJ9.ViOVr8hTp3u2aHdJAY42GYRIE18MfvEB6N-2kG7PcAs"
)

// manyRooms are the cases with 1,000 rooms of 10.
func (s scaled) manyRooms() []benchCase {
	slow, quick := s.traffic(10_000, 1_000, s.n(1_000)), s.traffic(10_000, 1_000, s.n(10_000))
	return []benchCase{
		{name: "1,000 rooms of 10, 1,000/s, live", ours: live(1, slow), beside: floor(slow), figures: traffic(0, 0)},
		{name: "1,000 rooms of 10, 10,000/s, live", ours: live(1, quick), beside: floor(quick), figures: traffic(1.5, 2)},
		{name: "1,000 rooms of 10, 10,000/s, stored", ours: node(quick), beside: floor(quick), figures: traffic(0, 0)},
		{
			name: "1,000 rooms of 10 on 2 nodes, 1,000/s, live", ours: live(2, slow),
			figures: append([]figure{messageCPU.atMost(0, centrifugo/2)}, traffic(0, 0)...),
		},
		{
			name: "1,000 rooms of 10 on 2 nodes, 10,000/s, live", ours: live(2, quick),
			figures: append([]figure{messageCPU, messageRate.atLeast(0.99 * 10_000 * s.scale)}, traffic(0, 0)...),
		},
	}
}

// centrifugo is what one message into a small room cost Centrifugo 6.9 with two nodes and Redis at 1,000 messages a second, in µs
// of CPU time of all three, on a comparable machine.
const centrifugo = 635

// special are the cases about slow readers and the garbage collector.
func (s scaled) special() []benchCase {
	calm := s.traffic(10_000, 1, "20", "--size", "512")
	stalled := append([]string{"--stall", "1%"}, calm...)
	return []benchCase{
		{
			name: "1 room of 10,000, 20/s of 512 bytes, 1 % stalled", ours: node(stalled),
			beside:  &side{name: "none stalled", args: calm, nodes: 1, room: "{room}"},
			figures: append(traffic(1.15, 1.5), stalledFigures...),
		},
		{
			name:    "1 room of 18,000, 20/s, collector",
			ours:    node(s.args("--connections", s.n(18_000), "--rate", "20", "--size", "128", "--warmup", "2s", "--duration", s.longer(20).String())),
			figures: append([]figure{pause.atMost(0, 5), pauses}, traffic(0, 0)...),
		},
	}
}

func floor(args []string) *side { return &side{name: "floor", floor: true, args: args, room: "{room}"} }

func node(args []string) side { return side{name: ours, args: args, nodes: 1, room: "{room}"} }

// live is nodes with rooms of the live class.
func live(nodes int, args []string) side {
	return side{name: ours, args: args, nodes: nodes, room: liveRoom, serve: liveClass}
}

// ours is the name of the side that is judged.
const ours = "barrage"

// scaled makes arguments of the size that the flags ask for.
type scaled struct{ *options }

func (s scaled) n(count float64) string { return strconv.Itoa(max(1, int(count*s.scale))) }

func (s scaled) args(args ...string) []string { return args }

// longer is the duration of a case that needs many seconds, as many times shorter as all others are asked to be.
func (s scaled) longer(seconds float64) fmt.Stringer {
	return durationOf(seconds * min(1, s.duration.Seconds()/6))
}

// traffic is a load of messages of 128 bytes, unless more says otherwise.
func (s scaled) traffic(connections, rooms float64, rate string, more ...string) []string {
	rooms64 := "1"
	if rooms > 1 {
		rooms64 = s.n(rooms)
	}
	return append([]string{
		"--connections", s.n(connections), "--rooms", rooms64, "--rate", rate, "--size", "128", "--warmup", "2s",
		"--duration", s.duration.String(), "--drain", "10s",
	}, more...)
}
