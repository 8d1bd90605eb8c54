package node

import "barrage/proto"

// Enter tells that a connection of this node is a member of a channel, as m describes it. With announce the other members are
// told too, where the channel is small.
func (n *Node) Enter(name string, m proto.MemberInfo, announce bool) {}

// Exit ends what Enter began.
func (n *Node) Exit(name, client string) {}

// Presence lists who is in a channel on all nodes. done hears once, from another goroutine or at once; it never blocks.
func (n *Node) Presence(name string, done func(proto.Roster, *proto.Error)) {
	done(proto.Roster{}, proto.ErrNotAvailable)
}

// Counts counts who is in a channel on all nodes. done hears once, from another goroutine or at once; it never blocks.
func (n *Node) Counts(name string, done func(proto.Counts, *proto.Error)) {
	done(proto.Counts{}, proto.ErrNotAvailable)
}
