package channel

import (
	"strings"
	"time"

	"barrage/proto"
)

// Namespace says how the channels of a namespace behave. The zero value stores every message and never waits.
type Namespace struct {
	// Live stores nothing: each message is delivered at most once.
	Live bool
	// Merge is how long a message may wait for others while the channel is busy; 0 means not at all.
	Merge time.Duration
}

// Namespaces are the namespaces of a node. They must not be changed while it runs.
type Namespaces struct {
	// Default is for channels that belong to no other.
	Default Namespace
	// Named are for the channels NAME:REST.
	Named map[string]Namespace
}

// Of is the namespace that a channel belongs to. The events of a channel are live, whatever it is itself.
func (n *Namespaces) Of(channel string) Namespace {
	if base, ok := proto.EventsBase(channel); ok {
		return Namespace{Live: true, Merge: n.Of(base).Merge}
	}
	if name, _, ok := strings.Cut(channel, ":"); ok && len(n.Named) > 0 {
		if ns, ok := n.Named[name]; ok {
			return ns
		}
	}
	return n.Default
}
