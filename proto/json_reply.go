package proto

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Welcome says that a connection is joined.
type Welcome struct {
	// Node is the name of the node, Client the id of the connection.
	Node    string `json:"node"`
	Client  string `json:"client"`
	Channel string `json:"channel"`
	Epoch   Epoch  `json:"epoch"`
	// Offset is the head of the channel at that moment.
	Offset Offset `json:"offset"`
	// Live says that the channel stores nothing: it has no epoch and no offsets.
	Live bool `json:"live"`
	// User is the id of the connection's user; empty for an anonymous one. Expires, in Unix seconds, is when the connection must
	// have shown a new token; 0 for never.
	User    string `json:"user"`
	Expires int64  `json:"expires"`
	// MaxPayload is the largest WebSocket message that the client may send, in bytes; 0 when it is not told: the client sends
	// nothing, or the server is an older one.
	MaxPayload int `json:"max_payload"`
}

// Refreshed says that a new token was taken.
type Refreshed struct {
	ID string `json:"id"`
	// Expires, in Unix seconds, is when the connection must have shown another one; 0 for never.
	Expires int64 `json:"expires"`
}

// Presence lists who is in a channel.
type Presence struct {
	ID string
	Roster
}

// Ack says that a publish was stored or, in a live channel, handed to the members here and to the other nodes.
type Ack struct {
	// ID is the publish's; empty when it had none.
	ID     string `json:"id"`
	Offset Offset `json:"offset"`
	// Repeated says that the id was known and Offset is that of the first publish with it.
	Repeated bool `json:"repeated"`
	// Live says that the channel stores nothing; there is no Offset.
	Live bool `json:"live"`
}

// Skipped says that a member of a live channel was too slow and will not be given Count messages.
type Skipped struct {
	Count uint64 `json:"count"`
}

// History is a page of history.
type History struct {
	ID    string
	Epoch Epoch
	// Offset is the head of the channel.
	Offset Offset
	// Messages are in ascending order.
	Messages []Message
	// More says whether another page follows in the direction asked for.
	More bool
}

// Info says how large a channel's audience is.
type Info struct {
	ID string `json:"id"`
	// Members counts connections, as far as the node knows; Nodes the nodes that they are on.
	Members int `json:"members"`
	Nodes   int `json:"nodes"`
	// Users counts distinct users on all nodes, estimated when Exact is false. They are told together, or not at all: then Exact
	// is nil.
	Users int   `json:"users"`
	Exact *bool `json:"exact"`
}

// Pong answers a ping.
type Pong struct {
	ID string `json:"id"`
}

// Reset says that what was asked to be resumed cannot be: messages were missed. The stream goes on after Offset.
type Reset struct {
	Epoch  Epoch  `json:"epoch"`
	Offset Offset `json:"offset"`
	Reason string `json:"reason"`
}

// Failure says that a command failed.
type Failure struct {
	// ID is the command's; empty when it had none or it could not be read.
	ID      string `json:"id"`
	Code    int    `json:"code"`
	Message string `json:"message"`
	Retry   bool   `json:"retry"`
	// RetryAfter, in milliseconds, is how long to wait before that; 0 when nothing is known of it.
	RetryAfter int64 `json:"retry_after"`
}

// Err is the failure as the error that the server meant.
func (f *Failure) Err() *Error {
	return &Error{Code: f.Code, Message: f.Message, Retry: f.Retry, RetryAfter: time.Duration(f.RetryAfter) * time.Millisecond}
}

// AppendWelcome appends the line of a welcome, without a newline, as all Append functions of this file do.
func AppendWelcome(dst []byte, w Welcome) []byte {
	dst = append(dst, `{"welcome":{"node":`...)
	dst = AppendJSONString(dst, w.Node)
	dst = append(dst, `,"client":`...)
	dst = AppendJSONString(dst, w.Client)
	dst = append(dst, `,"channel":`...)
	dst = AppendJSONString(dst, w.Channel)
	if w.Live {
		dst = append(dst, `,"live":true`...)
	} else {
		dst = append(dst, `,"epoch":`...)
		dst = AppendJSONString(dst, w.Epoch)
		dst = appendOffset(dst, w.Offset)
	}
	if w.User != "" {
		dst = append(dst, `,"user":`...)
		dst = AppendJSONString(dst, w.User)
	}
	dst = appendExpires(dst, w.Expires)
	if w.MaxPayload > 0 {
		dst = append(dst, `,"max_payload":`...)
		dst = strconv.AppendInt(dst, int64(w.MaxPayload), 10)
	}
	return append(dst, `}}`...)
}

