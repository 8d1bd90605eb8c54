package callback

import (
	"errors"
	"net/url"

	"barrage/proto"
)

// errEnding is what a call is answered when the service is closed.
var errEnding = proto.ErrUnavailable.With("this node is shutting down; connect again")

// withoutURL is an error of net/http without the address, which may hold a password.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
