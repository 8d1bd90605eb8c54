package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"barrage/proto"
)

// claims are what a token says: those of RFC 7519, and those that back ends for the Centrifuge protocol mint. Claims that are not
// here are ignored, as RFC 7519 asks for; so is the claim override of a subscription. Names are compared byte by byte, and none may
// stand twice: RFC 7519, section 4, and RFC 8725, section 2.4.
type claims struct {
	jwt.RegisteredClaims
	member
	ExpireAt *jwt.NumericDate
	Meta     json.RawMessage
	Channels []string
	Subs     map[string]member
	// Channel makes the token one of a subscription.
	Channel *string
	Client  string
}

// member is what others see of a connection or subscription, and what it is given. The forms in base64 win where both are there.
type member struct {
	Info    json.RawMessage
	B64Info string
	Data    json.RawMessage
	B64Data string
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *claims) UnmarshalJSON(text []byte) error {
	var subs json.RawMessage
	fields := c.fields()
	maps.Copy(fields, map[string]any{
		"iss": &c.Issuer, "sub": &c.Subject, "aud": &c.Audience, "exp": &c.ExpiresAt, "nbf": &c.NotBefore, "iat": &c.IssuedAt, "jti": &c.ID,
		"expire_at": &c.ExpireAt, "meta": &c.Meta, "channels": &c.Channels, "subs": &subs, "channel": &c.Channel, "client": &c.Client,
	})
	if err := decode(text, fields); err != nil || len(subs) == 0 {
		return err
	}
	all, err := members(subs)
	if err != nil || len(all) == 0 {
		return err
	}
	c.Subs = make(map[string]member, len(all))
	for name, text := range all {
		var m member
		if err := json.Unmarshal(text, &m); err != nil {
			return err
		}
		c.Subs[name] = m
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *member) UnmarshalJSON(text []byte) error { return decode(text, m.fields()) }

// fields are where the claims go, by their names.
func (m *member) fields() map[string]any {
	return map[string]any{"info": &m.Info, "b64info": &m.B64Info, "data": &m.Data, "b64data": &m.B64Data}
}

// decode reads an object into fields, pointers by the exact names of its members; the others are passed over.
func decode(text []byte, fields map[string]any) error {
	all, err := members(text)
	if err != nil {
		return err
	}
	for name, text := range all {
		if at := fields[name]; at != nil {
			if err := json.Unmarshal(text, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// members are those of an object, by their exact names, of which none may stand twice. null has none.
func members(text []byte) (map[string]json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	d := json.NewDecoder(bytes.NewReader(text))
	start, err := d.Token()
	if start == nil || err != nil {
		return all, err
	}
	if start != json.Delim('{') {
		return nil, errNoObject
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := name.(string) // a member has no other name
		if _, twice := all[key]; twice {
			return nil, claimError("a claim, or a channel of the claim subs, stands twice in the token")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		all[key] = value
	}
	return all, nil
}

var errNoObject = errors.New("not an object")

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
