package node

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"barrage/cluster"
	"barrage/proto"
)

// Connections are those of this node, as the server API controls them.
type Connections interface {
	// Control does to the connections it means what c asks, and returns how many they are.
	Control(c proto.Control) int
	// Connections lists those of a user.
	Connections(user string) []proto.ConnectionInfo
	// Count is how many there are.
	Count() int
}

// Kinds of requests to other nodes.
const (
	kindControl     = "control"
	kindConnections = "connections"
	kindChannels    = "channels"
	kindForward     = "forward:"
)

// MaxConnectionsListed bounds the connections of a user that each node tells of, MaxChannelsListed the channels.
const (
	MaxConnectionsListed = 1_000
	MaxChannelsListed    = 10_000
)

// prepareCluster makes what nodes ask each other.
func (n *Node) prepareCluster(o Options) {
	o.Presence.complete()
	n.rosters.list = map[string]*roster{}
	n.rolls = rolls{limit: o.Presence.Limit, fresh: o.Presence.Fresh, calls: map[rollQuestion]*roll{}, places: make(chan struct{}, rollPlaces)}
	n.moves = moves{limit: o.Presence.Announce, after: o.Presence.Return, wake: make(chan struct{}, 1), stats: &n.stats, all: map[move]*moving{}}
	n.cluster = cluster.New(cluster.Options{ID: n.id, Name: n.name, Version: o.Version, Log: n.log, Load: n.load})
	n.usage = cluster.NewUsage(n.cluster)
	n.cluster.Handle(kindRoll, n.answerRoll)
	n.cluster.Handle(kindMoves, n.answerMoves)
	n.cluster.Handle(kindHandOver, n.inherit)
	n.cluster.Handle(kindControl, n.answerControl)
	n.cluster.Handle(kindConnections, n.answerConnections)
	n.cluster.Handle(kindChannels, n.answerChannels)
}

// SetConnections says who controls the connections of this node. Without it there are none.
func (n *Node) SetConnections(h Connections) { n.control.Store(&h) }

func (n *Node) connections() Connections {
	if h := n.control.Load(); h != nil {
		return *h
	}
	return nil
}

// load is how much there is on this node.
func (n *Node) load() cluster.Load {
	l := cluster.Load{Channels: n.hub.Channels(), Users: n.usage.Users()}
	if h := n.connections(); h != nil {
		l.Connections = h.Count()
	}
	return l
}

// Cluster lists the live nodes, this one among them, by name.
func (n *Node) Cluster() []cluster.NodeInfo { return n.cluster.Nodes() }

// ID is the node's id, unique in the cluster and in time.
func (n *Node) ID() string { return n.id }

// ClusterStats are the counters of what nodes ask each other.
func (n *Node) ClusterStats() *cluster.Stats { return n.cluster.Stats() }

// Usage is what users use on all nodes.
func (n *Node) Usage() *cluster.Usage { return n.usage }

// UserConnections is how many connections a user has on all nodes; see cluster.Usage for how exact that is.
func (n *Node) UserConnections(user string) int { return n.usage.Connections(user) }

// ask asks all nodes with q as JSON; merge hears each answer that could be read into an A, done the names of the others.
func ask[A any](n *Node, kind string, q any, merge func(A), done func(missing []string, err *proto.Error)) {
	payload, err := json.Marshal(q)
	if err != nil {
		done(nil, proto.ErrBadRequest.With("%v", err))
		return
	}
	err = n.cluster.Ask(cluster.Query{Kind: kind, Payload: payload, Done: func(answers cluster.Answers) {
		for _, answer := range answers.List {
			var a A
			if json.Unmarshal(answer.Payload, &a) != nil {
				answers.Missing = append(answers.Missing, answer.Name)
				continue
			}
			merge(a)
		}
		slices.Sort(answers.Missing)
		done(answers.Missing, nil)
	}})
	switch {
	case errors.Is(err, cluster.ErrTooLarge):
		done(nil, proto.ErrLimit)
	case err != nil:
		done(nil, proto.ErrTooMany)
	}
}

// Control does to a user's connections on all nodes what c asks. done hears once how many they were, and which nodes did not
// answer in time: those may have done it too, or will not. It never blocks.
func (n *Node) Control(c proto.Control, done func(affected int, missing []string, err *proto.Error)) {
	affected := 0
	ask(n, kindControl, c, func(a int) { affected += max(a, 0) }, func(missing []string, err *proto.Error) {
		done(affected, missing, err)
	})
}

func (n *Node) answerControl(r cluster.Request) ([]byte, error) {
	var c proto.Control
	if err := json.Unmarshal(r.Payload, &c); err != nil {
		return nil, err
	}
	affected := 0
	if h := n.connections(); h != nil {
		affected = h.Control(c)
	}
	return json.Marshal(affected)
}

