package serverapi

import "encoding/json"

// The requests and results of all methods. Their JSON names are those of Centrifugo's server API; what is beyond it is said to be so.
// The tags doc and zh describe a field in the OpenAPI document and on the page that shows it, and required marks fields of requests
// without which a method does not work.

// Error says why a command failed.
type Error struct {
	Code    int    `json:"code" doc:"Code of the error: see docs/api.md." zh:"错误码，见 docs/api.md。"`
	Message string `json:"message" doc:"What was wrong, and what to do." zh:"错误原因与处理办法。"`
}

// Payload is what a publication carries.
type Payload struct {
	Data           json.RawMessage   `json:"data,omitempty" doc:"Any JSON value." zh:"任意 JSON 值。"`
	B64Data        string            `json:"b64data,omitempty" doc:"Instead of data: a JSON value in base64." zh:"代替 data：base64 编码的 JSON 值。"`
	SkipHistory    bool              `json:"skip_history,omitempty" doc:"Allowed in live channels only, where nothing is stored anyway." zh:"仅可用于 live 频道（本来就不存储）。"`
	Tags           map[string]string `json:"tags,omitempty" doc:"Given to receivers beside the data; 8 KiB at most as JSON." zh:"随数据一并发给接收者；JSON 最大 8 KiB。"`
	IdempotencyKey string            `json:"idempotency_key,omitempty" doc:"A second publish with the same key into the same channel is not stored again and gives the first one's offset; up to 128 bytes." zh:"同一频道内相同的键不会重复存储，而是返回第一次的 offset；最长 128 字节。"`
	Version        uint64            `json:"version,omitempty" doc:"Not available: refused unless 0." zh:"不支持：非 0 即报错。"`
}

// PublishRequest publishes one message.
type PublishRequest struct {
	Channel string `json:"channel" required:"true" doc:"Channel to publish to." zh:"目标频道。"`
	Payload
}

// PublishResult says where a message was stored; it is empty for a live channel.
type PublishResult struct {
	Offset   uint64 `json:"offset,omitempty" doc:"Place of the message in its channel: 1, 2, 3, …" zh:"消息在频道中的位置：1、2、3……"`
	Epoch    string `json:"epoch,omitempty" doc:"Life of the journal that the offset belongs to." zh:"offset 所属的日志纪元。"`
	Repeated bool   `json:"repeated,omitempty" doc:"The idempotency key was known; offset is the first message's. Not in Centrifugo." zh:"幂等键已存在，offset 属于第一条消息。Centrifugo 无此字段。"`
}

// PublishResponse is the outcome for one channel of a broadcast.
type PublishResponse struct {
	Error  *Error         `json:"error,omitempty"`
	Result *PublishResult `json:"result,omitempty"`
}

// BroadcastRequest publishes one payload into many channels.
type BroadcastRequest struct {
	Channels []string `json:"channels" required:"true" doc:"Channels to publish to, 1000 at most." zh:"目标频道列表，最多 1000 个。"`
	Payload
}

// BroadcastResult has one response for each channel, in their order.
type BroadcastResult struct {
	Responses []PublishResponse `json:"responses" doc:"One for each channel, in order." zh:"按顺序，每个频道一个。"`
}

// BatchRequest holds commands: objects with one key, the name of a method, and its request.
type BatchRequest struct {
	Commands []map[string]json.RawMessage `json:"commands" required:"true" doc:"Commands: objects with one key, the method, and its request as value; 1000 at most." zh:"命令列表：每个对象只有一个键（方法名），值为其请求；最多 1000 个。"`
	Parallel bool                         `json:"parallel,omitempty" doc:"Do not wait for one command before the next begins. Publishes are stored in order in any case." zh:"不等前一条命令完成就开始下一条；发布始终按顺序存储。"`
}

// BatchResult has one reply for each command: an object with the method and its result, or with error.
type BatchResult struct {
	Replies []map[string]any `json:"replies" doc:"One for each command, in order: an object with the method and its result, or with error." zh:"按顺序，每条命令一个：方法名加结果，或 error。"`
}

