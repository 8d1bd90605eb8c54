package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Line is one line from the server: exactly one field is set.
type Line struct {
	Welcome *struct {
		Node, Client, Channel, Epoch string
		Offset                       uint64
		Live                         bool
		User                         string
		Expires                      int64
		// MaxPayload is in bytes.
		MaxPayload int `json:"max_payload"`
	}
	Message *Message
	Ack     *struct {
		ID       string
		Offset   uint64
		Repeated bool
		Live     bool
	}
	Skipped *struct{ Count uint64 }
	History *struct {
		ID, Epoch string
		Offset    uint64
		Messages  []Message
		More      bool
	}
	Info *struct {
		ID             string
		Members, Nodes int
		Users          int
		Exact          bool
	}
	Presence *struct {
		ID             string
		Members        []Member
		Clients, Users int
		Exact, Sampled bool
	}
	Join, Leave *Member
	Refreshed   *struct {
		ID      string
		Expires int64
	}
	Pong  *struct{ ID string }
	Reset *struct {
		Epoch, Reason string
		Offset        uint64
	}
	Error *struct {
		Code    int
		Message string
		ID      string
		Retry   bool
		// RetryAfter is in milliseconds.
		RetryAfter int64 `json:"retry_after"`
	}
	// Text is the line as it came.
	Text string `json:"-"`
}

// Message is a message as /ws shows it.
type Message struct {
	Offset       uint64
	Time         int64
	User, Client string
	Info         json.RawMessage
	ChanInfo     json.RawMessage `json:"chan_info"`
	Tags         map[string]string
	Data         json.RawMessage
}

// Member is a member of a channel as /ws shows it.
type Member struct {
	User, Client string
	Info         json.RawMessage
	ChanInfo     json.RawMessage `json:"chan_info"`
}

// Client is a WebSocket connection for tests, one goroutine at a time except that Send and Next may run side by side. It
// decodes strictly: a line with an unknown key, or with two, is an error.
type Client struct {
	ws    *websocket.Conn
	lines [][]byte // of the last frame, not yet read
}

// defaultWait bounds how long Next waits unless told otherwise.
const defaultWait = 10 * time.Second

// Dial connects to base (http://host:port) + path, for instance "/ws/room?last=5". When the server refuses the handshake
// the error is a *RefusedError.
func Dial(base, path string, header http.Header) (*Client, error) {
	dialer := websocket.Dialer{HandshakeTimeout: defaultWait, ReadBufferSize: 4 << 10, WriteBufferSize: 1 << 10}
	ws, resp, err := dialer.Dial("ws"+strings.TrimPrefix(base, "http")+path, header)
	if err != nil && resp != nil {
		text := make([]byte, 1024)
		n, _ := resp.Body.Read(text)
		resp.Body.Close()
		return nil, &RefusedError{Status: resp.StatusCode, Text: string(text[:n])}
	}
	if err != nil {
		return nil, err
	}
	return &Client{ws: ws}, nil
}

// RefusedError is a handshake that the server answered with an HTTP error.
type RefusedError struct {
	Status int
	Text   string
}

func (r *RefusedError) Error() string { return fmt.Sprintf("refused with %d: %s", r.Status, r.Text) }

// Channel returns the path of a channel: /ws/ or /raw/ and the escaped name, and the query.
func Channel(kind, name string, query ...string) string {
	path := "/" + kind + "/" + url.PathEscape(name)
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	return path
}

// Send sends one text frame.
func (c *Client) Send(text string) error {
	c.ws.SetWriteDeadline(time.Now().Add(defaultWait))
	return c.ws.WriteMessage(websocket.TextMessage, []byte(text))
}

// SendFrame sends one frame of the given kind.
func (c *Client) SendFrame(kind int, data []byte) error { return c.ws.WriteMessage(kind, data) }

// Publish sends one publish; data is marshalled to JSON, key is left out when empty.
func (c *Client) Publish(data any, key string) error {
	line, err := json.Marshal(map[string]any{"publish": struct {
		Data any    `json:"data"`
		ID   string `json:"id,omitempty"`
	}{data, key}})
	if err != nil {
		return err
	}
	return c.Send(string(line))
}

// Frame returns the next frame's text, for /raw.
func (c *Client) Frame(wait time.Duration) (string, error) {
	c.ws.SetReadDeadline(time.Now().Add(wait))
	kind, data, err := c.ws.ReadMessage()
	if err == nil && kind != websocket.TextMessage {
		return "", fmt.Errorf("a frame of kind %d came; only text frames are expected", kind)
	}
	return string(data), err
}

// Next returns the next line, waiting at most wait. After an error the connection is of no more use.
func (c *Client) Next(wait time.Duration) (Line, error) {
	for len(c.lines) == 0 {
		frame, err := c.Frame(wait)
		if err != nil {
			return Line{}, err
		}
		for line := range bytes.SplitSeq([]byte(frame), []byte("\n")) {
			if len(line) > 0 {
				c.lines = append(c.lines, line)
			}
		}
	}
	text := c.lines[0]
	c.lines = c.lines[1:]
	return parseLine(text)
}

func parseLine(text []byte) (Line, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil || len(keys) != 1 {
		return Line{}, fmt.Errorf("the server sent a line that is no object with exactly one key: %.200s", text)
	}
	line := Line{Text: string(text)}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&line); err != nil {
		return Line{}, fmt.Errorf("the server sent a line that PROTOCOL.md does not describe: %w: %.200s", err, text)
	}
	return line, nil
}

// CloseCode returns the close code in err, 0 when the connection did not end by a close frame.
func CloseCode(err error) int {
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		return e.Code
	}
	return 0
}

// Close ends the connection without a goodbye.
func (c *Client) Close() { c.ws.Close() }
