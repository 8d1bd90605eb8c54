package centrifuge

import (
	"time"

	"barrage/auth"
	"barrage/fanout"
	"barrage/limit"
	"barrage/proto"
	"barrage/session"
)

// DefaultChannels is how many channels a client may be subscribed to when Server.Channels is 0.
const DefaultChannels = 128

// Server is what the sessions of one server have in common. Backend is needed.
type Server struct {
	Backend session.Backend
	// Compression is needed for sessions that are Deflated.
	Compression *session.Compression
	// First is the index of the first of Codecs in the list of the backend.
	First int
	// Policy says who may do what. Nil allows everything to everyone.
	Policy *auth.Policy
	// Tokens verifies tokens. Nil means that there is no authentication: everyone is anonymous.
	Tokens auth.Tokens
	// Anonymous lets clients connect without a token although there are Tokens.
	Anonymous bool
	// Personal subscribes every client that has a user to the channel #user.
	Personal bool
	// Channels is how many channels a client may be subscribed to; 0 means DefaultChannels.
	Channels int
	// Ping is how often the connection pings; clients are told in whole seconds, at least one.
	Ping time.Duration
	// Limits says what is too much. Nil limits nothing.
	Limits *limit.Limiter
	// Version is what clients are told of the server.
	Version string
	// PassedOver, when set, hears of each channel that a client is not subscribed to although it names it when it connects, or its token
	// does, because there is no such channel or it may not subscribe to it. It must not block.
	PassedOver func(client, channel string, why *proto.Error)
	// RPC answers calls of clients and takes what they send. Nil: there are none.
	RPC func(Call)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Call is an rpc of a client, or a message that it sends without waiting for an answer.
type Call struct {
	Client   string
	Identity *auth.Identity
	// Method is empty for what is sent.
	Method string
	// Sent says that the client waits for no answer: what Done is given is not looked at.
	Sent bool
	// Data is JSON from a client of that encoding, and anything from one of Protobuf. It belongs to the callee.
	Data []byte
	// Done is to be called once, from any goroutine, with the answer or the error. Until then the call is under way.
	Done func(data []byte, err *proto.Error)
}

// Connection is what a session asks of the connection that it belongs to. Its methods must not block.
type Connection interface {
	// Resume is called when the session is not full any more, once for each time that Full reported true.
	Resume()
	// Slow is called once when the session ends because its client left no room for what it had to be told.
	Slow()
	// Admit is called once, by the goroutine that calls Session.Message, when it is known whose the connection is: user is empty for
	// an anonymous client. The error says why there is no room for another connection of that user.
	Admit(user string) *proto.Error
	// Outlet and Centrifuge are always the same.
	Outlet() *fanout.Outlet
	Centrifuge() *Server
}

// Emulated is a Connection whose client sends its commands in requests of their own.
type Emulated interface {
	Connection
	// Emulation is what these requests say, to be told by the reply to connect: the node that the connection is on, and a secret by
	// which it is found there.
	Emulation() (node, session string)
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Server) channels() int {
	if s.Channels > 0 {
		return s.Channels
	}
	return DefaultChannels
}

// ping is Ping in seconds.
func (s *Server) ping() uint32 { return uint32(max(s.Ping.Round(time.Second)/time.Second, 1)) }

// allow asks the policy.
func (s *Server) allow(id *auth.Identity, r auth.Request) *proto.Error {
	if s.Policy == nil {
		return nil
	}
	return s.Policy.Allow(id, r)
}

// announces says whether the members of a channel are told of others.
func (s *Server) announces(channel string) bool {
	if s.Policy == nil {
		return false
	}
	ns, _, _ := s.Policy.Of(channel)
	return ns.JoinLeave
}