// Position is a place in a channel.
type Position struct {
	Offset uint64 `json:"offset,omitempty" doc:"Everything up to and including it is known." zh:"此 offset（含）之前均已知。"`
	Epoch  string `json:"epoch,omitempty" doc:"Epoch of the offset; empty if unknown." zh:"offset 的纪元；未知则留空。"`
}

// ChannelRequest is about one channel.
type ChannelRequest struct {
	Channel string `json:"channel" required:"true" doc:"Name of the channel." zh:"频道名。"`
}

// HistoryRequest reads stored messages.
type HistoryRequest struct {
	ChannelRequest
	Limit   int       `json:"limit,omitempty" doc:"Messages wanted; 0 for the position alone, -1 for all. An answer holds 10000 or 8 MiB at most." zh:"需要的消息数；0 只返回位置，-1 返回全部。一次最多 10000 条或 8 MiB。"`
	Since   *Position `json:"since,omitempty" doc:"Messages after it, or before it with reverse. Without it from the first message, or from the last." zh:"返回其后的消息（reverse 时为其前）。省略则从第一条（或最后一条）开始。"`
	Reverse bool      `json:"reverse,omitempty" doc:"Newest first." zh:"从新到旧。"`
}

// ClientInfo is a connection as others see it.
type ClientInfo struct {
	User     string          `json:"user" doc:"Id of the user; empty for an anonymous one." zh:"用户 ID；匿名为空。"`
	Client   string          `json:"client" doc:"Id of the connection." zh:"连接 ID。"`
	ConnInfo json.RawMessage `json:"conn_info,omitempty" doc:"What the connection token says." zh:"连接令牌中的 info。"`
	ChanInfo json.RawMessage `json:"chan_info,omitempty" doc:"What the subscription token says." zh:"订阅令牌中的 info。"`
}

// Publication is a stored message.
type Publication struct {
	Data   json.RawMessage   `json:"data" doc:"The message." zh:"消息内容。"`
	Info   *ClientInfo       `json:"info,omitempty" doc:"Who published it; missing when the server API did." zh:"发布者；由服务端 API 发布则无。"`
	Offset uint64            `json:"offset" doc:"Its place in the channel." zh:"在频道中的位置。"`
	Tags   map[string]string `json:"tags,omitempty" doc:"Tags of the publisher." zh:"发布者给的标签。"`
}

// HistoryResult is a page of a channel.
type HistoryResult struct {
	Publications []Publication `json:"publications" doc:"The messages, in the order asked for." zh:"按请求顺序排列的消息。"`
	Epoch        string        `json:"epoch" doc:"Epoch of the offsets." zh:"offset 的纪元。"`
	Offset       uint64        `json:"offset" doc:"Last offset of the channel; 0 when nothing was ever stored." zh:"频道最后的 offset；从未存储过则为 0。"`
	More         bool          `json:"more,omitempty" doc:"More messages follow in this direction. Not in Centrifugo." zh:"该方向还有更多消息。Centrifugo 无此字段。"`
}

// Empty is a result that tells nothing.
type Empty struct{}

// PresenceResult lists who is in a channel.
type PresenceResult struct {
	Presence map[string]ClientInfo `json:"presence" doc:"Connections by id." zh:"按连接 ID 列出。"`
	Sampled  bool                  `json:"sampled,omitempty" doc:"The channel is so large that this is a sample. Not in Centrifugo." zh:"频道过大，此为抽样。Centrifugo 无此字段。"`
	Missing  []string              `json:"missing,omitempty" doc:"Nodes that did not answer in time. Not in Centrifugo." zh:"未及时应答的节点。Centrifugo 无此字段。"`
}

