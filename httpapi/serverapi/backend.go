package serverapi

import (
	"barrage/node"
	"barrage/proto"
)

// Messages is what the API needs to publish and to read; see node.Node. A done hears once, from any goroutine.
type Messages interface {
	Publish(p node.Publication, done func(node.Published, *proto.Error))
	History(channel string, q node.HistoryQuery, done func(proto.History, *proto.Error))
	IsLive(channel string) bool
}

// Presence is what the API needs to tell who is in a channel; see node.Node.
type Presence interface {
	Presence(channel string, done func(proto.Roster, *proto.Error))
	Counts(channel string, done func(proto.Counts, *proto.Error))
}

// Eraser removes what a channel has stored.
type Eraser interface {
	RemoveHistory(channel string, done func(*proto.Error))
}

// Users is what the API needs to reach the connections of users on all nodes. missing are nodes that did not answer in time.
type Users interface {
	Control(c proto.Control, done func(affected int, missing []string, err *proto.Error))
	Connections(user string, done func(list []proto.ConnectionInfo, missing []string, err *proto.Error))
}

// ChannelList are channels in use on all nodes.
type ChannelList struct {
	// Channels are numbers of connections by channel.
	Channels map[string]int
	// Truncated says that there are more than are listed.
	Truncated bool
	// Missing are nodes that did not answer in time, by name.
	Missing []string
}

// Channels lists channels in use on all nodes, whose names match a pattern.
type Channels interface {
	Channels(pattern string, done func(ChannelList, *proto.Error))
}

// ChannelsFunc makes a function Channels.
type ChannelsFunc func(pattern string, done func(ChannelList, *proto.Error))

// Channels implements Channels.
func (f ChannelsFunc) Channels(pattern string, done func(ChannelList, *proto.Error)) {
	f(pattern, done)
}

// Nodes lists the nodes of the cluster that are alive.
type Nodes interface {
	Nodes(done func(list []NodeInfo, missing []string))
}

// NodesFunc makes a function Nodes.
type NodesFunc func(done func(list []NodeInfo, missing []string))

// Nodes implements Nodes.
func (f NodesFunc) Nodes(done func(list []NodeInfo, missing []string)) { f(done) }

// Backend is what carries out commands. Messages is needed; the commands of a part that is nil are answered by error 108.
type Backend struct {
	Messages Messages
	Presence Presence
	Eraser   Eraser
	Users    Users
	Channels Channels
	Nodes    Nodes
}
