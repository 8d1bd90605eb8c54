// Package client talks to a cluster over /ws: it follows one channel, publishes to it, and comes back by itself when
// a connection or a node is lost.
//
// What it promises:
//
//   - Events come one after the other, in the order of the channel. A message is handed over once: what the server
//     repeats is dropped and counted. Nothing is missing silently: a hole in the offsets is a Gap, a position that
//     could not be resumed is a Reset.
//   - After a lost connection it resumes from offset and epoch on the next URL, after a random pause that grows with
//     every failure. The position moves before a message is handed over, so that a message whose handling failed is
//     not repeated.
//   - A publish ends with the offset of the stored message, with the server's refusal, or with its context. Until
//     then it is sent again, under the same idempotency key, after lost connections and temporary errors; it is
//     stored at most once.
//   - A command that is larger than the server takes ends alone, with a TooLargeError, and is not sent. When the server does not tell
//     its limit and closes the connection with 1009, the command that was too large ends so; the others go on with the next connection.
//   - When the server says how long to wait before a command, everything waits so long, on the next connection too; a handshake that
//     is refused with Retry-After is not repeated at that URL before that; another URL takes its turn meanwhile.
//   - A token is renewed before it expires, on the same connection.
//   - A connection on which nothing arrives for Options.Silence is dead.
//
// A client holds one connection, one goroutine (the caller's, in Run; one more with a token that expires), and about 15 KB while
// it is idle.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"barrage/proto"
)

// Options says where to connect and how. URLs and Channel are required; the zero value of everything else works.
type Options struct {
	// URLs are the nodes or balancers: ws://host:port or wss://host:port, with an optional path in front of /ws.
	// Each attempt to connect takes the next one, beginning with the first.
	URLs []string
	// Channel is the channel to join.
	Channel string
	// Name is the display name; it is the user of the messages this client publishes.
	Name string
	// Since starts after this offset; nil starts with the next new message.
	Since *proto.Offset
	// Epoch is the epoch that Since belongs to; empty means that only the number counts.
	Epoch proto.Epoch
	// Last starts with the last messages, at most proto.MaxHistory; it cannot be combined with Since.
	Last int
	// NoEcho leaves out what this client publishes. Offsets then have holes by design, so that gaps are not
	// detected; after a reconnect messages of the lost connection may come back.
	NoEcho bool
	// Members asks for Join and Leave events.
	Members bool
	// Token gives the token that says who this client is; nil for an anonymous client. It is called before the first connection,
	// before the token expires, and when the server refuses the last one; an ordinary reconnect shows the last one again, so that
	// a node's end is no storm for whoever gives the tokens. It must return when ctx ends: for a
	// new connection that is after Handshake at the latest. An error of it is a failed attempt, and it is asked again; a token that
	// has been refused because it expired, given again, ends Run with the server's close. An empty token is not shown.
	Token func(ctx context.Context) (string, error)
	// Compression offers permessage-deflate. The server decides whether it is used, and for which messages; what the client
	// sends is compressed then.
	Compression bool

	// BackoffMin and BackoffMax bound the pause before an attempt to connect: a random time up to BackoffMin after a
	// connection that worked, twice as much after each failure, up to BackoffMax. 0 means 500 ms and 20 s.
	BackoffMin, BackoffMax time.Duration
	// GiveUpFirst ends Run when there was no connection this long after its start, GiveUpLost when there was none this
	// long after one was lost. 0 means never.
	GiveUpFirst, GiveUpLost time.Duration
	// Silence is how long nothing may arrive, pings included, before the connection counts as dead; it may be taken up
	// to an eighth shorter. 0 means 45 s, which fits servers that ping every 25 s.
	Silence time.Duration
	// Handshake bounds one attempt to connect, from asking for a token until the welcome. 0 means 10 s.
	Handshake time.Duration
	// Window is how many publishes and other commands are under way at once, 1 to 64; further ones wait. 0 means 32.
	Window int

	// Dial replaces net.Dialer.DialContext.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS is used for wss://; nil means the defaults of crypto/tls.
	TLS *tls.Config
	// Logger hears about connections at level debug and about a misbehaving server at level warn; nil means silence.
	Logger *slog.Logger
}

// maxWindow is what a server allows per connection.
const maxWindow = 64

// ErrOptions is wrapped by the errors of New.
var ErrOptions = errors.New("bad client options")

// Client follows one channel. Run must be running for the other methods to get anywhere; they may be called
// from any goroutine except from within the function that Run calls.
type Client struct {
	opt    Options
	log    *slog.Logger
	urls   []*url.URL // without query
	dialer websocket.Dialer
	stats  counters

	// window holds one token per command under way.
	window chan struct{}
	// ended is closed when Run returns; endErr is written before that.
	ended  chan struct{}
	endErr error

	// write is held while frames are written, and locked before mu.
	write sync.Mutex

	// mu guards everything below.
	mu       sync.Mutex
	started  bool
	position tracker
	// conn is the connection that commands are written to; nil before the welcome and after the end of one.
	conn *websocket.Conn
	// limit is the largest message that the server of conn takes, in bytes; 0 when it did not tell.
	limit int
	calls callTable
	token token
	// flushes counts the goroutines that write what was waiting.
	flushes sync.WaitGroup
}

