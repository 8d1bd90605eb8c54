package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"barrage/proto"
)

// token is what the client shows to say who it is.
type token struct {
	text string
	// expires is when it ends by this machine's clock; zero when that is not known, or when the clock cannot be right.
	expires time.Time
	// reused says that the token of this connection served an earlier one.
	reused bool
	// dead is the last token that a server called expired, and why its words.
	dead string
	why  error
}

// errNoNewer ends a client whose source of tokens gives one again that has expired: nothing would come of showing it.
var errNoNewer = errors.New("there is no newer token")

// StaticToken gives the same token always, for Options.Token.
func StaticToken(text string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return text, nil }
}

// authorization gives the fields of the handshake that say who the client is.
func (c *Client) authorization(ctx context.Context) (http.Header, error) {
	if c.opt.Token == nil {
		return nil, nil
	}
	c.mu.Lock()
	if expires := c.token.expires; !expires.IsZero() && time.Now().After(expires) {
		c.token.text = ""
	}
	text := c.token.text
	c.token.reused = text != ""
	c.mu.Unlock()
	if text == "" {
		var err error
		if text, err = c.opt.Token(ctx); err != nil {
			return nil, fmt.Errorf("there is no token: %w", err)
		}
		c.mu.Lock()
		dead, why := c.token.dead, c.token.why
		c.token.text, c.token.expires = text, time.Time{}
		c.mu.Unlock()
		if text != "" && text == dead {
			return nil, fmt.Errorf("%w: %w", errNoNewer, why)
		}
	}
	if text == "" {
		return nil, nil
	}
	return http.Header{"Authorization": {"Bearer " + text}}, nil
}

// refused forgets a token that the server does not take. It is true when another one may be taken: when this one was good for an
// earlier connection.
func (c *Client) refused(err error, joined bool) (again bool) {
	refusal, _ := errors.AsType[*RefusedError](err)
	unauthorized := refusal != nil && refusal.Status == http.StatusUnauthorized || closedWith(err, proto.CloseBadToken)
	if c.opt.Token == nil || !unauthorized && !closedWith(err, proto.CloseExpired) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !unauthorized && !joined && c.token.text != "" { // after it was taken, the server API may have ended the connection so
		c.token.dead, c.token.why = c.token.text, err
	}
	c.token.text = ""
	return unauthorized && c.token.reused
}

// Pauses around the renewal of a token.
const (
	// renewRetry follows a renewal that failed.
	renewRetry = 5 * time.Second
	// clockIsWrong follows a token that this machine's clock takes for expired.
	clockIsWrong = 30 * time.Second
)

// keepToken renews the token of this connection before it expires, in a goroutine that ends with the connection. expires is in Unix
// seconds, 0 for never.
func (s *session) keepToken(expires int64) {
	if s.opt.Token == nil {
		return
	}
	s.mu.Lock()
	s.token.expires = ahead(expires)
	s.mu.Unlock()
	if expires == 0 {
		return
	}
	s.renewing.Go(func() {
		for expires != 0 && sleep(s.ctx, renewIn(time.Until(expiry(expires)), rand.Float64())) {
			for {
				next, err := s.renew()
				if err == nil {
					expires = next
					break
				}
				s.log.Debug("the token could not be renewed", "error", err, "retry", renewRetry)
				if !sleep(s.ctx, renewRetry) {
					return
				}
			}
		}
	})
}

// expiry is zero for never.
func expiry(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0)
}

// ahead is when a token ends that the server took just now; zero for never, and when this machine's clock takes it for expired:
// that clock is wrong, and must not have each reconnect ask for another token.
func ahead(unix int64) time.Time {
	if at := expiry(unix); time.Now().Before(at) {
		return at
	}
	return time.Time{}
}

// renewIn is the pause before a token that is valid for left is renewed; chance, 0 to 1, spreads clients out.
func renewIn(left time.Duration, chance float64) time.Duration {
	if left <= 0 {
		return clockIsWrong
	}
	return max(time.Second, time.Duration(float64(left)*(0.75+0.15*chance)))
}

// renew shows a new token on this connection and returns when it expires.
func (s *session) renew() (expires int64, err error) {
	text, err := s.opt.Token(s.ctx)
	if err != nil {
		return 0, err
	}
	call, err := s.start(s.ctx, proto.Command{Kind: proto.CommandRefresh, Token: text})
	if err != nil {
		return 0, err
	}
	a := call.wait()
	if a.err == nil && a.refreshed == nil {
		a.err = errors.New("the server gave another command's answer")
	}
	if a.err != nil {
		return 0, a.err
	}
	s.mu.Lock()
	s.token.text, s.token.expires = text, ahead(a.refreshed.Expires)
	s.mu.Unlock()
	return a.refreshed.Expires, nil
}
