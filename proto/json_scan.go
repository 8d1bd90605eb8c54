package proto

import (
	"bytes"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may be nested in the data of a message.
const MaxDepth = 512

// scanner walks over one JSON text (RFC 8259) without building anything. It is stricter than the grammar in two
// points: the text must be valid UTF-8, and nesting is bounded by MaxDepth. It needs no memory besides itself,
// however deep the text is nested. Its errors match ErrBadRequest and name a byte of the text, the first one being 1.
type scanner struct {
	b   []byte
	pos int
	// spaces counts the white space outside of strings that was passed, in bytes.
	spaces int
}

// peek returns the byte at the position, or 0 at the end. A 0 in the text is an error wherever it stands, so the two
// need not be told apart.
func (s *scanner) peek() byte {
	if s.pos < len(s.b) {
		return s.b[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	start := s.pos
	for s.pos < len(s.b) && isSpace(s.b[s.pos]) {
		s.pos++
	}
	s.spaces += s.pos - start
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// nesting remembers for each level whether it is an object; everything else is an array.
type nesting struct {
	depth  int
	object [MaxDepth / 64]uint64
}

func (n *nesting) push(object bool) {
	bit := uint64(1) << (n.depth % 64)
	if object {
		n.object[n.depth/64] |= bit
	} else {
		n.object[n.depth/64] &^= bit
	}
	n.depth++
}

func (n *nesting) inObject() bool {
	top := n.depth - 1
	return n.object[top/64]>>(top%64)&1 == 1
}

// value passes one value and the white space before it.
func (s *scanner) value() *Error {
	var n nesting
	for {
		opened, err := s.begin(&n)
		if err != nil {
			return err
		}
		if opened {
			continue
		}
		if done, err := s.after(&n); done || err != nil {
			return err
		}
	}
}

// begin passes a scalar, an empty array or object, or what comes before the first value in an array or object; in the
// last case opened is true and a value must follow.
func (s *scanner) begin(n *nesting) (opened bool, err *Error) {
	s.space()
	switch c := s.peek(); c {
	case '"':
		_, _, err = s.text()
		return false, err
	case '{', '[':
		if n.depth == MaxDepth {
			return false, ErrBadRequest.With("byte %d opens more than %d arrays and objects inside each other; nest less deeply", s.pos+1, MaxDepth)
		}
		s.pos++
		s.space()
		if s.peek() == c+2 { // '}' is '{'+2 and ']' is '['+2
			s.pos++
			return false, nil
		}
		n.push(c == '{')
		if c == '{' {
			_, err = s.key()
		}
		return true, err
	case 't':
		return false, s.literal("true")
	case 'f':
		return false, s.literal("false")
	case 'n':
		return false, s.literal("null")
	}
	return false, s.number()
}

// after passes what follows a value: any number of closing brackets and a comma, with the key after it in an object.
// done says that the outermost value is complete.
func (s *scanner) after(n *nesting) (done bool, err *Error) {
	for n.depth > 0 {
		s.space()
		object := n.inObject()
		switch c := s.peek(); {
		case c == ',':
			s.pos++
			if object {
				s.space()
				_, err = s.key()
			}
			return false, err
		case object && c == '}' || !object && c == ']':
			s.pos++
			n.depth--
		case object:
			return false, s.bad("expected ',' or '}'")
		default:
			return false, s.bad("expected ',' or ']'")
		}
	}
	return true, nil
}

// key passes a key and its colon, and returns the key decoded. The result may alias the text.
func (s *scanner) key() ([]byte, *Error) {
	if s.peek() != '"' {
		return nil, s.bad("expected a key in quotes")
	}
	raw, escaped, err := s.text()
	if err != nil {
		return nil, err
	}
	s.space()
	if s.peek() != ':' {
		return nil, s.bad("expected ':'")
	}
	s.pos++
	if escaped {
		raw, _ = appendUnescaped(nil, raw)
	}
	return raw, nil
}

// object passes an object and calls field for each of its keys, which must pass the value.
func (s *scanner) object(field func(key []byte) *Error) *Error {
	s.pos++ // '{'
	s.space()
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		s.space()
		key, err := s.key()
		if err != nil {
			return err
		}
		s.space()
		if err := field(key); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return nil
		default:
			return s.bad("expected ',' or '}'")
		}
	}
}

// plain marks the bytes of a string that need no closer look.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\'
	}
	return t
}()

