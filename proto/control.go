package proto

import "encoding/json"

// ControlKind is what a Control asks for.
type ControlKind string

// Kinds of Control.
const (
	ControlDisconnect  ControlKind = "disconnect"
	ControlSubscribe   ControlKind = "subscribe"
	ControlUnsubscribe ControlKind = "unsubscribe"
	ControlRefresh     ControlKind = "refresh"
)

// Control is what the server API asks of a user's connections, on whatever node they are.
type Control struct {
	Kind ControlKind `json:"kind"`
	// User is whose connections are meant; Client, when set, narrows that to one connection.
	User   string `json:"user"`
	Client string `json:"client,omitempty"`
	// Except are connections that are left alone.
	Except []string `json:"except,omitempty"`
	// Channel is for subscribe and unsubscribe; an empty one unsubscribes from all.
	Channel string `json:"channel,omitempty"`
	// Code and Reason are what the client is told: a close code for disconnect, an unsubscribe code for unsubscribe. 0 means the
	// default of the kind.
	Code   uint16 `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Expired, for refresh, ends the connection as one whose token has expired; otherwise Expires, in Unix seconds, is when it
	// must have shown a new one, 0 for never.
	Expired bool  `json:"expired,omitempty"`
	Expires int64 `json:"expires,omitempty"`
	// Info and Data, for subscribe, are what others see of the member, and what it is given itself.
	Info json.RawMessage `json:"info,omitempty"`
	Data json.RawMessage `json:"data,omitempty"`
	// Since, with Epoch, is where a subscription begins; nil for the next new message.
	Since *Offset `json:"since,omitempty"`
	Epoch Epoch   `json:"epoch,omitempty"`
}

// ConnectionInfo is a connection of a user as the server API tells of it.
type ConnectionInfo struct {
	Node     string          `json:"node"`
	Client   string          `json:"client"`
	User     string          `json:"user"`
	Protocol string          `json:"protocol"` // raw, ws, sse, centrifuge-json, …
	Channels []string        `json:"channels,omitempty"`
	Info     json.RawMessage `json:"info,omitempty"`
}
