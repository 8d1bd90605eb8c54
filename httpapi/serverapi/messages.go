package serverapi

import (
	"encoding/base64"
	"sync/atomic"

	"barrage/node"
	"barrage/proto"
)

// MaxChannels is the most channels of one broadcast.
const MaxChannels = 1000

// value reads a JSON value that is given as such or in base64; what names its fields. Both missing gives nil.
func value(what string, plain []byte, encoded string) ([]byte, *proto.Error) {
	if encoded != "" {
		if len(plain) > 0 {
			return nil, proto.ErrBadRequest.With("%s and b64%s are both given; give one of them", what, what)
		}
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, proto.ErrBadRequest.With("b64%s is not base64: %v", what, err)
		}
		v, bad := proto.CompactData(raw)
		if bad != nil {
			return nil, proto.ErrBadRequest.With("b64%s must hold a JSON value, because every message is one here: %s", what, bad.Message)
		}
		return v, nil
	}
	if len(plain) == 0 {
		return nil, nil
	}
	v, bad := proto.CompactData(plain)
	if bad != nil {
		return nil, proto.ErrBadRequest.With("%s: %s", what, bad.Message)
	}
	return v, nil
}

// publication is what p carries, without a channel.
func (p *Payload) publication() (node.Publication, *proto.Error) {
	data, bad := value("data", p.Data, p.B64Data)
	if bad != nil {
		return node.Publication{}, bad
	}
	if data == nil {
		return node.Publication{}, proto.ErrBadRequest.With("there is no data; give any JSON value")
	}
	if p.Version != 0 {
		return node.Publication{}, proto.ErrNotAvailable.With("version is not available: messages are ordered by their offsets")
	}
	if err := proto.CheckKey(p.IdempotencyKey); err != nil {
		return node.Publication{}, proto.ErrBadRequest.With("idempotency_key: %v", err)
	}
	attributes := proto.Attributes{Tags: p.Tags}
	encoded, err := attributes.Encode()
	if err != nil {
		return node.Publication{}, proto.ErrBadRequest.With("tags: %v", err)
	}
	return node.Publication{Key: p.IdempotencyKey, Data: data, Attributes: encoded}, nil
}

// send publishes p into a channel.
func (a *API) send(channel string, p node.Publication, skipHistory bool, done func(*PublishResult, *proto.Error)) {
	if err := proto.CheckChannel(channel); err != nil {
		done(nil, proto.ErrBadRequest.With("channel: %v", err))
		return
	}
	if skipHistory && !a.backend.Messages.IsLive(channel) {
		done(nil, proto.ErrBadRequest.With("skip_history is for live channels only: this one is durable, and stores all of its messages; publish into a namespace of class live"))
		return
	}
	p.Channel = channel
	a.backend.Messages.Publish(p, func(s node.Published, err *proto.Error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(&PublishResult{Offset: uint64(s.Offset), Epoch: string(s.Epoch), Repeated: s.Repeated}, nil)
	})
}

func (a *API) publish(c *call, q *PublishRequest, done func(*PublishResult, *proto.Error)) {
	p, err := q.publication()
	if err == nil {
		err = c.queue(1)
	}
	if err != nil {
		done(nil, err)
		return
	}
	a.send(q.Channel, p, q.SkipHistory, done)
}

// broadcast queues the message for all channels, so that they are stored together, and answers when the last one is.
func (a *API) broadcast(c *call, q *BroadcastRequest, done func(*BroadcastResult, *proto.Error)) {
	if n := len(q.Channels); n == 0 || n > MaxChannels {
		done(nil, proto.ErrLimit.With("there are %d channels; give 1 to %d", n, MaxChannels))
		return
	}
	p, err := q.publication()
	if err == nil {
		err = c.queue(len(q.Channels))
	}
	if err != nil {
		done(nil, err)
		return
	}
	responses := make([]PublishResponse, len(q.Channels))
	var left atomic.Int64
	left.Store(int64(len(responses)))
	for i, channel := range q.Channels {
		a.send(channel, p, q.SkipHistory, func(r *PublishResult, err *proto.Error) {
			responses[i] = PublishResponse{Result: r, Error: told(err)}
			if left.Add(-1) == 0 {
				done(&BroadcastResult{Responses: responses}, nil)
			}
		})
	}
}
