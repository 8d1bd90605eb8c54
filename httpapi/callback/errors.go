package callback

import (
	"errors"
	"net/url"
)

// withoutURL is an error of net/http without the address, which may hold a password.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
