package ws

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Request is what the opening handshake needs of an HTTP request, however it was read.
type Request struct {
	Method string
	// Major and Minor are the version of HTTP.
	Major, Minor int
	// Hosts holds the values of all Host fields; they may be in Header instead.
	Hosts []string
	// Header has canonical keys.
	Header http.Header
	// Body says that a body is announced.
	Body bool
}

// Upgrade is a handshake that may be accepted.
type Upgrade struct {
	// Key is the Sec-WebSocket-Key, for AppendResponse.
	Key  string
	Host string
	// Origin is empty when the client named none, as those that are not browsers do.
	Origin string
	// Protocols are the subprotocols offered, the preferred one first.
	Protocols []string
	// Extensions are those offered: see AcceptDeflate.
	Extensions []Extension
}

// Extension is one that a client offers. RFC 6455, section 9.1.
type Extension struct {
	Name string
	// Params are the parameters in their order.
	Params []Param
}

// Param is a parameter of an extension; Value is empty when it has none.
type Param struct{ Name, Value string }

// HandshakeError is the refusal of a handshake, to be answered by HTTP. RFC 6455, section 4.2.2.
type HandshakeError struct {
	// Status is the HTTP status code.
	Status int
	// Header holds the fields that the answer must have besides the usual ones.
	Header http.Header
	// Message is a sentence for whoever wrote the client.
	Message string
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Status, http.StatusText(e.Status), e.Message)
}

// AppendTo appends the whole answer, after which the connection is to be closed.
func (e *HandshakeError) AppendTo(dst []byte) []byte {
	body := e.Message + "\n"
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(e.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(e.Status)...)
	dst = append(dst, "\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n"...)
	dst = AppendFields(dst, e.Header)
	dst = append(dst, "\r\n"...)
	return append(dst, body...)
}

func refuse(status int, format string, args ...any) *HandshakeError {
	return &HandshakeError{Status: status, Message: fmt.Sprintf(format, args...)}
}

// upgradeRequired is the refusal that says what this server speaks: RFC 9110, section 15.5.22, and RFC 6455, section 4.4.
// Connection names Upgrade, as wherever that is sent: RFC 9110, section 7.8.
func upgradeRequired(format string, args ...any) *HandshakeError {
	e := refuse(http.StatusUpgradeRequired, format, args...)
	e.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}
	return e
}

// CheckUpgrade checks a request that net/http has read: see Request.Check.
func CheckUpgrade(r *http.Request) (Upgrade, error) {
	q := Request{Method: r.Method, Major: r.ProtoMajor, Minor: r.ProtoMinor, Header: r.Header}
	if r.Host != "" {
		q.Hosts = []string{r.Host}
	}
	q.Body = r.ContentLength != 0 || len(r.TransferEncoding) > 0
	return q.Check()
}

// Check says whether q is a valid opening handshake of a client: RFC 6455, section 4.2.1, whose numbers stand below.
// The error is a *HandshakeError. The origin is not judged: see OriginAllowed.
func (q *Request) Check() (Upgrade, error) {
	if q.Method != http.MethodGet { // 1
		e := refuse(http.StatusMethodNotAllowed, "a WebSocket is opened with the method GET, not %s", strconv.Quote(short(q.Method)))
		e.Header = http.Header{"Allow": {http.MethodGet}}
		return Upgrade{}, e
	}
	if q.Major < 1 || q.Major == 1 && q.Minor < 1 { // 1
		return Upgrade{}, refuse(http.StatusHTTPVersionNotSupported, "a WebSocket needs HTTP/1.1 or later, not HTTP/%d.%d", q.Major, q.Minor)
	}
	hosts := append(slices.Clip(q.Hosts), q.Header["Host"]...)
	if len(hosts) != 1 || strings.TrimSpace(hosts[0]) == "" { // 2
		return Upgrade{}, refuse(http.StatusBadRequest, "the request must have exactly one Host field")
	}
	if !hasToken(q.Header["Upgrade"], "websocket") { // 3
		return Upgrade{}, upgradeRequired("this address speaks WebSocket: the request must have Upgrade: websocket")
	}
	if !hasToken(q.Header["Connection"], "upgrade") { // 4
		return Upgrade{}, upgradeRequired("the request must have Connection: Upgrade; a proxy may have removed it")
	}
	// 6, before 5 because another version may have other fields
	if v := q.Header["Sec-Websocket-Version"]; len(v) != 1 || v[0] != "13" {
		return Upgrade{}, upgradeRequired("the request must have Sec-WebSocket-Version: 13, once")
	}
	key := q.Header["Sec-Websocket-Key"]
	if len(key) != 1 || !validKey(key[0]) { // 5
		return Upgrade{}, refuse(http.StatusBadRequest, "the request must have exactly one Sec-WebSocket-Key, 16 bytes in base64")
	}
	if q.Body {
		return Upgrade{}, refuse(http.StatusBadRequest, "the request must not have a body")
	}
	u := Upgrade{Key: key[0], Host: hosts[0]}
	if err := u.options(q.Header); err != nil {
		return Upgrade{}, err
	}
	return u, nil
}

