package auth

import "barrage/proto"

// Tokens verifies tokens. Its methods never block and may be called from any goroutine. The errors are proto.ErrTokenExpired for a
// token that was good once, proto.ErrUnauthorized for one that is not, and proto.ErrInternal, which may be tried again, while the
// keys that it needs have not been fetched yet.
type Tokens interface {
	// Connection verifies a connection token.
	Connection(token string) (*Identity, *proto.Error)
	// Subscription verifies a token of user (and, where the token names one, client) for channel.
	Subscription(token, channel, user, client string) (Subscription, *proto.Error)
}
