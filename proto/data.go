package proto

// CompactData checks that text is one JSON value that a message may have as its data, and returns a copy of it without white space.
// The error matches ErrBadRequest and says at which byte it is not; an empty text is none.
func CompactData(text []byte) ([]byte, *Error) {
	s := scanner{b: text}
	s.space()
	start, spaces := s.pos, s.spaces
	if err := s.value(); err != nil {
		return nil, err
	}
	end, within := s.pos, s.spaces-spaces
	s.space()
	if s.pos < len(text) {
		return nil, s.bad("expected the end of the data")
	}
	return compact(text[start:end], within), nil
}
