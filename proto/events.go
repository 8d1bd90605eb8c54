package proto

import (
	"encoding/json"
	"strings"
	"sync"
)

// eventsSuffix is a control character: no channel of a client has a name with it.
const eventsSuffix = "\x00"

// EventsOf names the live channel that carries what happens in a channel besides its messages: members that join and leave. Who
// wants to know is a member of both.
func EventsOf(channel string) string { return channel + eventsSuffix }

// EventsBase returns the channel whose events name carries; ok is false when it carries messages.
func EventsBase(name string) (channel string, ok bool) { return strings.CutSuffix(name, eventsSuffix) }

// MemberInfo is a connection as other members see it.
type MemberInfo struct {
	User     string          `json:"user"`
	Client   string          `json:"client"`
	Info     json.RawMessage `json:"info,omitempty"`      // of the connection token
	ChanInfo json.RawMessage `json:"chan_info,omitempty"` // of the subscription token
}

// MemberEvent is the data of a message in a channel's events: exactly one of the two is set.
type MemberEvent struct {
	Join  *MemberInfo `json:"join,omitempty"`
	Leave *MemberInfo `json:"leave,omitempty"`
}

// Roster is who is in a channel, on all nodes.
type Roster struct {
	// Members are all connections, or, when there are more than the limit, a sample of them: see Sampled.
	Members []MemberInfo
	Counts
	// Sampled says that there are more members than are listed.
	Sampled bool

	forms *rosterForms // nil until Share
}

// rosterForms are what a roster was encoded as. There are as many as there are encodings.
type rosterForms struct {
	mu   sync.Mutex
	list map[string][]byte // owner: mu; by encoding
}

// Share makes Form encode once for all copies of the roster that are made from now on. The roster must not be changed any more.
func (r *Roster) Share() { r.forms = &rosterForms{list: map[string][]byte{}} }

// Form returns what encode makes of the roster, which is called once for all who ask for the same encoding when the roster is
// shared: who asks meanwhile waits for it. The bytes must not be changed.
func (r *Roster) Form(encoding string, encode func() []byte) []byte {
	if r.forms == nil {
		return encode()
	}
	r.forms.mu.Lock()
	defer r.forms.mu.Unlock()
	b, ok := r.forms.list[encoding]
	if !ok {
		b = encode()
		r.forms.list[encoding] = b
	}
	return b
}

// Counts is how many are in a channel, on all nodes.
type Counts struct {
	// Clients is the number of connections.
	Clients int
	// Users is the number of distinct users; those without a user id count as one each. Estimated, when Exact is false.
	Users int
	Exact bool
	// Missing are nodes that did not answer in time, by name: what they have is not counted.
	Missing []string
}