// PresenceStatsResult counts who is in a channel.
type PresenceStatsResult struct {
	NumClients int      `json:"num_clients" doc:"Connections." zh:"连接数。"`
	NumUsers   int      `json:"num_users" doc:"Distinct users." zh:"不同用户数。"`
	Estimated  bool     `json:"estimated,omitempty" doc:"The channel is so large that num_users is an estimate. Not in Centrifugo." zh:"频道过大，num_users 为估计值。Centrifugo 无此字段。"`
	Missing    []string `json:"missing,omitempty" doc:"Nodes that did not answer in time. Not in Centrifugo." zh:"未及时应答的节点。Centrifugo 无此字段。"`
}

// ChannelsRequest asks for channels in use.
type ChannelsRequest struct {
	Pattern string `json:"pattern,omitempty" doc:"Glob that names must match, such as chat:*; empty for all." zh:"频道名须匹配的通配符，如 chat:*；空为全部。"`
}

// ChannelInfo is about a channel in use.
type ChannelInfo struct {
	NumClients int `json:"num_clients" doc:"Connections in it." zh:"其中的连接数。"`
}

// ChannelsResult lists channels in use.
type ChannelsResult struct {
	Channels  map[string]ChannelInfo `json:"channels" doc:"Channels by name." zh:"按名称列出的频道。"`
	Truncated bool                   `json:"truncated,omitempty" doc:"There are more than are listed. Not in Centrifugo." zh:"还有未列出的频道。Centrifugo 无此字段。"`
	Missing   []string               `json:"missing,omitempty" doc:"Nodes that did not answer in time. Not in Centrifugo." zh:"未及时应答的节点。Centrifugo 无此字段。"`
}

// NodeInfo is a node of the cluster.
type NodeInfo struct {
	UID         string `json:"uid" doc:"Id of the running node." zh:"节点运行实例的 ID。"`
	Name        string `json:"name" doc:"Name of the node." zh:"节点名。"`
	Version     string `json:"version" doc:"Its version of barrage." zh:"barrage 版本。"`
	NumClients  int    `json:"num_clients" doc:"Connections." zh:"连接数。"`
	NumUsers    int    `json:"num_users" doc:"Distinct users." zh:"不同用户数。"`
	NumChannels int    `json:"num_channels" doc:"Channels in use." zh:"使用中的频道数。"`
	Uptime      int64  `json:"uptime" doc:"Seconds since it started." zh:"已运行秒数。"`
}

// InfoResult lists the nodes of the cluster.
type InfoResult struct {
	Nodes   []NodeInfo `json:"nodes" doc:"The nodes that are alive." zh:"存活的节点。"`
	Missing []string   `json:"missing,omitempty" doc:"Nodes that did not answer in time. Not in Centrifugo." zh:"未及时应答的节点。Centrifugo 无此字段。"`
}

// Target is whose connections a command is for.
type Target struct {
	User    string `json:"user" required:"true" doc:"Id of the user; needed with client too: anonymous connections cannot be named." zh:"用户 ID；给出 client 时也必填：无法指定匿名连接。"`
	Client  string `json:"client,omitempty" doc:"Only this connection of the user." zh:"只针对该用户的这一连接。"`
	Session string `json:"session,omitempty" doc:"Not available: refused unless empty." zh:"不支持：非空即报错。"`
}

// SubscribeRequest subscribes a user's connections to a channel.
type SubscribeRequest struct {
	Target
	Channel      string          `json:"channel" required:"true" doc:"Channel to subscribe to." zh:"要订阅的频道。"`
	ExpireAt     int64           `json:"expire_at,omitempty" doc:"When the subscription ends, in Unix seconds; 0 for never." zh:"订阅到期时间（Unix 秒）；0 为永不。"`
	Info         json.RawMessage `json:"info,omitempty" doc:"What others see of the member: any JSON value." zh:"他人可见的成员信息：任意 JSON 值。"`
	B64Info      string          `json:"b64info,omitempty" doc:"Instead of info: a JSON value in base64." zh:"代替 info：base64 编码的 JSON 值。"`
	Data         json.RawMessage `json:"data,omitempty" doc:"What the client is given with the subscription: any JSON value." zh:"随订阅发给客户端的数据：任意 JSON 值。"`
	B64Data      string          `json:"b64data,omitempty" doc:"Instead of data: a JSON value in base64." zh:"代替 data：base64 编码的 JSON 值。"`
	RecoverSince *Position       `json:"recover_since,omitempty" doc:"Give the messages after it first; without it only new ones." zh:"先补发其后的消息；省略则只有新消息。"`
}

