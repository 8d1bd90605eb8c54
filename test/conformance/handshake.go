package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// Handshake is an opening request, or several on one connection, and the answer that it must have.
type Handshake struct {
	Name string
	// Status is the one of the last answer. After 101 the connection must echo; after everything else it is no WebSocket.
	Status int
	// requests are sent in one piece; HOST and PATH stand for the target's.
	requests string
	// pages is how many answers of 200 come before it.
	pages int
}

// the parts of a good request.
const (
	requestLine = "GET PATH HTTP/1.1\r\n"
	hostField   = "Host: HOST\r\n"
	upgradeLine = "Upgrade: websocket\r\n"
	connection  = "Connection: Upgrade\r\n"
	versionLine = "Sec-WebSocket-Version: 13\r\n"
	keyField    = "Sec-WebSocket-Key: " + secret + "\r\n"
	secret      = "dGhlIHNhbXBsZSBub25jZQ=="
	request     = requestLine + hostField + upgradeLine + connection + versionLine + keyField + "\r\n"
)

// with is a handshake whose request has other text in place of a part of the good one.
func with(status int, name, part, other string) Handshake {
	if !strings.Contains(request, part) {
		panic(fmt.Sprintf("%q is no part of the request", part))
	}
	return Handshake{Name: name, Status: status, requests: strings.Replace(request, part, other, 1)}
}

// adding is a handshake with more fields.
func adding(status int, name, fields string) Handshake {
	return with(status, name, upgradeLine, upgradeLine+fields)
}

// Handshakes are opening requests. RFC 6455, section 4.2.1, and what RFC 9112 says about messages of HTTP.
func Handshakes() (all []Handshake) {
	for _, group := range [][]Handshake{requestLines(), hosts(), upgrades(), versionsAndKeys(), fieldSyntax(), framedRequests(), connections()} {
		all = append(all, group...)
	}
	return all
}

