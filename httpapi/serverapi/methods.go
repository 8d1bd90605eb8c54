package serverapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"reflect"

	"barrage/httpapi/apikey"
	"barrage/proto"
)

// method is one row of the table that routes, documents, counts and tests the API.
type method struct {
	name             string
	scope            apikey.Scope // a key needs one of its bits
	summary, chinese string
	example          string // a request
	request, result  reflect.Type
	// queues says that the command only has to be queued for its order to hold: see API.all.
	queues bool
	// start reads params and begins the command. done hears once, from any goroutine.
	start func(a *API, c *call, params []byte, done func(result any, err *proto.Error))
}

// methods is the table. batch is in it by init, because it refers to the others.
var methods = []*method{
	define(method{
		name: "publish", scope: apikey.Publish, queues: true, summary: "Publish a message into a channel", chinese: "向频道发布一条消息",
		example: `{"channel":"chat:index","data":{"text":"hello"},"idempotency_key":"order-17"}`,
	}, (*API).publish),
	define(method{
		name: "broadcast", scope: apikey.Publish, queues: true, summary: "Publish the same message into many channels", chinese: "向多个频道发布同一条消息",
		example: `{"channels":["#alice","#bob"],"data":{"text":"hello"}}`,
	}, (*API).broadcast),
	define(method{
		name: "history", scope: apikey.Read, summary: "Read stored messages of a channel", chinese: "读取频道的历史消息",
		example: `{"channel":"chat:index","limit":10,"reverse":true}`,
	}, (*API).history),
	define(method{
		name: "history_remove", scope: apikey.Manage, summary: "Remove all stored messages of a channel; its offsets go on", chinese: "删除频道的全部历史消息；offset 继续递增",
		example: `{"channel":"chat:index"}`,
	}, (*API).historyRemove),
	define(method{
		name: "presence", scope: apikey.Read, summary: "List who is in a channel, on all nodes", chinese: "列出频道在所有节点上的在线者",
		example: `{"channel":"chat:index"}`,
	}, (*API).presence),
	define(method{
		name: "presence_stats", scope: apikey.Read, summary: "Count who is in a channel, on all nodes", chinese: "统计频道在所有节点上的在线人数",
		example: `{"channel":"chat:index"}`,
	}, (*API).presenceStats),
	define(method{
		name: "channels", scope: apikey.Read, summary: "List channels in use, on all nodes", chinese: "列出所有节点上使用中的频道",
		example: `{"pattern":"chat:*"}`,
	}, (*API).channels),
	define(method{
		name: "info", scope: apikey.Read, summary: "List the nodes of the cluster", chinese: "列出集群节点",
		example: `{}`,
	}, (*API).info),
	define(method{
		name: "nodes", scope: apikey.Read, summary: "The same as info", chinese: "与 info 相同",
		example: `{}`,
	}, (*API).info),
	define(method{
		name: "connections", scope: apikey.Read, summary: "List the connections of a user, on all nodes", chinese: "列出用户在所有节点上的连接",
		example: `{"user":"alice"}`,
	}, (*API).connections),
	define(method{
		name: "subscribe", scope: apikey.Manage, summary: "Subscribe a user's connections to a channel", chinese: "让用户的连接订阅频道",
		example: `{"user":"alice","channel":"chat:index"}`,
	}, (*API).subscribe),
	define(method{
		name: "unsubscribe", scope: apikey.Manage, summary: "End subscriptions of a user's connections", chinese: "退订用户连接的频道",
		example: `{"user":"alice","channel":"chat:index"}`,
	}, (*API).unsubscribe),
	define(method{
		name: "disconnect", scope: apikey.Manage, summary: "Close a user's connections", chinese: "断开用户的连接",
		example: `{"user":"alice","disconnect":{"code":4500,"reason":"banned"}}`,
	}, (*API).disconnect),
	define(method{
		name: "refresh", scope: apikey.Manage, summary: "Change when a user's connections expire", chinese: "更改用户连接的过期时间",
		example: `{"user":"alice","expire_at":1900000000}`,
	}, (*API).refresh),
}

// byName finds a method. It is complete after init and never changed.
var byName = map[string]*method{}

func init() {
	methods = append(methods, define(method{
		name: batchMethod, scope: apikey.Admin, summary: "Carry out many commands in one request, each within the key's scope", chinese: "一次请求执行多条命令，每条都受密钥权限约束",
		example: `{"commands":[{"publish":{"channel":"chat:index","data":1}},{"presence_stats":{"channel":"chat:index"}}]}`,
	}, (*API).batch))
	for _, m := range methods {
		byName[m.name] = m
	}
}

const batchMethod = "batch"

// define completes a row with the types of its request and result.
func define[Q, R any](m method, run func(a *API, c *call, q *Q, done func(*R, *proto.Error))) *method {
	m.request, m.result = reflect.TypeFor[Q](), reflect.TypeFor[R]()
	m.start = func(a *API, c *call, params []byte, done func(any, *proto.Error)) {
		q := new(Q)
		if err := decode(params, q); err != nil {
			done(nil, err)
			return
		}
		run(a, c, q, func(r *R, err *proto.Error) {
			if err != nil {
				done(nil, err)
				return
			}
			done(r, nil)
		})
	}
	return &m
}

// decode reads a request; an empty one is the same as {}. Keys that the method does not know are passed over, as SDKs send some.
func decode(params []byte, into any) *proto.Error {
	if len(params) == 0 {
		return nil
	}
	if err := json.Unmarshal(params, into); err != nil {
		return malformed(err)
	}
	return nil
}

// malformed is what a client is told about a text that is not the JSON it should be.
func malformed(err error) *proto.Error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return proto.ErrBadRequest.With("the request cannot be read: %s must not be a JSON %s", cmp.Or(wrong.Field, "it"), wrong.Value)
	}
	return proto.ErrBadRequest.With("the request cannot be read: %v", err)
}

// absent is the answer of methods whose part of the backend is missing.
func absent(what string) *proto.Error {
	return proto.ErrNotAvailable.With("%s is not available on this node", what)
}

func unknownMethod(name string) *proto.Error {
	const limit = 40
	if len(name) > limit {
		name = name[:limit] + "…"
	}
	return proto.ErrMethod.With("there is no method %q", name)
}