func appendExpires(dst []byte, expires int64) []byte {
	if expires == 0 {
		return dst
	}
	dst = append(dst, `,"expires":`...)
	return strconv.AppendInt(dst, expires, 10)
}

// AppendRefreshed appends the line that answers a refresh.
func AppendRefreshed(dst []byte, r Refreshed) []byte {
	dst = append(dst, `{"refreshed":{`...)
	body := len(dst)
	if r.ID != "" {
		dst = append(dst, `"id":`...)
		dst = AppendJSONString(dst, r.ID)
	}
	if r.Expires != 0 {
		dst = appendComma(dst, body)
		dst = append(dst, `"expires":`...)
		dst = strconv.AppendInt(dst, r.Expires, 10)
	}
	return append(dst, `}}`...)
}

// AppendPresence appends the line of a roster. The members' JSON must be compact.
func AppendPresence(dst []byte, p *Presence) []byte {
	dst = append(dst, `{"presence":{`...)
	if p.ID != "" {
		dst = append(dst, `"id":`...)
		dst = AppendJSONString(dst, p.ID)
		dst = append(dst, ',')
	}
	return append(append(dst, p.Form("json line", func() []byte { return appendRoster(nil, &p.Roster) })...), `}}`...)
}

func appendRoster(dst []byte, p *Roster) []byte {
	dst = append(dst, `"members":[`...)
	for i := range p.Members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendMember(dst, &p.Members[i])
	}
	dst = append(dst, `],"clients":`...)
	dst = strconv.AppendInt(dst, int64(p.Clients), 10)
	dst = append(dst, `,"users":`...)
	dst = strconv.AppendInt(dst, int64(p.Users), 10)
	dst = append(dst, `,"exact":`...)
	dst = strconv.AppendBool(dst, p.Exact)
	if p.Sampled {
		dst = append(dst, `,"sampled":true`...)
	}
	return dst
}

// AppendJoin appends the line that tells of a member that came; its JSON must be compact.
func AppendJoin(dst []byte, m *MemberInfo) []byte {
	return append(appendMember(append(dst, `{"join":`...), m), '}')
}

// AppendLeave appends the line that tells of a member that went; its JSON must be compact.
func AppendLeave(dst []byte, m *MemberInfo) []byte {
	return append(appendMember(append(dst, `{"leave":`...), m), '}')
}

func appendMember(dst []byte, m *MemberInfo) []byte {
	dst = append(dst, `{"user":`...)
	dst = AppendJSONString(dst, m.User)
	dst = append(dst, `,"client":`...)
	dst = AppendJSONString(dst, m.Client)
	dst = appendValue(dst, `,"info":`, m.Info)
	dst = appendValue(dst, `,"chan_info":`, m.ChanInfo)
	return append(dst, '}')
}

// appendValue appends a key and its value, unless that is empty.
func appendValue(dst []byte, key string, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, key...)
	return append(dst, value...)
}

// AppendMessage appends the line of a message, without an offset when that is 0. m.Data is embedded as it is.
func AppendMessage(dst []byte, m *Message) []byte {
	dst = append(dst, `{"message":`...)
	dst = appendMessageObject(dst, m)
	return append(dst, '}')
}

func appendMessageObject(dst []byte, m *Message) []byte {
	dst = append(dst, '{')
	if m.Offset > 0 {
		dst = append(dst, `"offset":`...)
		dst = strconv.AppendUint(dst, uint64(m.Offset), 10)
		dst = append(dst, ',')
	}
	dst = append(dst, `"time":`...)
	dst = strconv.AppendInt(dst, m.Time, 10)
	if m.User != "" {
		dst = append(dst, `,"user":`...)
		dst = AppendJSONString(dst, m.User)
	}
	if m.Client != "" {
		dst = append(dst, `,"client":`...)
		dst = AppendJSONString(dst, m.Client)
	}
	if len(m.Attributes) > 0 {
		dst = appendAttributes(dst, m.Attributes)
	}
	dst = append(dst, `,"data":`...)
	dst = append(dst, m.Data...)
	return append(dst, '}')
}