// text passes a string and returns what stands between its quotes, and whether there is a backslash in it.
func (s *scanner) text() (raw []byte, escaped bool, err *Error) {
	s.pos++ // '"'
	start := s.pos
	b := s.b
	for {
		i := s.pos
		for i < len(b) && plain[b[i]] {
			i++
		}
		s.pos = i
		if i == len(b) {
			return nil, false, s.bad("expected the closing '\"' of a string")
		}
		switch c := b[i]; {
		case c == '"':
			s.pos++
			return b[start : s.pos-1], escaped, nil
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return nil, false, err
			}
		case c < 0x20:
			return nil, false, ErrBadRequest.With("invalid JSON at byte %d: the control character U+%04X must be escaped in a string", s.pos+1, c)
		default:
			_, n := utf8.DecodeRune(b[s.pos:])
			if n == 1 {
				return nil, false, ErrBadRequest.With("invalid JSON at byte %d: it is not valid UTF-8", s.pos+1)
			}
			s.pos += n
		}
	}
}

// escape passes a backslash and what belongs to it.
func (s *scanner) escape() *Error {
	s.pos++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return nil
	case 'u':
		s.pos++
		for range 4 {
			if hexDigit(s.peek()) < 0 {
				return s.bad("expected four hexadecimal digits after \\u")
			}
			s.pos++
		}
		return nil
	}
	return s.bad("expected one of \" \\ / b f n r t u after a backslash")
}

// number passes -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (s *scanner) number() *Error {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	switch c := s.peek(); {
	case c == '0':
		s.pos++
	case c >= '1' && c <= '9':
		s.digits()
	case s.pos == start:
		return s.bad("expected a value")
	default:
		return s.bad("expected a digit")
	}
	if s.peek() == '.' {
		s.pos++
		if s.digits() == 0 {
			return s.bad("expected a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if s.digits() == 0 {
			return s.bad("expected a digit")
		}
	}
	return nil
}

func (s *scanner) digits() (n int) {
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.pos++
		n++
	}
	return n
}

func (s *scanner) literal(word string) *Error {
	for i := range len(word) {
		if s.peek() != word[i] {
			return s.bad("expected " + word)
		}
		s.pos++
	}
	return nil
}

// bad is the error for what stands at the position.
func (s *scanner) bad(expected string) *Error {
	if s.pos >= len(s.b) {
		return ErrBadRequest.With("invalid JSON at byte %d: %s, but the line ends", s.pos+1, expected)
	}
	r, n := utf8.DecodeRune(s.b[s.pos:])
	if r == utf8.RuneError && n == 1 {
		return ErrBadRequest.With("invalid JSON at byte %d: it is not valid UTF-8", s.pos+1)
	}
	return ErrBadRequest.With("invalid JSON at byte %d: %s, found %q", s.pos+1, expected, r)
}

// compact returns a copy of a valid JSON text without its white space; spaces is how much of it there is.
func compact(json []byte, spaces int) []byte {
	if spaces == 0 {
		return bytes.Clone(json)
	}
	out := make([]byte, 0, len(json)-spaces)
	for i := 0; i < len(json); {
		switch c := json[i]; {
		case isSpace(c):
			i++
		case c == '"':
			end := i + 1
			for json[end] != '"' {
				if json[end] == '\\' {
					end++
				}
				end++
			}
			out = append(out, json[i:end+1]...)
			i = end + 1
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

// typeName names the type of the value that begins with c, with its article.
func typeName(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
