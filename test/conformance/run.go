package conformance

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// patience is how long a case may take.
const patience = 30 * time.Second

// ErrNotNegotiated is the outcome of a case that needs an extension which the server does not accept.
var ErrNotNegotiated = errors.New("the server does not negotiate the extension")

// Case is one exchange of frames on a connection of its own.
type Case struct {
	// Name begins with a number; those of the Autobahn suite mean what they mean there.
	Name string
	// Message is the size of the largest message, in bytes, if the server must allow more than 64 KiB for it.
	Message int
	// Offer is the Sec-WebSocket-Extensions of the request; empty for none.
	Offer string
	// chop is how many bytes are written at a time; 0 means as many as there are.
	chop int
	// code is that of the close frame with which the server must end the connection, after the replies. 0 means that
	// the client ends it, with 1000, when all replies are there.
	code uint16
	// exchange tells what is sent and which replies must come, in order.
	exchange func() (sent []byte, replies []message)
}

// Target is the server under test.
type Target struct {
	// Addr is host:port; Path is where it echoes.
	Addr, Path string
}

// ParseTarget reads a URL such as ws://localhost:8000/echo.
func ParseTarget(text string) (Target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Target{}, err
	}
	if u.Scheme != "ws" || u.Host == "" {
		return Target{}, fmt.Errorf("%q is not the address of an echo, such as ws://localhost:8000/echo", text)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "80")
	}
	return Target{Addr: u.Host, Path: u.RequestURI()}, nil
}

// Run runs a case. The error is a sentence about what the server did wrong, or ErrNotNegotiated.
func (c *Case) Run(ctx context.Context, target Target) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := target.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := &reader{Reader: bufio.NewReader(conn)}
	if err := c.open(conn, r, target); err != nil {
		return err
	}
	sent, replies := c.exchange()
	wrote := make(chan struct{})
	go func() { // while replies are read: a server need not read what it cannot answer
		defer close(wrote)
		writeChopped(conn, sent, c.chop)
	}()
	err = c.judge(conn, r, replies, wrote)
	conn.Close()
	<-wrote
	return err
}

func (t Target) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	return conn, conn.SetDeadline(deadline)
}

// writeChopped writes size bytes at a time. What becomes of it is seen by who reads.
func writeChopped(w io.Writer, b []byte, size int) {
	if size == 0 {
		size = len(b)
	}
	for len(b) > 0 {
		n, err := w.Write(b[:min(size, len(b))])
		if err != nil {
			return
		}
		b = b[n:]
	}
}

// open does the handshake.
func (c *Case) open(conn net.Conn, r *reader, target Target) error {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	secret := base64.StdEncoding.EncodeToString(nonce[:])
	request := "GET " + target.Path + " HTTP/1.1\r\nHost: " + target.Addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + secret + "\r\n"
	if c.Offer != "" {
		request += "Sec-WebSocket-Extensions: " + c.Offer + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return fmt.Errorf("the request cannot be sent: %w", err)
	}
	resp, err := http.ReadResponse(r.Reader, nil)
	if err != nil {
		return fmt.Errorf("the handshake has no answer: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != accept(secret) {
		return fmt.Errorf("the handshake is answered with %s, accepting %q", resp.Status, resp.Header.Get("Sec-WebSocket-Accept"))
	}
	extensions := resp.Header.Values("Sec-WebSocket-Extensions")
	switch {
	case c.Offer == "" && len(extensions) > 0:
		return fmt.Errorf("the server accepts extensions that were not offered: %q", extensions)
	case c.Offer != "" && len(extensions) == 0:
		return ErrNotNegotiated
	case c.Offer != "":
		r.inflate, err = newInflater(extensions)
	}
	return err
}

// accept is the Sec-WebSocket-Accept for a key. RFC 6455, section 4.2.2.
func accept(secret string) string {
	sum := sha1.Sum([]byte(secret + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// judge compares what comes with what must come. wrote is closed when all was sent.
func (c *Case) judge(conn net.Conn, r *reader, replies []message, wrote <-chan struct{}) error {
	for i, want := range replies {
		got, err := r.reply()
		if err != nil {
			return fmt.Errorf("reply %d of %d, %v, does not come: %w", i+1, len(replies), want, err)
		}
		if got != want {
			return fmt.Errorf("reply %d of %d must be %v, not %v", i+1, len(replies), want, got)
		}
	}
	code := c.code
	if code == 0 {
		<-wrote
		code = 1000
		writeChopped(conn, join(frame{op: opClose, payload: closing(code, "")}), 0)
	}
	got, err := r.reply()
	switch {
	case err != nil:
		return fmt.Errorf("the connection must end with a close frame and the code %d: %w", code, err)
	case got.op != opClose:
		return fmt.Errorf("a close frame with the code %d must come, not %v", code, got)
	case got.code() != code:
		return fmt.Errorf("the code of the close frame must be %d, not %d (%q)", code, got.code(), got.data)
	}
	if c.code != 0 { // the closing handshake is completed: section 7.1.2
		writeChopped(conn, join(frame{op: opClose, payload: got.data[:min(2, len(got.data))]}), 0)
	}
	if got, err := r.next(); !errors.Is(err, io.EOF) || errors.Is(err, errTorn) {
		return fmt.Errorf("after its close frame the server must end the connection, and send nothing: %v, %w", got, err)
	}
	return nil
}

// reply is next without the pings of the server.
func (r *reader) reply() (message, error) {
	for {
		m, err := r.next()
		if err != nil || m.op != opPing {
			return m, err
		}
	}
}