func requestLines() []Handshake {
	return []Handshake{
		with(101, "a good request", "", ""),
		with(405, "POST", "GET ", "POST "),
		with(405, "HEAD", "GET ", "HEAD "),
		with(405, "get", "GET ", "get "),
		with(505, "HTTP/1.0", "HTTP/1.1", "HTTP/1.0"),
		with(505, "HTTP/2.0", "HTTP/1.1", "HTTP/2.0"),
		with(400, "HTTP/1.1.1", "HTTP/1.1", "HTTP/1.1.1"),
		with(400, "a version in small letters", "HTTP/1.1", "http/1.1"),
		with(400, "no version", " HTTP/1.1", ""),
		with(400, "two spaces in the request line", "GET ", "GET  "),
		with(101, "an absolute target", "GET PATH", "GET http://HOSTPATH"),
		with(400, "a target that is no path", "GET PATH", "GET echo"),
		with(404, "another path", "GET PATH", "GET /nothing/here"),
		with(400, "a control character in the target", "GET PATH", "GET PATH\x01"),
		with(400, "an empty line first", requestLine, "\r\n"+requestLine),
		with(400, "what is no HTTP", request, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
	}
}

func hosts() []Handshake {
	return []Handshake{
		with(400, "no Host", hostField, ""),
		with(400, "an empty Host", hostField, "Host:\r\n"),
		with(400, "two equal Hosts", hostField, hostField+hostField),
		with(400, "two Hosts", hostField, hostField+"Host: example.com\r\n"),
		with(400, "a Host with a path", hostField, "Host: HOST/x\r\n"),
		with(400, "an absolute target without Host", "GET PATH HTTP/1.1\r\n"+hostField, "GET http://HOSTPATH HTTP/1.1\r\n"),
	}
}

func upgrades() []Handshake {
	return []Handshake{
		with(426, "no Upgrade", upgradeLine, ""),
		with(426, "an empty Upgrade", upgradeLine, "Upgrade:\r\n"),
		with(426, "another Upgrade", upgradeLine, "Upgrade: h2c\r\n"),
		with(426, "an Upgrade with a longer name", upgradeLine, "Upgrade: websockets\r\n"),
		with(101, "an Upgrade in capitals", upgradeLine, "UPGRADE: WEBSOCKET\r\n"),
		with(101, "an Upgrade in small letters", upgradeLine, "upgrade: websocket\r\n"),
		with(101, "a list of Upgrades", upgradeLine, "Upgrade: h2c, WebSocket\r\n"),
		with(426, "no Connection", connection, ""),
		with(426, "Connection: keep-alive", connection, "Connection: keep-alive\r\n"),
		with(426, "Connection: not-upgrade", connection, "Connection: not-upgrade\r\n"),
		with(101, "Connection: keep-alive, Upgrade", connection, "Connection: keep-alive, Upgrade\r\n"),
		with(101, "Connection: UPGRADE", connection, "connection: UPGRADE\r\n"),
		with(101, "two Connection fields", connection, "Connection: keep-alive\r\nConnection: upgrade\r\n"),
	}
}

func versionsAndKeys() (all []Handshake) {
	for name, value := range map[string]string{
		"version 8": "8", "version 12": "12", "version 14": "14", "version 013": "013", "versions 13, 8": "13, 8", "no number": "x", "nothing": "",
	} {
		all = append(all, with(426, "a version that is "+name, versionLine, "Sec-WebSocket-Version: "+value+"\r\n"))
	}
	for name, key := range map[string]string{
		"is empty":               "",
		"has 15 bytes":           "dGhlIHNhbXBsZSBub25j",
		"has 17 bytes":           "dGhlIHNhbXBsZSBub25jZXg=",
		"has 18 bytes":           "dGhlIHNhbXBsZSBub25jZXh4",
		"has no padding":         "dGhlIHNhbXBsZSBub25jZQ",
		"has one byte too many":  secret + "=",
		"is no base64":           "dGhlIHNhbXBsZSBub25jZ!==",
		"is base64 for URLs":     "____________________-Q==",
		"is a list":              secret + ", " + secret,
		"has a space inside":     "dGhlIHNhbXBs ZSBub25jZQ=",
		"is in quotation marks":  `"` + secret + `"`,
		"is the accepting guess": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
	} {
		all = append(all, with(400, "a key that "+name, secret, key))
	}
	return append(all,
		with(426, "no version", versionLine, ""),
		with(426, "two versions", versionLine, versionLine+versionLine),
		with(426, "two versions that differ", versionLine, versionLine+"Sec-WebSocket-Version: 8\r\n"),
		with(400, "no key", keyField, ""),
		with(400, "two equal keys", keyField, keyField+keyField),
		with(400, "two keys", keyField, keyField+"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
		with(101, "a key with white space around it", keyField, "Sec-WebSocket-Key: \t "+secret+" \t\r\n"),
		with(101, "a key without a space before it", keyField, "Sec-WebSocket-Key:"+secret+"\r\n"))
}

func fieldSyntax() []Handshake {
	return []Handshake{
		with(400, "a space before a colon", "Upgrade:", "Upgrade :"),
		with(400, "a tab before a colon", "Sec-WebSocket-Key:", "Sec-WebSocket-Key\t:"),
		adding(400, "a space before the colon of a field of no interest", "X-Any : x\r\n"),
		adding(400, "NUL in a name", "X\x00Any: x\r\n"),
		adding(400, "a name that is no token", "X(Any): x\r\n"),
		adding(400, "an empty name", ": x\r\n"),
		adding(400, "a line without a colon", "X-Any\r\n"),
		adding(400, "NUL in a value", "X-Any: a\x00b\r\n"),
		adding(400, "a bare CR in a value", "X-Any: a\rb\r\n"),
		adding(400, "a bare CR at the end of a value", "X-Any: a\r\r\n"),
		adding(400, "DEL in a value", "X-Any: a\x7fb\r\n"),
		adding(101, "bytes beyond ASCII in a value", "X-Any: \xe5\xbc\xb9\xff\r\n"),
		adding(101, "a folded value of no interest, which is one of one line", "X-Any: a\r\n b\r\n"),
		with(400, "a folded key, which has a space inside", secret, secret[:10]+"\r\n "+secret[10:]),
		with(400, "a first field that is folded", requestLine, requestLine+" folded\r\n"),
		adding(101, "an empty value", "X-Any:\r\n"),
		{Name: "lines that end with LF", Status: 101, requests: strings.ReplaceAll(request, "\r\n", "\n")},
		adding(431, "a header that is too large", "X-Any: "+strings.Repeat("x", 32<<10)+"\r\n"),
		adding(431, "too many fields", strings.Repeat("X-Any: x\r\n", 4000)),
		with(400, "two origins", connection, connection+"Origin: http://HOST\r\nOrigin: http://HOST\r\n"),
		with(101, "the origin of the node's own pages", connection, connection+"Origin: http://HOST\r\n"),
		with(403, "another origin", connection, connection+"Origin: http://example.com\r\n"),
		adding(400, "extensions that cannot be read", "Sec-WebSocket-Extensions: x;\r\n"),
		adding(101, "extensions that nobody knows", "Sec-WebSocket-Extensions: x; a=1, y\r\n"),
		adding(400, "a subprotocol that is no token", "Sec-WebSocket-Protocol: a b\r\n"),
		adding(400, "a subprotocol twice", "Sec-WebSocket-Protocol: a, a\r\n"),
	}
}

func framedRequests() []Handshake {
	return []Handshake{
		adding(101, "a body of no bytes", "Content-Length: 0\r\n"),
		with(400, "a body", "\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello"),
		with(400, "a body in chunks", "\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
		adding(400, "two lengths", "Content-Length: 0\r\nContent-Length: 1\r\n"),
		adding(400, "a length that is no number", "Content-Length: -1\r\n"),
		adding(501, "an unknown coding", "Transfer-Encoding: gzip\r\n"),
		adding(417, "an unknown expectation", "Expect: x\r\n"),
	}
}

func connections() []Handshake {
	page := "GET /healthz HTTP/1.1\r\n" + hostField + "\r\n"
	return []Handshake{
		{Name: "a request after one for a page", Status: 101, pages: 1, requests: page + request},
		{Name: "a request after several for pages", Status: 101, pages: 3, requests: page + page + page + request},
		{Name: "a bad request after one for a page", Status: 400, pages: 1, requests: page + strings.Replace(request, secret, "x", 1)},
	}
}

// Run sends the request in pieces that end at the cuts, with a frame behind it, and judges the answer.
func (h *Handshake) Run(ctx context.Context, target Target, cuts ...int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := target.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	text := h.Text(target)
	if h.Status == http.StatusSwitchingProtocols {
		text += string(join(frame{op: opText, payload: "at once"}))
	}
	go func() {
		from := 0
		for _, cut := range append(cuts, len(text)) {
			cut = min(max(cut, from), len(text))
			// A server may end the connection before all was sent.
			_, _ = io.WriteString(conn, text[from:cut])
			from = cut
		}
	}()
	return h.judge(&reader{Reader: bufio.NewReader(conn)})
}

// Text is what is sent.
func (h *Handshake) Text(target Target) string {
	return strings.NewReplacer("HOST", target.Addr, "PATH", target.Path).Replace(h.requests)
}

// answer is the head of an answer. net/http would hide a part of it.
type answer struct {
	status int
	fields textproto.MIMEHeader
}

func (r *reader) answer() (a answer, err error) {
	text := textproto.NewReader(r.Reader)
	line, err := text.ReadLine()
	if err != nil {
		return a, err
	}
	version, rest, _ := strings.Cut(line, " ")
	status, _, _ := strings.Cut(rest, " ")
	if a.status, err = strconv.Atoi(status); err != nil || !strings.HasPrefix(version, "HTTP/1.") {
		return a, fmt.Errorf("%q is no status line", line)
	}
	a.fields, err = text.ReadMIMEHeader()
	return a, err
}

func (h *Handshake) judge(r *reader) error {
	for range h.pages {
		a, err := r.answer()
		if err != nil || a.status != http.StatusOK {
			return fmt.Errorf("a page must come first, not %d, %w", a.status, err)
		}
		length, err := strconv.Atoi(a.fields.Get("Content-Length"))
		if err != nil {
			return err
		}
		if _, err := r.Discard(length); err != nil {
			return err
		}
	}
	a, err := r.answer()
	switch {
	case err != nil:
		return fmt.Errorf("an answer must come: %w", err)
	case a.status != h.Status:
		return fmt.Errorf("the answer must be %d, not %d, %v", h.Status, a.status, a.fields)
	case a.status == http.StatusSwitchingProtocols:
		return a.accepts(r)
	}
	return a.refuses()
}

// accepts judges an answer of 101 and what comes behind it.
func (a answer) accepts(r *reader) error {
	if !a.lists("Upgrade", "websocket") || !a.lists("Connection", "upgrade") || a.fields.Get("Sec-WebSocket-Accept") != accept(secret) {
		return fmt.Errorf("101 must have Upgrade, Connection and the accepting key, not %v", a.fields)
	}
	if a.fields.Get("Sec-WebSocket-Extensions")+a.fields.Get("Sec-WebSocket-Protocol") != "" {
		return fmt.Errorf("101 must not accept what nobody offered: %v", a.fields)
	}
	if m, err := r.reply(); err != nil || m != (message{opText, "at once"}) {
		return fmt.Errorf("what was sent with the request must come back, not %v, %w", m, err)
	}
	return nil
}

// refuses judges an answer that is not 101.
func (a answer) refuses() error {
	switch {
	case a.fields.Get("Sec-WebSocket-Accept") != "":
		return errors.New("who is refused must not be given an accepting key")
	case a.status == http.StatusUpgradeRequired && // RFC 9110, sections 7.8 and 15.5.22, and RFC 6455, section 4.4
		(!a.lists("Upgrade", "websocket") || !a.lists("Connection", "upgrade") || a.fields.Get("Sec-WebSocket-Version") != "13"):
		return fmt.Errorf("426 must say what is spoken here, in Upgrade, which Connection names, and Sec-WebSocket-Version, not %v", a.fields)
	case a.status == http.StatusMethodNotAllowed && !a.lists("Allow", "GET"): // RFC 9110, section 15.5.6
		return fmt.Errorf("405 must say what is allowed, not %v", a.fields)
	}
	return nil
}

// lists says whether the list in a field has a token, in any case of letters.
func (a answer) lists(field, token string) bool {
	for item := range strings.SplitSeq(strings.Join(a.fields.Values(field), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(item), token) {
			return true
		}
	}
	return false
}
