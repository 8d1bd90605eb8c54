package ws

import (
	"slices"
	"strings"
)

// hasToken says whether a comma-separated list, which may be spread over several fields, has the token, in any case of
// letters. RFC 9110, section 5.6.1.
func hasToken(fields []string, token string) bool {
	for _, field := range fields {
		for item := range strings.SplitSeq(field, ",") {
			if strings.EqualFold(strings.Trim(item, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// parseProtocols reads Sec-WebSocket-Protocol: tokens, "all unique". RFC 6455, section 4.1, number 10. Empty elements
// of the list are passed over, as RFC 9110, section 5.6.1.2, asks for.
func parseProtocols(fields []string) (names []string, ok bool) {
	for _, field := range fields {
		for item := range strings.SplitSeq(field, ",") {
			name := strings.Trim(item, " \t")
			if name == "" {
				continue
			}
			if !isToken(name) || slices.Contains(names, name) {
				return nil, false
			}
			names = append(names, name)
		}
	}
	return names, true
}

// parseExtensions reads Sec-WebSocket-Extensions. RFC 6455, section 9.1:
//
//	extension-list  = 1#extension
//	extension       = token *( ";" extension-param )
//	extension-param = token [ "=" ( token | quoted-string ) ], the text of the quoted string being a token
func parseExtensions(fields []string) (list []Extension, ok bool) {
	for _, field := range fields {
		p := fieldParser{rest: field}
		for {
			for p.take(',') { // empty elements are passed over
			}
			if p.rest == "" {
				break
			}
			e, ok := p.extension()
			if !ok || p.rest != "" && p.rest[0] != ',' {
				return nil, false
			}
			list = append(list, e)
		}
	}
	return list, true
}

// fieldParser reads the value of a field from its beginning.
type fieldParser struct{ rest string }

func (p *fieldParser) extension() (e Extension, ok bool) {
	if e.Name, ok = p.token(); !ok {
		return e, false
	}
	for p.take(';') {
		var param Param
		if param.Name, ok = p.token(); !ok {
			return e, false
		}
		if p.take('=') {
			if param.Value, ok = p.value(); !ok {
				return e, false
			}
		}
		e.Params = append(e.Params, param)
	}
	return e, true
}

// take passes c and the white space around it.
func (p *fieldParser) take(c byte) bool {
	p.space()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	p.space()
	return true
}

func (p *fieldParser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *fieldParser) token() (string, bool) {
	p.space()
	n := 0
	for n < len(p.rest) && isTokenByte(p.rest[n]) {
		n++
	}
	token := p.rest[:n]
	p.rest = p.rest[n:]
	p.space()
	return token, n > 0
}

func (p *fieldParser) value() (string, bool) {
	if p.rest == "" || p.rest[0] != '"' {
		return p.token()
	}
	var text []byte
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.rest = p.rest[i+1:]
			p.space()
			return string(text), isToken(string(text))
		case '\\':
			if i++; i < len(p.rest) {
				text = append(text, p.rest[i])
			}
		default:
			text = append(text, c)
		}
	}
	return "", false
}

// isToken says whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c != 0 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
