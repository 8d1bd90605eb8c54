package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"barrage/proto"
)

// claims are what a token says: those of RFC 7519, and those that back ends for the Centrifuge protocol mint. Claims that are not
// here are ignored, as RFC 7519 asks for; so is the claim override of a subscription.
type claims struct {
	jwt.RegisteredClaims
	member
	ExpireAt *jwt.NumericDate  `json:"expire_at"`
	Meta     json.RawMessage   `json:"meta"`
	Channels []string          `json:"channels"`
	Subs     map[string]member `json:"subs"`
	// Channel makes the token one of a subscription.
	Channel *string `json:"channel"`
	Client  string  `json:"client"`
}

// member is what others see of a connection or subscription, and what it is given. The forms in base64 win where both are there.
type member struct {
	Info    json.RawMessage `json:"info"`
	B64Info string          `json:"b64info"`
	Data    json.RawMessage `json:"data"`
	B64Data string          `json:"b64data"`
}

// claimError is a claim that cannot be used; its text holds nothing of the token.
type claimError string

func (e claimError) Error() string { return string(e) }

// identity is what a verified connection token means at a moment.
func (c *claims) identity(now time.Time) (*Identity, error) {
	if c.Channel != nil {
		return nil, claimError("the token is for a subscription, not for a connection: it has the claim channel")
	}
	if proto.CheckUser(c.Subject) != nil {
		return nil, claimError("the claim sub must be a user id of at most 255 bytes of UTF-8 without control characters")
	}
	id := &Identity{User: c.Subject}
	var err error
	if id.Expires, err = c.expires(now); err != nil {
		return nil, err
	}
	if id.Info, err = value("info", c.Info, c.B64Info); err != nil {
		return nil, err
	}
	if id.Meta, err = value("meta", c.Meta, ""); err != nil {
		return nil, err
	}
	id.Subs, err = c.subscriptions()
	return id, err
}

// subscriptions are the channels of the claims channels and subs; what subs says of a channel wins.
func (c *claims) subscriptions() (map[string]Subscription, error) {
	if len(c.Channels)+len(c.Subs) == 0 {
		return nil, nil
	}
	all := make(map[string]Subscription, len(c.Channels)+len(c.Subs))
	for _, name := range c.Channels {
		all[name] = Subscription{}
	}
	for name, m := range c.Subs {
		s, err := m.subscription()
		if err != nil {
			return nil, err
		}
		all[name] = s
	}
	for name := range all {
		if proto.CheckChannel(name) != nil {
			return nil, claimError("the claims channels and subs must hold names of channels: 1 to 255 bytes of UTF-8 without control characters")
		}
	}
	return all, nil
}

func (m *member) subscription() (s Subscription, err error) {
	if s.Info, err = value("info", m.Info, m.B64Info); err != nil {
		return Subscription{}, err
	}
	s.Data, err = value("data", m.Data, m.B64Data)
	return s, err
}

// errExpired is a time that has passed.
var errExpired = errors.New("expired")

// dates judges the token's own times. Clocks may differ by Leeway.
func (c *claims) dates(now time.Time) error {
	for _, d := range []*jwt.NumericDate{c.ExpiresAt, c.NotBefore, c.IssuedAt, c.ExpireAt} {
		// What no calendar holds has overflowed on its way here. The zone of this machine has no say in it.
		if d != nil && (d.Unix() < 0 || d.UTC().Year() > 9999) {
			return claimError("the claims exp, nbf, iat and expire_at must be times, in seconds since 1970")
		}
	}
	switch {
	case c.NotBefore != nil && now.Add(Leeway).Before(c.NotBefore.Time):
		return claimError("the token is not valid yet: its claim nbf is in the future")
	case c.ExpiresAt != nil && !now.Before(c.ExpiresAt.Add(Leeway)):
		return errExpired
	}
	return nil
}

// expires is when the connection or subscription ends: expire_at, where 0 means never, or else exp. It is never before now.
func (c *claims) expires(now time.Time) (time.Time, error) {
	switch {
	case c.ExpireAt != nil && c.ExpireAt.Unix() == 0:
		return time.Time{}, nil
	case c.ExpireAt != nil && !now.Before(c.ExpireAt.Time):
		return time.Time{}, errExpired
	case c.ExpireAt != nil:
		return c.ExpireAt.Time, nil
	case c.ExpiresAt == nil:
		return time.Time{}, nil
	case !now.Before(c.ExpiresAt.Time):
		return c.ExpiresAt.Add(Leeway), nil
	}
	return c.ExpiresAt.Time, nil
}

// value reads a JSON value, from base64 when there is that, and writes it compactly on one line. null is no value.
func value(name string, plain json.RawMessage, encoded string) (json.RawMessage, error) {
	if encoded != "" {
		b, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, claimError("the claim b64" + name + " is not base64")
		}
		plain = b
	}
	if len(plain) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	if !utf8.Valid(plain) || json.Compact(&b, plain) != nil {
		return nil, claimError("the claim " + name + " must be JSON in UTF-8")
	}
	if b.String() == "null" {
		return nil, nil
	}
	return b.Bytes(), nil
}
