package proto

import (
	"fmt"
	"time"
)

// Error is a failed command as a client sees it. The table below holds every code; the text sent to a client
// may be more specific.
type Error struct {
	Code    int
	Message string
	// Retry says whether the same command can succeed later.
	Retry bool
	// RetryAfter is how long to wait before that; 0 means that nothing is known of it.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// With returns e with a more specific text.
func (e *Error) With(format string, args ...any) *Error {
	return &Error{Code: e.Code, Message: fmt.Sprintf(format, args...), Retry: e.Retry, RetryAfter: e.RetryAfter}
}

// After returns e with the time to wait before the same command can succeed.
func (e *Error) After(wait time.Duration) *Error {
	return &Error{Code: e.Code, Message: e.Message, Retry: e.Retry, RetryAfter: wait}
}

// Is makes errors.Is compare codes only.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errors of commands. Codes below 120 mean what they mean in the Centrifuge client protocol.
var (
	ErrInternal       = &Error{Code: 100, Message: "internal error", Retry: true}
	ErrUnauthorized   = &Error{Code: 101, Message: "unauthorized"}
	ErrUnknownChannel = &Error{Code: 102, Message: "unknown channel"}
	ErrDenied         = &Error{Code: 103, Message: "permission denied"}
	ErrMethod         = &Error{Code: 104, Message: "method not found"}
	ErrSubscribed     = &Error{Code: 105, Message: "already subscribed"}
	ErrLimit          = &Error{Code: 106, Message: "limit exceeded"}
	ErrBadRequest     = &Error{Code: 107, Message: "bad request"}
	ErrNotAvailable   = &Error{Code: 108, Message: "not available"}
	ErrTokenExpired   = &Error{Code: 109, Message: "token expired"}
	ErrExpired        = &Error{Code: 110, Message: "expired"}
	ErrUnrecoverable  = &Error{Code: 112, Message: "unrecoverable position"}
	ErrTooMany        = &Error{Code: 111, Message: "too many requests at once; slow down", Retry: true}
	ErrUnavailable    = &Error{Code: 120, Message: "storage is unavailable; try again later", Retry: true}
)

// Close is the end of a connection as a client sees it: a WebSocket close code (RFC 6455, section 7.4) and a
// reason of at most 123 bytes.
type Close struct {
	Code   uint16
	Reason string
}

func (c Close) Error() string { return fmt.Sprintf("close %d: %s", c.Code, c.Reason) }

// Reconnect says whether the client should come back: for all of 3000 to 3499, by the Centrifuge convention.
func (c Close) Reconnect() bool { return c.Code >= 3000 && c.Code < 3500 }

// With returns c with another reason.
func (c Close) With(format string, args ...any) Close {
	return Close{Code: c.Code, Reason: fmt.Sprintf(format, args...)}
}

// Close codes in use. 1000 to 1015 are RFC 6455, section 7.4.1.
var (
	CloseNormal       = Close{1000, ""}
	CloseProtocol     = Close{1002, "protocol error"}
	CloseUnsupported  = Close{1003, "only text frames are accepted"}
	CloseBadData      = Close{1007, "text is not valid UTF-8"}
	CloseTooBig       = Close{1009, "message too big"}
	CloseShutdown     = Close{3001, "shutdown"}
	CloseInternal     = Close{3004, "internal error"}
	CloseExpired      = Close{3005, "expired"}
	CloseSubExpired   = Close{3006, "subscription expired"}
	CloseSlow         = Close{3008, "slow"}
	CloseMissed       = Close{3010, "messages were missed"}
	CloseNoPong       = Close{3012, "no pong"}
	CloseReconnect    = Close{3011, "force reconnect"}
	CloseUnavailable  = Close{3013, "storage is unavailable"}
	CloseBadToken     = Close{3500, "invalid token"}
	CloseBadRequest   = Close{3501, "bad request"}
	CloseStale        = Close{3502, "stale"}
	CloseForced       = Close{3503, "force disconnect"}
	CloseConnections  = Close{3504, "connection limit"}
	CloseChannels     = Close{3505, "channel limit"}
	CloseFormat       = Close{3506, "inappropriate protocol"}
	CloseDenied       = Close{3507, "permission denied"}
	CloseNotAvailable = Close{3508, "not available"}
)
