package journal

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode/utf8"

	"barrage/proto"
)

// CheckBatch accepts what every implementation can store: at most MaxBatch drafts, each with a channel, all their
// strings valid UTF-8 without NUL, and its attributes within proto.MaxAttributesBytes. The limits of names are checked where they enter, by package proto.
func CheckBatch(drafts []Draft) error {
	if len(drafts) > MaxBatch {
		return fmt.Errorf("%w: a batch of %d drafts; at most %d are allowed", ErrDraft, len(drafts), MaxBatch)
	}
	for i := range drafts {
		if err := drafts[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (d *Draft) check() error {
	if d.Channel == "" {
		return fmt.Errorf("%w: a draft without a channel", ErrDraft)
	}
	for _, s := range [...]struct{ what, text string }{
		{"channel", d.Channel}, {"key", d.Key}, {"user", d.User}, {"client", d.Client},
	} {
		if !utf8.ValidString(s.text) || strings.IndexByte(s.text, 0) >= 0 {
			return fmt.Errorf("%w: the %s %q is not UTF-8 without NUL", ErrDraft, s.what, s.text)
		}
	}
	if n := len(d.Attributes); n > proto.MaxAttributesBytes {
		return fmt.Errorf("%w: attributes of %d bytes; at most %d are allowed", ErrDraft, n, proto.MaxAttributesBytes)
	}
	return nil
}

// NewEpoch returns a random epoch, for a journal that is being created: 13 letters and digits.
func NewEpoch() proto.Epoch { return proto.Epoch(strings.ToLower(rand.Text()[:13])) }
