package serverapi

import "barrage/proto"

// memberBytes is what a member, a channel or a node is counted with in an answer, besides its texts.
const memberBytes = 64

func (a *API) presence(c *call, q *ChannelRequest, done func(*PresenceResult, *proto.Error)) {
	if err := proto.CheckChannel(q.Channel); err != nil {
		done(nil, proto.ErrBadRequest.With("channel: %v", err))
		return
	}
	if a.backend.Presence == nil {
		done(nil, absent("presence"))
		return
	}
	a.backend.Presence.Presence(q.Channel, func(r proto.Roster, err *proto.Error) {
		if err != nil {
			done(nil, err)
			return
		}
		result := &PresenceResult{Presence: make(map[string]ClientInfo, len(r.Members)), Sampled: r.Sampled, Missing: r.Missing}
		size := 0
		for _, m := range r.Members {
			size += memberBytes + len(m.User) + 2*len(m.Client) + len(m.Info) + len(m.ChanInfo)
			result.Presence[m.Client] = ClientInfo{User: m.User, Client: m.Client, ConnInfo: m.Info, ChanInfo: m.ChanInfo}
		}
		if !c.spend(size) {
			done(nil, errAnswer)
			return
		}
		done(result, nil)
	})
}

func (a *API) presenceStats(_ *call, q *ChannelRequest, done func(*PresenceStatsResult, *proto.Error)) {
	if err := proto.CheckChannel(q.Channel); err != nil {
		done(nil, proto.ErrBadRequest.With("channel: %v", err))
		return
	}
	if a.backend.Presence == nil {
		done(nil, absent("presence_stats"))
		return
	}
	a.backend.Presence.Counts(q.Channel, func(n proto.Counts, err *proto.Error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(&PresenceStatsResult{NumClients: n.Clients, NumUsers: n.Users, Estimated: !n.Exact, Missing: n.Missing}, nil)
	})
}

func (a *API) channels(c *call, q *ChannelsRequest, done func(*ChannelsResult, *proto.Error)) {
	if len(q.Pattern) > proto.MaxChannelBytes {
		done(nil, proto.ErrBadRequest.With("pattern: it has %d bytes; at most %d are allowed", len(q.Pattern), proto.MaxChannelBytes))
		return
	}
	if a.backend.Channels == nil {
		done(nil, absent("channels"))
		return
	}
	a.backend.Channels.Channels(q.Pattern, func(list ChannelList, err *proto.Error) {
		if err != nil {
			done(nil, err)
			return
		}
		result := &ChannelsResult{Channels: make(map[string]ChannelInfo, len(list.Channels)), Truncated: list.Truncated, Missing: list.Missing}
		size := 0
		for name, n := range list.Channels {
			size += memberBytes + len(name)
			result.Channels[name] = ChannelInfo{NumClients: n}
		}
		if !c.spend(size) {
			done(nil, errAnswer)
			return
		}
		done(result, nil)
	})
}

func (a *API) info(c *call, _ *Empty, done func(*InfoResult, *proto.Error)) {
	if a.backend.Nodes == nil {
		done(nil, absent("info"))
		return
	}
	a.backend.Nodes.Nodes(func(list []NodeInfo, missing []string) {
		if !c.spend(len(list) * 4 * memberBytes) {
			done(nil, errAnswer)
			return
		}
		if list == nil {
			list = []NodeInfo{}
		}
		done(&InfoResult{Nodes: list, Missing: missing}, nil)
	})
}
