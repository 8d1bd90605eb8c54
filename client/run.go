package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"barrage/proto"
)

// Errors of Run, tested with errors.Is.
var (
	// ErrUnreachable: there was no connection for as long as GiveUpFirst or GiveUpLost allow.
	ErrUnreachable = errors.New("no connection")
	// ErrEnded: Run has returned, so that no answer can come any more.
	ErrEnded = errors.New("the client has ended")
	// ErrStarted: Run was called twice.
	ErrStarted = errors.New("the client is running already")
)

const (
	// writeWait is how long the server may take no bytes.
	writeWait = 10 * time.Second
	// maxFrame bounds what the server may send in one frame, in bytes: many of the largest messages.
	maxFrame = 64 << 20
)

// Run connects and calls handle for every event, one after the other, until ctx ends or coming back is pointless. handle
// may be nil; once it has ended ctx it is not called again. It must not call methods that wait for answers of the server, because nothing is read meanwhile.
//
// It returns the cause of ctx's end, a proto.Close or *RefusedError of the server that forbids coming back, or an error
// that matches ErrUnreachable.
func (c *Client) Run(ctx context.Context, handle func(Event)) error {
	c.mu.Lock()
	again := c.started
	c.started = true
	c.mu.Unlock()
	if again {
		return ErrStarted
	}
	if handle == nil {
		handle = func(Event) {}
	}
	err := c.loop(ctx, handle)
	c.endErr = err
	close(c.ended)
	c.mu.Lock()
	c.calls.stop()
	c.mu.Unlock()
	c.flushes.Wait()
	return err
}

func (c *Client) loop(ctx context.Context, handle func(Event)) error {
	pause := backoff{least: c.opt.BackoffMin, most: c.opt.BackoffMax}
	turn := turns{until: make([]time.Time, len(c.urls))}
	lost, patience := time.Now(), c.opt.GiveUpFirst
	for attempt := 0; ; {
		joined, err := c.session(ctx, attempt, patience, lost, handle)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		renewed, ended := c.refused(err, !joined.IsZero()), c.tooLarge(err)
		if terminal(err) && !renewed && !ended {
			return err
		}
		if !joined.IsZero() {
			lost, patience = time.Now(), c.opt.GiveUpLost
			if time.Since(joined) >= lasted {
				pause.failures = 0
			}
		}
		node, least, last := c.urls[attempt%len(c.urls)].Redacted(), pause.next(err), false
		var wait time.Duration
		attempt, wait = turn.after(attempt, err, least)
		if patience > 0 {
			left := patience - time.Since(lost)
			if left <= 0 {
				return unreachable(patience, err)
			}
			wait, last = min(wait, left), wait > max(least, left)
		}
		c.log.Debug("disconnected", "url", node, "error", err, "retry", wait)
		handle(Event{Disconnected: &Disconnected{URL: node, Err: err, Retry: wait}})
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
		if last {
			return unreachable(patience, err)
		}
	}
}

func unreachable(patience time.Duration, err error) error {
	return fmt.Errorf("%w within %s: %w", ErrUnreachable, patience, err)
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// session is one connection from dialing to its end. joined is when the welcome came; zero when it did not.
func (c *Client) session(ctx context.Context, attempt int, patience time.Duration, since time.Time,
	handle func(Event),
) (joined time.Time, err error) {
	limit := c.opt.Handshake
	if patience > 0 {
		limit = min(limit, max(patience-time.Since(since), time.Second))
	}
	deadline := time.Now().Add(limit) // until the welcome
	conn, err := c.dial(ctx, c.address(attempt), deadline)
	if err != nil {
		return time.Time{}, err
	}
	stop := context.AfterFunc(ctx, func() {
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
		_ = conn.Close()
	})
	living, end := context.WithCancel(ctx)
	s := session{Client: c, conn: conn, handle: handle, ctx: living}
	_ = conn.SetReadDeadline(deadline)
	err = s.read()
	stop()
	end()
	s.renewing.Wait()
	c.mu.Lock()
	c.conn = nil
	c.mu.Unlock()
	_ = conn.Close()
	return s.joined, err
}

// dial shows the token, for which it may have to ask, and opens a connection.
func (c *Client) dial(ctx context.Context, address string, deadline time.Time) (*websocket.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	header, err := c.authorization(ctx)
	if err != nil {
		return nil, err
	}
	conn, resp, err := c.dialer.DialContext(ctx, address, header)
	if errors.Is(err, websocket.ErrBadHandshake) && resp != nil {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return conn, err
}

func refusal(resp *http.Response) *RefusedError {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // gorilla/websocket keeps at most 1 KiB of it
	r := &RefusedError{Status: resp.StatusCode, Text: strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "")), " ")}
	// A date, the other form, would be judged by a clock that need not be right.
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
		r.RetryAfter = time.Duration(seconds) * time.Second
	}
	return r
}

// session is the reading side of one connection; it belongs to the goroutine of Run.
type session struct {
	*Client
	conn   *websocket.Conn
	handle func(Event)
	joined time.Time
	// ctx ends with the connection; renewing counts the goroutine that keeps its token fresh.
	ctx      context.Context
	renewing sync.WaitGroup
	// postponed is when the read deadline was last moved.
	postponed time.Time
}

// frames holds buffers for frames, so that an idle connection has none.
var frames = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled is the largest buffer that is kept for later frames, in bytes.
const maxPooled = 256 << 10

