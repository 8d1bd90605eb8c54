package journal

import "barrage/proto"

// Batch is what one commit of a Writer stored: Stored[i] is where Drafts[i] went.
type Batch struct {
	Epoch  proto.Epoch
	Drafts []Draft
	Stored []Stored
}

// Group is what a batch added to one channel: consecutive messages, ascending.
type Group struct {
	Channel  string
	Messages []proto.Message
}

// Groups returns what the batch added, one group for each channel, in the order in which the channels first occur.
// Repeated drafts are left out: their messages were stored before.
func (b Batch) Groups() []Group {
	var groups []Group
	index := make(map[string]int)
	for i, d := range b.Drafts {
		if b.Stored[i].Repeated {
			continue
		}
		at, ok := index[d.Channel]
		if !ok {
			at = len(groups)
			index[d.Channel] = at
			groups = append(groups, Group{Channel: d.Channel})
		}
		groups[at].Messages = append(groups[at].Messages, proto.Message{
			Offset: b.Stored[i].Offset, Time: b.Stored[i].Time, User: d.User, Client: d.Client, Data: d.Data, Attributes: d.Attributes,
		})
	}
	return groups
}