// Connections lists a user's connections on all nodes, at most 1,000 of each. done hears once, as in Control; it never blocks.
func (n *Node) Connections(user string, done func(list []proto.ConnectionInfo, missing []string, err *proto.Error)) {
	var list []proto.ConnectionInfo
	ask(n, kindConnections, user, func(a []proto.ConnectionInfo) { list = append(list, a...) }, func(missing []string, err *proto.Error) {
		slices.SortFunc(list, func(a, b proto.ConnectionInfo) int { return strings.Compare(a.Client, b.Client) })
		done(list, missing, err)
	})
}

func (n *Node) answerConnections(r cluster.Request) ([]byte, error) {
	var user string
	if err := json.Unmarshal(r.Payload, &user); err != nil {
		return nil, err
	}
	h := n.connections()
	if h == nil {
		return []byte("[]"), nil
	}
	list := h.Connections(user)
	list = list[:min(len(list), MaxConnectionsListed)]
	for i := range list {
		list[i].Node = n.name
	}
	for {
		b, err := json.Marshal(list)
		if err != nil || len(b) <= cluster.MaxAnswer || len(list) == 0 {
			return b, err
		}
		list = list[:len(list)/2]
	}
}

// ChannelList are channels that have members on any node.
type ChannelList struct {
	// Channels are numbers of connections by channel.
	Channels map[string]int
	// Truncated says that there are more than are listed.
	Truncated bool
	// Missing are nodes that did not answer in time, by name.
	Missing []string
}

// channelsAnswer is what one node has.
type channelsAnswer struct {
	Channels  map[string]int `json:"channels"`
	Truncated bool           `json:"truncated,omitempty"`
}

// Channels lists the channels with members on any node whose names match pattern, where * stands for any text and ? for one
// character; an empty pattern matches all. At most 10,000 are listed. done hears once; it never blocks.
func (n *Node) Channels(pattern string, done func(ChannelList, *proto.Error)) {
	out := ChannelList{Channels: map[string]int{}}
	ask(n, kindChannels, pattern, func(a channelsAnswer) {
		out.Truncated = out.Truncated || a.Truncated
		for name, members := range a.Channels {
			if _, listed := out.Channels[name]; !listed && len(out.Channels) >= MaxChannelsListed {
				out.Truncated = true
				continue
			}
			out.Channels[name] += members
		}
	}, func(missing []string, err *proto.Error) {
		out.Missing = missing
		done(out, err)
	})
}

func (n *Node) answerChannels(r cluster.Request) ([]byte, error) {
	var pattern string
	if err := json.Unmarshal(r.Payload, &pattern); err != nil {
		return nil, err
	}
	a := channelsAnswer{Channels: map[string]int{}}
	size := 0
	for name, members := range n.hub.Local() {
		switch _, events := proto.EventsBase(name); {
		case members == 0, events, cluster.Reserved(name), pattern != "" && !match([]rune(pattern), []rune(name)):
		case len(a.Channels) >= MaxChannelsListed, size > cluster.MaxAnswer/8: // JSON makes a byte six at most
			a.Truncated = true
		default:
			a.Channels[name] = members
			size += len(name) + 8
		}
	}
	return json.Marshal(a)
}

// match compares text with a pattern, in which * stands for any text and ? for one character.
func match(pattern, text []rune) bool {
	star, back := -1, 0 // the last star, and where the text after what it stands for begins
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, back = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			back++
			p, t = star+1, back
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// forwardTimeout is how long Forward waits.
const forwardTimeout = 3 * time.Second

// OnForward says who takes the payloads of a kind that other nodes, or this one, forward here. h returns whether it could use the
// payload; it must return quickly, and payload is its own.
func (n *Node) OnForward(kind string, h func(payload []byte) bool) {
	n.cluster.Handle(kindForward+kind, func(r cluster.Request) ([]byte, error) { return json.Marshal(h(r.Payload)) })
}

// Forward gives a payload to what OnForward named on one node, by its id or name, which can be this node. done hears once
// whether that took it: false too when the node did not answer within 3 s, in which case it may have taken it all the same. It is
// taken at most once. payload must not be changed any more.
func (n *Node) Forward(node, kind string, payload []byte, done func(ok bool)) {
	id, known := n.cluster.Find(node)
	if !known {
		done(false)
		return
	}
	err := n.cluster.Ask(cluster.Query{
		Kind: kindForward + kind, Payload: payload, To: id, Timeout: forwardTimeout,
		Done: func(answers cluster.Answers) {
			ok := false
			for _, a := range answers.List {
				ok = json.Unmarshal(a.Payload, &ok) == nil && ok
			}
			done(ok)
		},
	})
	if err != nil {
		done(false)
	}
}
