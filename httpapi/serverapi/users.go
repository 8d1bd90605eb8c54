package serverapi

import (
	"barrage/proto"
)

// Limits of what clients are told, and of a list of connections.
const (
	maxReason    = 123 // RFC 6455, section 5.5: a close frame has 125 bytes, 2 of them the code
	maxWhitelist = 1000
)

// control makes the part of a command that says whose connections are meant.
func (t *Target) control(kind proto.ControlKind) (proto.Control, *proto.Error) {
	if t.Session != "" {
		return proto.Control{}, proto.ErrNotAvailable.With("session is not available: name the connection by client")
	}
	if t.User == "" { // connections are found by their users alone
		return proto.Control{}, proto.ErrBadRequest.With("there is no user; give the id of one, also with client: anonymous connections cannot be named")
	}
	if err := proto.CheckUser(t.User); err != nil {
		return proto.Control{}, proto.ErrBadRequest.With("user: %v", err)
	}
	if err := proto.CheckUser(t.Client); err != nil {
		return proto.Control{}, proto.ErrBadRequest.With("client: %v", err)
	}
	return proto.Control{Kind: kind, User: t.User, Client: t.Client}, nil
}

// control asks for something of connections, unless there is already an error.
func (a *API) control(c proto.Control, err *proto.Error, done func(*ControlResult, *proto.Error)) {
	switch {
	case err != nil:
		done(nil, err)
	case a.backend.Users == nil:
		done(nil, absent(string(c.Kind)))
	default:
		a.backend.Users.Control(c, func(affected int, missing []string, err *proto.Error) {
			if err != nil {
				done(nil, err)
				return
			}
			done(&ControlResult{Affected: affected, Missing: missing}, nil)
		})
	}
}

func (a *API) subscribe(_ *call, q *SubscribeRequest, done func(*ControlResult, *proto.Error)) {
	c, err := q.control()
	a.control(c, err, done)
}

func (q *SubscribeRequest) control() (proto.Control, *proto.Error) {
	c, err := q.Target.control(proto.ControlSubscribe)
	if err != nil {
		return c, err
	}
	if err := proto.CheckChannel(q.Channel); err != nil {
		return c, proto.ErrBadRequest.With("channel: %v", err)
	}
	if c.Info, err = value("info", q.Info, q.B64Info); err != nil {
		return c, err
	}
	if c.Data, err = value("data", q.Data, q.B64Data); err != nil {
		return c, err
	}
	if len(c.Info) > proto.MaxAttributesBytes {
		return c, proto.ErrBadRequest.With("info has %d bytes; at most %d are allowed", len(c.Info), proto.MaxAttributesBytes)
	}
	if q.ExpireAt < 0 {
		return c, proto.ErrBadRequest.With("expire_at: %d is negative; give Unix seconds, or 0 for never", q.ExpireAt)
	}
	c.Channel, c.Expires = q.Channel, q.ExpireAt
	if q.RecoverSince != nil {
		since := proto.Offset(q.RecoverSince.Offset)
		c.Since, c.Epoch = &since, proto.Epoch(q.RecoverSince.Epoch)
	}
	return c, nil
}

func (a *API) unsubscribe(_ *call, q *UnsubscribeRequest, done func(*ControlResult, *proto.Error)) {
	c, err := q.control(proto.ControlUnsubscribe)
	if err == nil && q.Channel != "" {
		if bad := proto.CheckChannel(q.Channel); bad != nil {
			err = proto.ErrBadRequest.With("channel: %v", bad)
		}
	}
	c.Channel = q.Channel
	a.control(c, err, done)
}

func (a *API) disconnect(_ *call, q *DisconnectRequest, done func(*ControlResult, *proto.Error)) {
	c, err := q.control(proto.ControlDisconnect)
	c.Except = append(q.Whitelist, q.OldWhitelist...)
	if err == nil && len(c.Except) > maxWhitelist {
		err = proto.ErrLimit.With("whitelist has %d connections; at most %d are allowed", len(c.Except), maxWhitelist)
	}
	if d := q.Disconnect; err == nil && d != nil {
		switch {
		case d.Code != 0 && (d.Code < 3000 || d.Code > 4999):
			err = proto.ErrBadRequest.With("disconnect: the code %d is out of bounds; give 3000 to 4999, or 0", d.Code)
		case len(d.Reason) > maxReason:
			err = proto.ErrBadRequest.With("disconnect: the reason has %d bytes; at most %d are allowed", len(d.Reason), maxReason)
		default:
			c.Code, c.Reason = uint16(d.Code), d.Reason
		}
	}
	a.control(c, err, done)
}

func (a *API) refresh(_ *call, q *RefreshRequest, done func(*ControlResult, *proto.Error)) {
	c, err := q.control(proto.ControlRefresh)
	if err == nil && q.ExpireAt < 0 {
		err = proto.ErrBadRequest.With("expire_at: %d is negative; give Unix seconds, or 0 for never", q.ExpireAt)
	}
	c.Expired, c.Expires = q.Expired, q.ExpireAt
	a.control(c, err, done)
}

func (a *API) connections(c *call, q *ConnectionsRequest, done func(*ConnectionsResult, *proto.Error)) {
	if err := proto.CheckUser(q.User); err != nil || q.User == "" {
		done(nil, proto.ErrBadRequest.With("user: give the id of one, up to %d bytes without control characters", proto.MaxUserBytes))
		return
	}
	if a.backend.Users == nil {
		done(nil, absent("connections"))
		return
	}
	a.backend.Users.Connections(q.User, func(list []proto.ConnectionInfo, missing []string, err *proto.Error) {
		if err != nil {
			done(nil, err)
			return
		}
		result := &ConnectionsResult{Connections: make(map[string]ConnectionInfo, len(list)), Missing: missing}
		size := 0
		for i := range list {
			l := &list[i]
			size += 2*memberBytes + len(l.Info)
			at := map[string]Empty{}
			for _, name := range l.Channels {
				at[name] = Empty{}
				size += memberBytes + len(name)
			}
			result.Connections[l.Client] = ConnectionInfo{User: l.User, Protocol: l.Protocol, Node: l.Node, Info: l.Info, State: ConnectionState{Channels: at}}
		}
		if !c.spend(size) {
			done(nil, errAnswer)
			return
		}
		done(result, nil)
	})
}
