package auth

import (
	"encoding/json"
	"time"
)

// Identity is who a connection belongs to. It is immutable once made: connections share it.
type Identity struct {
	// User is the user's id; empty for an anonymous one.
	User string
	// Name is what an anonymous client calls itself; nothing is decided by it.
	Name string
	// Info is a JSON value that others see beside what the user publishes, and in rosters; empty for none.
	Info json.RawMessage
	// Meta is a JSON value for the operator's own services; clients never see it.
	Meta json.RawMessage
	// Expires is when the connection must have shown a new token; zero for never.
	Expires time.Time
	// Subs are the channels that the connection is subscribed to by the server: claims channels and subs.
	Subs map[string]Subscription
}

// Subscription is what a token, or the server API, says of a subscription.
type Subscription struct {
	// Info is a JSON value that others see of this member in this channel; empty for none.
	Info json.RawMessage
	// Data is a JSON value that the client is given when it is subscribed; empty for none.
	Data json.RawMessage
	// Expires is when the subscription must have shown a new token; zero for never.
	Expires time.Time
}
