package centrifuge

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/centrifugal/protocol"
	"github.com/centrifugal/protocol/cfjson"

	"barrage/proto"
)

// encoding is how commands are read and replies written, without what frames them on the wire. A Protobuf message has its length
// before it; those of JSON are separated by the framing.
type encoding interface {
	// appendReply appends a reply, or a push in one. Payloads in it must be valid JSON for JSON.
	appendReply(dst []byte, r *protocol.Reply) []byte
	// appendCopy appends a reply that appendReply wrote without an id, with that id.
	appendCopy(dst []byte, id uint32, reply []byte) []byte
	// appendPublication appends the push of one message of a channel.
	appendPublication(dst []byte, channel string, m *proto.Message) []byte
	// cut takes the first command off a frame; command is not valid once the frame is not. ok is false when what begins the frame
	// is none.
	cut(frame []byte) (command, rest []byte, ok bool)
	// parse reads what cut has returned. The command does not alias it.
	parse(command []byte) (*protocol.Command, error)
	// ping is a reply that asks for a pong.
	ping() []byte
	// embeds says whether a payload can be written as it is.
	embeds(payload []byte) bool
	// name is the encoding's in proto.ConnectionInfo.
	name() string
}

// jsonEncoding writes objects without a newline in them.
type jsonEncoding struct{}

func (jsonEncoding) name() string { return "centrifuge-json" }
func (jsonEncoding) ping() []byte { return []byte("{}") }

func (jsonEncoding) embeds(payload []byte) bool { return cfjson.ValidRaw(payload) }

func (jsonEncoding) appendReply(dst []byte, r *protocol.Reply) []byte { return r.AppendJSON(dst) }

func (jsonEncoding) appendCopy(dst []byte, id uint32, reply []byte) []byte {
	if id > 0 && len(reply) > len("{}") {
		dst = append(dst, `{"id":`...)
		dst = append(strconv.AppendUint(dst, uint64(id), 10), ',')
		reply = reply[1:]
	}
	return append(dst, reply...)
}

func (jsonEncoding) appendPublication(dst []byte, channel string, m *proto.Message) []byte {
	dst = append(dst, `{"push":`...)
	return append(appendPush(dst, channel, m), '}')
}

// appendPush appends the push of a message without a reply around it.
func appendPush(dst []byte, channel string, m *proto.Message) []byte {
	dst = append(dst, `{"channel":`...)
	dst = proto.AppendJSONString(dst, channel)
	dst = append(dst, `,"pub":{"data":`...)
	dst = append(dst, m.Data...)
	a := proto.ParseAttributes(m.Attributes)
	if hasInfo(m, &a) {
		dst = append(dst, `,"info":{`...)
		start := len(dst)
		dst = appendField(dst, start, `"user":`, m.User)
		dst = appendField(dst, start, `"client":`, m.Client)
		dst = appendRaw(dst, start, `"conn_info":`, a.Info)
		dst = appendRaw(dst, start, `"chan_info":`, a.ChanInfo)
		dst = append(dst, '}')
	}
	if m.Offset > 0 {
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, uint64(m.Offset), 10)
	}
	if len(a.Tags) > 0 {
		dst = append(dst, `,"tags":{`...)
		start := len(dst)
		for key, value := range a.Tags {
			dst = appendComma(dst, start)
			dst = proto.AppendJSONString(dst, key)
			dst = append(dst, ':')
			dst = proto.AppendJSONString(dst, value)
		}
		dst = append(dst, '}')
	}
	return append(dst, `}}`...)
}

// hasInfo says whether there is anything to tell of a publisher.
func hasInfo(m *proto.Message, a *proto.Attributes) bool {
	return m.User != "" || m.Client != "" || len(a.Info) > 0 || len(a.ChanInfo) > 0
}

func appendField(dst []byte, start int, key, value string) []byte {
	if value == "" {
		return dst
	}
	return proto.AppendJSONString(append(appendComma(dst, start), key...), value)
}

func appendRaw(dst []byte, start int, key string, value json.RawMessage) []byte {
	if len(value) == 0 {
		return dst
	}
	return append(append(appendComma(dst, start), key...), value...)
}

// appendComma appends a comma unless nothing was appended since dst had length start.
func appendComma(dst []byte, start int) []byte {
	if len(dst) > start {
		return append(dst, ',')
	}
	return dst
}

func (jsonEncoding) cut(frame []byte) (command, rest []byte, ok bool) {
	command, rest, _ = bytes.Cut(frame, []byte{'\n'})
	return bytes.TrimSpace(command), bytes.TrimLeft(rest, " \t\r\n"), true
}

var errNotOne = errors.New("a line holds one object")

// parse decodes a copy, which the strings of the command are parts of.
func (jsonEncoding) parse(command []byte) (*protocol.Command, error) {
	if len(command) == 0 || command[0] != '{' {
		return nil, errNotOne
	}
	c := &protocol.Command{}
	if err := cfjson.Unmarshal(bytes.Clone(command), c, 0); err != nil {
		return nil, err
	}
	return c, nil
}

// protobufEncoding writes messages with their length before them.
type protobufEncoding struct{}

func (protobufEncoding) name() string       { return "centrifuge-protobuf" }
func (protobufEncoding) ping() []byte       { return []byte{0} }
func (protobufEncoding) embeds([]byte) bool { return true }

func (protobufEncoding) appendReply(dst []byte, r *protocol.Reply) []byte {
	n := r.SizeCF()
	dst = binary.AppendUvarint(dst, uint64(n))
	start := len(dst)
	dst = append(dst, make([]byte, n)...)
	if _, err := r.MarshalToSizedBufferCF(dst[start:]); err != nil {
		return dst[:0] // it has room for what it has counted
	}
	return dst
}

// replyID is the tag of a reply's id: field 1, a varint.
const replyID = 1 << 3

func (protobufEncoding) appendCopy(dst []byte, id uint32, reply []byte) []byte {
	_, size := binary.Uvarint(reply)
	reply = reply[max(size, 0):]
	var head []byte
	if id > 0 {
		head = binary.AppendUvarint([]byte{replyID}, uint64(id))
	}
	dst = binary.AppendUvarint(dst, uint64(len(head)+len(reply)))
	return append(append(dst, head...), reply...)
}

func (e protobufEncoding) appendPublication(dst []byte, channel string, m *proto.Message) []byte {
	return e.appendReply(dst, &protocol.Reply{Push: &protocol.Push{Channel: channel, Pub: publication(m)}})
}

// publication is a message as it is written.
func publication(m *proto.Message) *protocol.Publication {
	a := proto.ParseAttributes(m.Attributes)
	p := &protocol.Publication{Data: m.Data, Offset: uint64(m.Offset), Tags: a.Tags}
	if hasInfo(m, &a) {
		p.Info = &protocol.ClientInfo{User: m.User, Client: m.Client, ConnInfo: protocol.Raw(a.Info), ChanInfo: protocol.Raw(a.ChanInfo)}
	}
	return p
}

func (protobufEncoding) cut(frame []byte) (command, rest []byte, ok bool) {
	n, size := binary.Uvarint(frame)
	if size <= 0 || n > uint64(len(frame)-size) {
		return nil, nil, false
	}
	return frame[size : size+int(n)], frame[size+int(n):], true
}

func (protobufEncoding) parse(command []byte) (*protocol.Command, error) {
	c := &protocol.Command{}
	if err := c.UnmarshalCF(command); err != nil {
		return nil, err
	}
	return c, nil
}