// appendAttributes appends what is known of encoded attributes; what a later version has added is left out.
func appendAttributes(dst, encoded []byte) []byte {
	a := ParseAttributes(encoded)
	dst = appendValue(dst, `,"info":`, a.Info)
	dst = appendValue(dst, `,"chan_info":`, a.ChanInfo)
	if len(a.Tags) == 0 {
		return dst
	}
	dst = append(dst, `,"tags":{`...)
	body := len(dst)
	for _, name := range slices.Sorted(maps.Keys(a.Tags)) {
		dst = appendComma(dst, body)
		dst = AppendJSONString(dst, name)
		dst = append(dst, ':')
		dst = AppendJSONString(dst, a.Tags[name])
	}
	return append(dst, '}')
}

// AppendAck appends the line of an acknowledgement.
func AppendAck(dst []byte, a Ack) []byte {
	dst = append(dst, `{"ack":{`...)
	if a.ID != "" {
		dst = append(dst, `"id":`...)
		dst = AppendJSONString(dst, a.ID)
		dst = append(dst, ',')
	}
	if a.Live {
		return append(dst, `"live":true}}`...)
	}
	dst = append(dst, `"offset":`...)
	dst = strconv.AppendUint(dst, uint64(a.Offset), 10)
	if a.Repeated {
		dst = append(dst, `,"repeated":true`...)
	}
	return append(dst, `}}`...)
}

// AppendHistory appends the line of a page of history. h.Messages must be in ascending order.
func AppendHistory(dst []byte, h History) []byte {
	dst = append(dst, `{"history":{`...)
	if h.ID != "" {
		dst = append(dst, `"id":`...)
		dst = AppendJSONString(dst, h.ID)
		dst = append(dst, ',')
	}
	dst = append(dst, `"epoch":`...)
	dst = AppendJSONString(dst, h.Epoch)
	dst = appendOffset(dst, h.Offset)
	dst = append(dst, `,"messages":[`...)
	for i := range h.Messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendMessageObject(dst, &h.Messages[i])
	}
	dst = append(dst, `],"more":`...)
	dst = strconv.AppendBool(dst, h.More)
	return append(dst, `}}`...)
}

// AppendInfo appends the line of an info.
func AppendInfo(dst []byte, i Info) []byte {
	dst = append(dst, `{"info":{`...)
	if i.ID != "" {
		dst = append(dst, `"id":`...)
		dst = AppendJSONString(dst, i.ID)
		dst = append(dst, ',')
	}
	dst = append(dst, `"members":`...)
	dst = strconv.AppendInt(dst, int64(i.Members), 10)
	dst = append(dst, `,"nodes":`...)
	dst = strconv.AppendInt(dst, int64(i.Nodes), 10)
	if i.Exact != nil {
		dst = append(dst, `,"users":`...)
		dst = strconv.AppendInt(dst, int64(i.Users), 10)
		dst = append(dst, `,"exact":`...)
		dst = strconv.AppendBool(dst, *i.Exact)
	}
	return append(dst, `}}`...)
}

// AppendPong appends the line of a pong.
func AppendPong(dst []byte, p Pong) []byte {
	if p.ID == "" {
		return append(dst, `{"pong":{}}`...)
	}
	dst = append(dst, `{"pong":{"id":`...)
	dst = AppendJSONString(dst, p.ID)
	return append(dst, `}}`...)
}

// AppendReset appends the line of a reset.
func AppendReset(dst []byte, r Reset) []byte {
	dst = append(dst, `{"reset":{"epoch":`...)
	dst = AppendJSONString(dst, r.Epoch)
	dst = appendOffset(dst, r.Offset)
	dst = append(dst, `,"reason":`...)
	dst = AppendJSONString(dst, r.Reason)
	return append(dst, `}}`...)
}

// AppendSkipped appends the line that tells a slow member of a live channel how many messages it will not be given.
func AppendSkipped(dst []byte, s Skipped) []byte {
	dst = append(dst, `{"skipped":{"count":`...)
	dst = strconv.AppendUint(dst, s.Count, 10)
	return append(dst, `}}`...)
}