// UnsubscribeRequest ends subscriptions of a user's connections.
type UnsubscribeRequest struct {
	Target
	Channel string `json:"channel" doc:"Channel to leave; empty for all." zh:"要退订的频道；空为全部。"`
}

// Disconnect is what a client is told.
type Disconnect struct {
	Code   int    `json:"code,omitempty" doc:"Close code, 3000 to 4999; 0 for 3503. Clients come back after 3000 to 3499 and 4000 to 4499." zh:"关闭码，3000 至 4999；0 表示 3503。3000–3499 与 4000–4499 客户端会重连。"`
	Reason string `json:"reason,omitempty" doc:"Up to 123 bytes." zh:"最长 123 字节。"`
}

// DisconnectRequest closes a user's connections.
type DisconnectRequest struct {
	Target
	Disconnect *Disconnect `json:"disconnect,omitempty" doc:"What the clients are told." zh:"告知客户端的内容。"`
	Whitelist  []string    `json:"whitelist,omitempty" doc:"Connections to leave alone, 1000 at most." zh:"不断开的连接，最多 1000 个。"`
	// OldWhitelist is how gocent writes it.
	OldWhitelist []string `json:"ClientWhitelist,omitempty" doc:"The same as whitelist, as the Go SDK writes it." zh:"同 whitelist，Go SDK 的写法。"`
}

// RefreshRequest changes when a user's connections expire.
type RefreshRequest struct {
	Target
	Expired  bool  `json:"expired,omitempty" doc:"End them now, as ones whose token has expired." zh:"立即按令牌过期处理。"`
	ExpireAt int64 `json:"expire_at,omitempty" doc:"When they expire, in Unix seconds; 0 for never." zh:"到期时间（Unix 秒）；0 为永不。"`
}

// ControlResult says how many connections a command reached.
type ControlResult struct {
	Affected int      `json:"affected" doc:"Connections that the command reached. Not in Centrifugo." zh:"受影响的连接数。Centrifugo 无此字段。"`
	Missing  []string `json:"missing,omitempty" doc:"Nodes that did not answer in time. Not in Centrifugo." zh:"未及时应答的节点。Centrifugo 无此字段。"`
}

// ConnectionsRequest asks for the connections of a user.
type ConnectionsRequest struct {
	User string `json:"user" required:"true" doc:"Id of the user." zh:"用户 ID。"`
}

// ConnectionInfo is a connection of a user.
type ConnectionInfo struct {
	User     string          `json:"user" doc:"Id of the user." zh:"用户 ID。"`
	Protocol string          `json:"protocol" doc:"raw, ws, sse, centrifuge-json, …" zh:"raw、ws、sse、centrifuge-json 等。"`
	Node     string          `json:"node" doc:"Name of the node that it is on." zh:"所在节点名。"`
	Info     json.RawMessage `json:"info,omitempty" doc:"What the connection token says." zh:"连接令牌中的 info。"`
	State    ConnectionState `json:"state" doc:"What it is subscribed to." zh:"订阅情况。"`
}

// ConnectionState is what a connection is subscribed to.
type ConnectionState struct {
	Channels map[string]Empty `json:"channels" doc:"Channels by name." zh:"按名称列出的频道。"`
}

// ConnectionsResult lists the connections of a user.
type ConnectionsResult struct {
	Connections map[string]ConnectionInfo `json:"connections" doc:"Connections by id." zh:"按连接 ID 列出。"`
	Missing     []string                  `json:"missing,omitempty" doc:"Nodes that did not answer in time. Not in Centrifugo." zh:"未及时应答的节点。Centrifugo 无此字段。"`
}