// options reads the fields that may be missing: numbers 7 to 9 of section 4.2.1.
func (u *Upgrade) options(header http.Header) error {
	origins := header["Origin"]
	if len(origins) > 1 {
		return refuse(http.StatusBadRequest, "the request has %d Origin fields; at most one is allowed", len(origins))
	}
	if len(origins) == 1 {
		u.Origin = origins[0]
	}
	var ok bool
	if u.Protocols, ok = parseProtocols(header["Sec-Websocket-Protocol"]); !ok {
		return refuse(http.StatusBadRequest, "Sec-WebSocket-Protocol must list names, separated by commas, each once")
	}
	if u.Extensions, ok = parseExtensions(header["Sec-Websocket-Extensions"]); !ok { // must fail: section 9.1
		return refuse(http.StatusBadRequest, "Sec-WebSocket-Extensions cannot be read (RFC 6455, 9.1)")
	}
	return nil
}

// validKey says whether key is the base64 of 16 bytes.
func validKey(key string) bool {
	var nonce [18]byte
	if len(key) != 24 {
		return false
	}
	n, err := base64.StdEncoding.Decode(nonce[:], []byte(key))
	return err == nil && n == 16
}

// AcceptKey is the Sec-WebSocket-Accept for a Sec-WebSocket-Key. RFC 6455, section 4.2.2, number 5.4.
func AcceptKey(key string) string {
	return string(appendAcceptKey(nil, key))
}

func appendAcceptKey(dst []byte, key string) []byte {
	var text [64]byte
	sum := sha1.Sum(append(append(text[:0], key...), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// AppendResponse appends the answer that completes the handshake of RFC 6455, section 4.2.2; frames follow it. subprotocol
// is one of those offered, or empty. extra are further fields, written in the order of their names.
func AppendResponse(dst []byte, key, subprotocol string, extra http.Header) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = appendAcceptKey(dst, key)
	dst = append(dst, "\r\n"...)
	if subprotocol != "" {
		dst = appendField(dst, "Sec-WebSocket-Protocol", subprotocol)
	}
	dst = AppendFields(dst, extra)
	return append(dst, "\r\n"...)
}

// AppendFields appends the fields of header, in the order of their names. Line breaks in values become spaces.
func AppendFields(dst []byte, header http.Header) []byte {
	if len(header) == 0 {
		return dst
	}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			dst = appendField(dst, name, value)
		}
	}
	return dst
}

// appendField appends one field. Line breaks become spaces, so that a value cannot add fields.
func appendField(dst []byte, name, value string) []byte {
	start := len(dst)
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	for i, c := range dst[start:] {
		if c == '\r' || c == '\n' {
			dst[start+i] = ' '
		}
	}
	return append(dst, "\r\n"...)
}

func short(s string) string { return s[:min(len(s), 40)] }