// AppendError appends the line that answers a failed command. id is the command's; empty means that it had none.
func AppendError(dst []byte, id string, e *Error) []byte {
	dst = append(dst, `{"error":{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = AppendJSONString(dst, e.Message)
	if id != "" {
		dst = append(dst, `,"id":`...)
		dst = AppendJSONString(dst, id)
	}
	dst = append(dst, `,"retry":`...)
	dst = strconv.AppendBool(dst, e.Retry)
	if ms := (e.RetryAfter + time.Millisecond - 1).Milliseconds(); ms > 0 {
		dst = append(dst, `,"retry_after":`...)
		dst = strconv.AppendInt(dst, ms, 10)
	}
	return append(dst, `}}`...)
}

func appendOffset(dst []byte, o Offset) []byte {
	dst = append(dst, `,"offset":`...)
	return strconv.AppendUint(dst, uint64(o), 10)
}

// Reply is one line of the server on /ws: one of its fields is set, or none when the line is of a kind that is not
// known here, which a client should pass over.
type Reply struct {
	Welcome *Welcome
	Message *Message
	Ack     *Ack
	History *History
	Info    *Info
	Pong    *Pong
	Reset   *Reset
	Skipped *Skipped
	Error   *Failure

	Refreshed   *Refreshed
	Presence    *Presence
	Join, Leave *MemberInfo
}

// The shapes on the wire of what is not tagged above.
type (
	wireMessage struct {
		Offset Offset          `json:"offset"`
		Time   int64           `json:"time"`
		User   string          `json:"user"`
		Client string          `json:"client"`
		Data   json.RawMessage `json:"data"`
		Attributes
	}
	wireHistory struct {
		ID       string        `json:"id"`
		Epoch    Epoch         `json:"epoch"`
		Offset   Offset        `json:"offset"`
		Messages []wireMessage `json:"messages"`
		More     bool          `json:"more"`
	}
	wireReply struct {
		Welcome *Welcome     `json:"welcome"`
		Message *wireMessage `json:"message"`
		Ack     *Ack         `json:"ack"`
		History *wireHistory `json:"history"`
		Info    *Info        `json:"info"`
		Pong    *Pong        `json:"pong"`
		Reset   *Reset       `json:"reset"`
		Skipped *Skipped     `json:"skipped"`
		Error   *Failure     `json:"error"`

		Refreshed *Refreshed    `json:"refreshed"`
		Presence  *wirePresence `json:"presence"`
		Join      *MemberInfo   `json:"join"`
		Leave     *MemberInfo   `json:"leave"`
	}
	wirePresence struct {
		ID      string       `json:"id"`
		Members []MemberInfo `json:"members"`
		Clients int          `json:"clients"`
		Users   int          `json:"users"`
		Exact   bool         `json:"exact"`
		Sampled bool         `json:"sampled"`
	}
)

// ParseReply reads one line of the server. Keys that are not known are passed over, so that an older client can talk
// to a newer server. Nothing that is returned aliases line.
func ParseReply(line []byte) (Reply, error) {
	var w wireReply
	if err := json.Unmarshal(line, &w); err != nil {
		return Reply{}, fmt.Errorf("read a line of the server: %w", err)
	}
	r := Reply{
		Welcome: w.Welcome, Ack: w.Ack, Info: w.Info, Pong: w.Pong, Reset: w.Reset, Skipped: w.Skipped, Error: w.Error,
		Refreshed: w.Refreshed, Join: w.Join, Leave: w.Leave,
	}
	if w.Message != nil {
		m := w.Message.message()
		r.Message = &m
	}
	if w.History != nil {
		r.History = w.History.history()
	}
	if p := w.Presence; p != nil {
		r.Presence = &Presence{ID: p.ID, Roster: Roster{
			Members: p.Members, Counts: Counts{Clients: p.Clients, Users: p.Users, Exact: p.Exact}, Sampled: p.Sampled,
		}}
	}
	return r, nil
}

func (w *wireMessage) message() Message {
	attributes, _ := w.Encode() // what is too large for this version reads as nothing
	return Message{Offset: w.Offset, Time: w.Time, User: w.User, Client: w.Client, Data: w.Data, Attributes: attributes}
}

func (w *wireHistory) history() *History {
	h := &History{ID: w.ID, Epoch: w.Epoch, Offset: w.Offset, More: w.More}
	for i := range w.Messages {
		h.Messages = append(h.Messages, w.Messages[i].message())
	}
	return h
}