// New checks the options. It does not connect; Run does.
func New(opt Options) (*Client, error) {
	fillDefaults(&opt)
	if err := checkOptions(&opt); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	c := &Client{
		opt:    opt,
		log:    opt.Logger,
		window: make(chan struct{}, opt.Window),
		ended:  make(chan struct{}),
		calls:  callTable{byID: map[string]*Call{}, allowed: opt.Window, most: opt.Window},
	}
	c.position.gaps = !opt.NoEcho
	if opt.Since != nil {
		c.position.known, c.position.at = true, proto.Position{Epoch: opt.Epoch, Offset: *opt.Since}
	}
	for _, text := range opt.URLs {
		u, err := endpoint(text, opt.Channel)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOptions, err)
		}
		c.urls = append(c.urls, u)
	}
	c.dialer = websocket.Dialer{
		NetDialContext:    opt.Dial,
		TLSClientConfig:   opt.TLS,
		ReadBufferSize:    4096,
		WriteBufferSize:   4096,
		WriteBufferPool:   &writeBuffers,
		EnableCompression: opt.Compression,
	}
	return c, nil
}

// writeBuffers is shared by all connections: a connection needs a write buffer only while it writes.
var writeBuffers sync.Pool

func fillDefaults(o *Options) {
	o.BackoffMin = orDefault(o.BackoffMin, 500*time.Millisecond)
	o.BackoffMax = orDefault(o.BackoffMax, max(20*time.Second, o.BackoffMin))
	o.Silence = orDefault(o.Silence, 45*time.Second)
	o.Handshake = orDefault(o.Handshake, 10*time.Second)
	o.Window = orDefault(o.Window, 32)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

func checkOptions(o *Options) error {
	if len(o.URLs) == 0 {
		return errors.New("there is no URL; give at least one, such as ws://127.0.0.1:8000")
	}
	if err := proto.CheckChannel(o.Channel); err != nil {
		return err
	}
	if err := proto.CheckUser(o.Name); err != nil {
		return err
	}
	switch {
	case o.Since != nil && o.Last != 0:
		return errors.New("since and last cannot be combined; give one")
	case o.Since != nil && *o.Since > proto.MaxOffset:
		return fmt.Errorf("since is %d; give at most %d", *o.Since, proto.MaxOffset)
	case o.Last < 0 || o.Last > proto.MaxHistory:
		return fmt.Errorf("last is %d; give 1 to %d", o.Last, proto.MaxHistory)
	case o.Epoch != "" && o.Since == nil:
		return errors.New("an epoch says what since belongs to; give since too")
	case o.Window < 1 || o.Window > maxWindow:
		return fmt.Errorf("window is %d; give 1 to %d", o.Window, maxWindow)
	case o.BackoffMin < 0 || o.BackoffMax < o.BackoffMin || o.Silence < 0 || o.Handshake < 0:
		return errors.New("times must not be negative, and BackoffMax not below BackoffMin")
	}
	return nil
}

// endpoint gives the address of a channel below a base URL.
func endpoint(base, channel string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is not a URL; give something like ws://127.0.0.1:8000", base)
	}
	switch u.Scheme {
	case "ws", "wss":
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("%q does not begin with ws:// or wss://", base)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q must end with its host, port or path", base)
	}
	for _, of := range []string{"/ws", "/raw", "/sse", "/connection/websocket"} {
		if strings.HasSuffix(strings.TrimRight(u.Path, "/"), of) {
			return nil, fmt.Errorf("%q ends with %s; give the address without it, the channel is named apart", base, of)
		}
	}
	name := url.PathEscape(channel)
	if channel == "." || channel == ".." {
		// As they stand they would mean another path.
		name = strings.ReplaceAll(channel, ".", "%2E")
	}
	root := strings.TrimRight(u.EscapedPath(), "/") + "/ws/"
	u.RawPath = root + name
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return nil, fmt.Errorf("%q is not a URL: %w", base, err)
	}
	return u, nil
}

// address gives the URL for the next attempt to connect, with the position in its query.
func (c *Client) address(attempt int) string {
	u := *c.urls[attempt%len(c.urls)]
	q := url.Values{}
	c.mu.Lock()
	known, at := c.position.known, c.position.at
	c.mu.Unlock()
	switch {
	case known:
		q.Set("since", strconv.FormatUint(uint64(at.Offset), 10))
		if at.Epoch != "" {
			q.Set("epoch", string(at.Epoch))
		}
	case c.opt.Last > 0:
		q.Set("last", strconv.Itoa(c.opt.Last))
	}
	if c.opt.Name != "" {
		q.Set("name", c.opt.Name)
	}
	if c.opt.NoEcho {
		q.Set("echo", "0")
	}
	if c.opt.Members {
		q.Set("members", "1")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Position tells up to where messages were handed over. It is false before the first welcome, or message when the
// client started with Last.
func (c *Client) Position() (proto.Position, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.position.at, c.position.known
}
