package proto

// CompactJSON returns a copy of one JSON value without its white space, as data of messages are kept: valid UTF-8, nested at most
// MaxDepth deep. The error is an *Error that matches ErrBadRequest and names the byte that is wrong.
func CompactJSON(text []byte) ([]byte, *Error) {
	s := scanner{b: text}
	s.space()
	if err := s.value(); err != nil {
		return nil, err
	}
	s.space()
	if s.pos < len(s.b) {
		return nil, s.bad("expected the end of the value")
	}
	return compact(s.b, s.spaces), nil
}
