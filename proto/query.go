package proto

import "net/url"

// JoinQuery is what a client asks for in the query of the URL of a plain protocol.
type JoinQuery struct {
	// Since is the offset to resume after; nil means to start with the next new message, or with the last ones.
	Since *Offset
	// Epoch is what Since belongs to; empty means unknown.
	Epoch Epoch
	// Last is how many of the last messages to start with, 0 to MaxHistory. It is 0 when Since is set.
	Last int
	// Name is the display name of an anonymous user; empty means none.
	Name string
	// Echo says whether the connection is sent its own messages. It is true unless the query says otherwise.
	Echo bool
	// Members says whether the connection is told of members that join and leave.
	Members bool
}

// ParseQuery reads the query of a URL, without the question mark. Parameters that are not known are passed over. The
// error is an *Error that matches ErrBadRequest and says in a sentence what is wrong.
func ParseQuery(query string) (JoinQuery, error) {
	q := JoinQuery{Echo: true}
	values, err := url.ParseQuery(query)
	if err != nil {
		return q, ErrBadRequest.With("the query cannot be read: %s", err)
	}
	for _, name := range []string{"since", "epoch", "last", "name", "echo", "members"} {
		if n := len(values[name]); n > 1 {
			return q, ErrBadRequest.With("the parameter %s is given %d times; give it once", name, n)
		}
	}
	if values.Has("since") && values.Has("last") {
		return q, ErrBadRequest.With("since and last cannot be combined; give one of them")
	}
	if v := values.Get("since"); values.Has("since") {
		n, ok := parseWhole(v, 0, uint64(MaxOffset))
		if !ok {
			return q, ErrBadRequest.With("since must be a whole number from 0 to %d, not %s", MaxOffset, quoteShort([]byte(v)))
		}
		since := Offset(n)
		q.Since = &since
	}
	if v := values.Get("last"); values.Has("last") {
		n, ok := parseWhole(v, 0, MaxHistory)
		if !ok {
			return q, ErrBadRequest.With("last must be a whole number from 0 to %d, not %s", MaxHistory, quoteShort([]byte(v)))
		}
		q.Last = int(n)
	}
	q.Epoch = Epoch(values.Get("epoch"))
	q.Name = values.Get("name")
	if err := CheckUser(q.Name); err != nil {
		return q, ErrBadRequest.With("name cannot be used: %s", reasonOf(err))
	}
	if q.Echo, err = parseSwitch(values, "echo", true); err != nil {
		return q, err
	}
	q.Members, err = parseSwitch(values, "members", false)
	return q, err
}

// parseSwitch reads a parameter that is 0 or 1.
func parseSwitch(values url.Values, name string, otherwise bool) (bool, error) {
	if !values.Has(name) {
		return otherwise, nil
	}
	switch v := values.Get(name); v {
	case "0":
		return false, nil
	case "1":
		return true, nil
	default:
		return otherwise, ErrBadRequest.With("%s must be 0 or 1, not %s", name, quoteShort([]byte(v)))
	}
}