// read hands over everything until the connection ends, and says why it did.
func (s *session) read() error {
	s.conn.SetReadLimit(maxFrame)
	s.conn.SetPingHandler(func(payload string) error {
		s.alive()
		err := s.conn.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(writeWait))
		var timeout interface{ Timeout() bool }
		if errors.Is(err, websocket.ErrCloseSent) || errors.As(err, &timeout) && timeout.Timeout() {
			return nil // the reading side will find out by itself
		}
		return err
	})
	for {
		_, r, err := s.conn.NextReader()
		if err != nil {
			return s.reason(err)
		}
		buf := frames.Get().(*bytes.Buffer)
		buf.Reset()
		_, err = buf.ReadFrom(r)
		if err == nil {
			s.alive()
			for line := range proto.SplitLines(buf.Bytes()) {
				if s.ctx.Err() != nil {
					break // Run's caller is done; the position stays at what was handed over
				}
				s.line(line)
			}
		}
		if buf.Cap() <= maxPooled {
			frames.Put(buf)
		}
		if err != nil {
			return s.reason(err)
		}
	}
}

// alive postpones the moment at which the connection counts as dead. Before the welcome the handshake's limit holds.
// In a busy channel the deadline is not moved for every frame, because that costs more than reading a short one.
func (s *session) alive() {
	now := time.Now()
	if !s.joined.IsZero() && now.Sub(s.postponed) >= s.opt.Silence/8 {
		s.postponed = now
		_ = s.conn.SetReadDeadline(now.Add(s.opt.Silence))
	}
}

// reason says in the project's words why a connection ended.
func (s *session) reason(err error) error {
	var closed *websocket.CloseError
	if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
		return proto.Close{Code: uint16(closed.Code), Reason: closed.Text}
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		if s.joined.IsZero() {
			return errors.New("the server did not answer the handshake in time")
		}
		return fmt.Errorf("nothing arrived for %s", s.opt.Silence)
	}
	return fmt.Errorf("the connection was lost: %w", err)
}

func (s *session) line(line []byte) {
	reply, err := proto.ParseReply(line)
	switch {
	case err != nil:
		s.unknown("a line cannot be read", err)
	case reply.Message != nil:
		s.message(reply.Message)
	case reply.Welcome != nil:
		s.welcome(reply.Welcome)
	case reply.Reset != nil:
		s.reset(reply.Reset)
	case reply.Skipped != nil:
		s.stats.skipped.Add(int64(min(reply.Skipped.Count, math.MaxInt64)))
		s.handle(Event{Skipped: reply.Skipped})
	case reply.Ack != nil:
		s.acknowledged(reply.Ack)
	case reply.History != nil:
		s.answer(reply.History.ID, answer{history: reply.History})
	case reply.Info != nil:
		s.answer(reply.Info.ID, answer{info: reply.Info})
	case reply.Presence != nil:
		s.answer(reply.Presence.ID, answer{presence: reply.Presence})
	case reply.Refreshed != nil:
		s.answer(reply.Refreshed.ID, answer{refreshed: reply.Refreshed})
	case reply.Join != nil:
		s.handle(Event{Join: reply.Join})
	case reply.Leave != nil:
		s.handle(Event{Leave: reply.Leave})
	case reply.Error != nil:
		s.failed(reply.Error)
	}
}

func (s *session) unknown(what string, err error) {
	s.stats.unknown.Add(1)
	s.log.Warn("the server sent something unexpected", "what", what, "error", err)
}

func (s *session) message(m *proto.Message) {
	s.mu.Lock()
	deliver, missing := s.position.message(m.Offset)
	s.mu.Unlock()
	if !deliver {
		s.stats.repeats.Add(1)
		return
	}
	if missing > 0 {
		s.stats.missing.Add(int64(missing))
		s.log.Warn("messages are missing", "from", m.Offset-missing, "to", m.Offset-1)
		s.handle(Event{Gap: &Gap{From: m.Offset - missing, To: m.Offset - 1}})
		if s.ctx.Err() != nil {
			s.mu.Lock()
			s.position.at.Offset = m.Offset - 1 // the message was not handed over
			s.mu.Unlock()
			return
		}
	}
	s.stats.messages.Add(1)
	s.handle(Event{Message: m})
}

func (s *session) welcome(w *proto.Welcome) {
	s.joined = time.Now()
	s.alive()
	s.stats.connects.Add(1)
	s.mu.Lock()
	lost := s.position.welcome(w, s.opt.Last > 0)
	s.attach(s.conn, w.MaxPayload)
	s.mu.Unlock()
	s.keepToken(w.Expires)
	if lost {
		s.stats.resets.Add(1)
		s.handle(Event{Reset: &proto.Reset{Epoch: w.Epoch, Offset: w.Offset, Reason: "the epoch changed"}})
	}
	if s.ctx.Err() != nil {
		return
	}
	s.log.Debug("joined", "node", w.Node, "client", w.Client, "epoch", w.Epoch, "offset", w.Offset)
	s.handle(Event{Welcome: w})
}

func (s *session) reset(r *proto.Reset) {
	s.stats.resets.Add(1)
	s.mu.Lock()
	s.position.reset(r)
	s.mu.Unlock()
	s.handle(Event{Reset: r})
}
