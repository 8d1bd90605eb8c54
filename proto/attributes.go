package proto

import (
	"encoding/json"
	"fmt"
)

// Attributes are what receivers are told of a message besides its data: who its publisher says they are, and tags for filtering
// and tracing. They are stored with the message as one JSON object, so that a journal keeps what a later version adds.
type Attributes struct {
	// Info is what the publisher's connection token says of them, any JSON value; ChanInfo what their subscription token says.
	Info     json.RawMessage `json:"info,omitempty"`
	ChanInfo json.RawMessage `json:"chan_info,omitempty"`
	// Tags are set by the server API.
	Tags map[string]string `json:"tags,omitempty"`
}

// MaxAttributesBytes bounds the attributes of a message, in bytes of JSON.
const MaxAttributesBytes = 8 << 10

// Encode writes the attributes as one compact JSON object; nil for none. It fails when a part is not valid JSON, or the whole is
// larger than MaxAttributesBytes.
func (a *Attributes) Encode() ([]byte, error) {
	if len(a.Info) == 0 && len(a.ChanInfo) == 0 && len(a.Tags) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("info and tags must be JSON: %w", err)
	}
	if len(b) > MaxAttributesBytes {
		return nil, fmt.Errorf("info and tags have %d bytes as JSON; at most %d are allowed", len(b), MaxAttributesBytes)
	}
	return b, nil
}

// ParseAttributes reads what Encode wrote. What cannot be read, because of another version, reads as nothing.
func ParseAttributes(b []byte) (a Attributes) {
	if len(b) == 0 || json.Unmarshal(b, &a) != nil {
		return Attributes{}
	}
	return a
}
