package engine

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// headReader reads the heads of requests. It is owned by a loop, and uses the request that it returns again: so a storm of
// handshakes leaves little to collect.
type headReader struct {
	request http.Request
	url     url.URL
	header  http.Header
	values  []string // what header's slices are cut from
}

// maxFields is how many fields a head may have that is read here.
const maxFields = 64

// read reads a head. It reports false when the request is not surely one that net/http's server would give to its handler
// as it is: such a request is left to net/http, so that it is judged by the same rules as if there were no loops. The
// request is valid until the next call, but its strings, which share one copy of head, are for ever.
func (h *headReader) read(head []byte) (*http.Request, bool) {
	if len(head) > maxHead {
		return nil, false
	}
	if h.header == nil {
		h.header, h.values = make(http.Header, maxFields), make([]string, 0, maxFields)
	}
	clear(h.header)
	h.values = h.values[:0]
	h.request = http.Request{Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h.header}
	rest := string(head)
	line, rest := cutLine(rest)
	if !h.requestLine(line) {
		return nil, false
	}
	for {
		line, rest = cutLine(rest)
		if line == "" {
			break
		}
		if !h.field(line) {
			return nil, false
		}
	}
	if rest != "" || h.request.Host == "" {
		return nil, false
	}
	if h.header["Pragma"] != nil && h.header["Pragma"][0] == "no-cache" && h.header["Cache-Control"] == nil {
		h.header["Cache-Control"] = []string{"no-cache"} // RFC 7234, section 5.4, as net/http does it
	}
	return &h.request, true
}

// cutLine returns the first line without its end, which is LF or CR LF.
func cutLine(s string) (line, rest string) {
	line, rest, _ = strings.Cut(s, "\n")
	return strings.TrimSuffix(line, "\r"), rest
}

// requestLine reads "GET /path HTTP/1.1".
func (h *headReader) requestLine(line string) bool {
	target, ok := strings.CutPrefix(line, "GET ")
	if !ok {
		return false
	}
	if target, ok = strings.CutSuffix(target, " HTTP/1.1"); !ok || !plainTarget(target) {
		return false
	}
	h.request.RequestURI = target
	path, query, asked := strings.Cut(target, "?")
	if asked && query == "" {
		return false
	}
	if plainPath(path) {
		h.url = url.URL{Path: path, RawQuery: query}
		h.request.URL = &h.url
		return true
	}
	u, err := url.ParseRequestURI(target)
	h.request.URL = u
	return err == nil
}

// field reads "name: value".
func (h *headReader) field(line string) bool {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) || len(h.values) == maxFields {
		return false
	}
	value = strings.Trim(value, " \t")
	if !plainValue(value) {
		return false
	}
	switch name = canonicalName(name); name {
	case "Host":
		if h.request.Host != "" || !plainHost(value) {
			return false
		}
		h.request.Host = value
		return true
	case "Content-Length", "Transfer-Encoding", "Trailer", "Expect":
		return false
	}
	h.values = append(h.values, value)
	if earlier := h.header[name]; earlier != nil {
		h.header[name] = append(earlier, value)
		return true
	}
	n := len(h.values)
	h.header[name] = h.values[n-1 : n : n]
	return true
}

// canonicalNames spares the names of handshakes an allocation each: clients write them as RFC 6455 does, or small.
var canonicalNames = func() map[string]string {
	names := map[string]string{}
	for _, name := range []string{
		"Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Host", "Upgrade",
		"Connection", "Origin", "User-Agent", "Pragma", "Cache-Control", "Accept-Encoding", "Accept-Language", "Cookie",
		"Authorization", "Accept", "Last-Event-ID", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP",
	} {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		names[name], names[canonical], names[strings.ToLower(name)] = canonical, canonical, canonical
	}
	return names
}()

func canonicalName(name string) string {
	if canonical, ok := canonicalNames[name]; ok {
		return canonical
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// headLength is the length of the head that b begins with: all up to the first empty line, where lines end as net/http
// reads them, with LF or CR LF. It is 0 when the head is not complete. The first old bytes were looked at before.
func headLength(b []byte, old int) int {
	for i := max(old-2, 0); ; i++ {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n
		switch rest := b[i+1:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 2
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 3
		}
	}
}

// plainTarget says whether a target is a path, with or without a query, of bytes that need no judgement.
func plainTarget(target string) bool {
	for i := range len(target) {
		if c := target[i]; !alphanumeric(c) && strings.IndexByte("-._~/?%:@!$&'()*+,;=", c) < 0 {
			return false
		}
	}
	return strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "//")
}

// plainPath says whether a path is the same with and without its percent-encoding.
func plainPath(path string) bool {
	for i := range len(path) {
		if c := path[i]; !alphanumeric(c) && strings.IndexByte("-._~/", c) < 0 {
			return false
		}
	}
	return true
}

// plainHost says whether a Host has only bytes of names, addresses and ports.
func plainHost(host string) bool {
	for i := range len(host) {
		if c := host[i]; !alphanumeric(c) && strings.IndexByte(".-_:[]", c) < 0 {
			return false
		}
	}
	return host != ""
}

// plainValue says whether a value has no control characters: RFC 9110, section 5.5.
func plainValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isToken says whether a name is a token: RFC 9110, section 5.6.2.
func isToken(name string) bool {
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return name != ""
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
