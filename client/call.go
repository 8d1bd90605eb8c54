package client

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"barrage/proto"
)

// ErrBusy: a command with the same id is under way.
var ErrBusy = errors.New("a command with this id is under way")

// Call is one command under way. Wait for it, or end the context it was started with.
type Call struct {
	client *Client
	ctx    context.Context
	// order is the place among all commands of the client; resending keeps it.
	order uint64
	id    string
	// line is the command as it is written.
	line []byte
	// sends counts how often it was written, flying says that it was on this connection and has no answer yet; guarded by
	// the client's mutex.
	sends  int
	flying bool
	// done takes the one answer.
	done chan answer
}

// answer is what a command came to; one field is set.
type answer struct {
	ack       *proto.Ack
	history   *proto.History
	info      *proto.Info
	presence  *proto.Presence
	refreshed *proto.Refreshed
	err       error
}

// callTable holds the commands under way; the client's mutex guards it. The window bounds its size.
type callTable struct {
	next uint64
	byID map[string]*Call
	// unsent holds those to be written next, in order; held those that wait for retry.
	unsent, held []*Call
	// retry ends the pause after a temporary error, at until; nil when there is none. While it runs nothing is written, so
	// that what was refused keeps its place before what comes later.
	retry    *time.Timer
	until    time.Time
	failures int
	// told is the end of the longest pause that a server asked for.
	told time.Time
	// flying counts commands written on this connection that have no answer; at most allowed are. After a refusal that is one,
	// and grows by one with every answer up to most: a server that limits must not be asked for everything again at once.
	flying, allowed, most int
	// abandoned is the size of the largest command that was written on this connection and given up before its answer.
	abandoned int
}

func inOrder(a, b *Call) int {
	if a.order < b.order {
		return -1
	}
	return 1 // never equal
}

// requeue makes every command wait to be written again, on a new connection.
func (t *callTable) requeue() {
	t.stop()
	t.held, t.unsent = nil, t.unsent[:0]
	t.flying, t.allowed, t.abandoned = 0, t.most, 0
	for _, call := range t.byID {
		call.flying = false
		t.unsent = append(t.unsent, call)
	}
	slices.SortFunc(t.unsent, inOrder)
}

// release lets the held commands be written again.
func (t *callTable) release() {
	t.retry = nil
	t.unsent = append(t.unsent, t.held...)
	t.held = nil
	slices.SortFunc(t.unsent, inOrder)
}

func (t *callTable) stop() {
	if t.retry != nil {
		t.retry.Stop()
		t.retry = nil
	}
}

// land notes that a command was answered, or is not waited for any more.
func (t *callTable) land(call *Call) {
	if call.flying {
		call.flying = false
		t.flying--
	}
}

// remove forgets a command; it is false when it was not under way any more.
func (t *callTable) remove(call *Call) bool {
	if t.byID[call.id] != call {
		return false
	}
	delete(t.byID, call.id)
	t.land(call)
	same := func(other *Call) bool { return other == call }
	t.unsent, t.held = slices.DeleteFunc(t.unsent, same), slices.DeleteFunc(t.held, same)
	return true
}

// Publish stores data, one JSON value, in the channel and returns its offset, which is 0 in a live channel, where nothing is
// stored. id is the idempotency key; empty means a random one. It blocks until the message is stored, the server refuses it for
// good (a *proto.Error), it turns out to be too large (a *TooLargeError), Run has ended (an error that matches ErrEnded), or ctx
// ends; in the last two cases the message may have been stored. After a lost connection it is sent again; a live
// channel, which knows no keys, may then deliver it twice.
func (c *Client) Publish(ctx context.Context, data json.RawMessage, id string) (proto.Offset, error) {
	call, err := c.Start(ctx, data, id)
	if err != nil {
		return 0, err
	}
	return call.Wait()
}

// Start begins a publish and returns once it has its place in the window: publishes that are started one after the
// other are stored in that order, unless the server refuses one of them for a time. Wait must be called on the Call.
func (c *Client) Start(ctx context.Context, data json.RawMessage, id string) (*Call, error) {
	if err := proto.CheckKey(id); err != nil {
		return nil, err
	}
	compact, err := compactJSON(data)
	if err != nil {
		return nil, err
	}
	return c.start(ctx, proto.Command{Kind: proto.CommandPublish, ID: id, Data: compact})
}

func compactJSON(data json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return nil, fmt.Errorf("publish: the data is not one JSON value: %w", err)
	}
	return b.Bytes(), nil
}

// Wait blocks until the publish has come to an end; see Publish.
func (call *Call) Wait() (proto.Offset, error) {
	a := call.wait()
	if a.err != nil {
		return 0, fmt.Errorf("publish: %w", a.err)
	}
	if a.ack == nil {
		return 0, errors.New("publish: the server gave another command's answer")
	}
	return a.ack.Offset, nil
}

// Page asks for messages after Since or before Before; without both for the last ones. Limit is 1 to
// proto.MaxHistory; 0 means proto.DefaultHistory.
type Page struct {
	Since, Before *proto.Offset
	Limit         int
}

// History fetches one page of the channel's past. It does not move the position. It blocks like Publish.
func (c *Client) History(ctx context.Context, p Page) (*proto.History, error) {
	call, err := c.start(ctx, proto.Command{Kind: proto.CommandHistory, Since: p.Since, Before: p.Before, Limit: p.Limit})
	if err != nil {
		return nil, err
	}
	a := call.wait()
	if a.err == nil && a.history == nil {
		a.err = errors.New("the server gave another command's answer")
	}
	if a.err != nil {
		return nil, fmt.Errorf("history: %w", a.err)
	}
	return a.history, nil
}

// Pages walks through history, page after page: on from p.Since, or back from p.Before or from the end. A page that cannot be
// fetched ends it with its error. It blocks like Publish.
func (c *Client) Pages(ctx context.Context, p Page) iter.Seq2[*proto.History, error] {
	return func(yield func(*proto.History, error) bool) {
		for {
			h, err := c.History(ctx, p)
			if !yield(h, err) || err != nil || !h.More || len(h.Messages) == 0 {
				return
			}
			if p.Since != nil {
				p.Since = &h.Messages[len(h.Messages)-1].Offset
			} else {
				p.Before = &h.Messages[0].Offset
			}
		}
	}
}

// Presence lists who is in the channel, on all nodes. It blocks like Publish.
func (c *Client) Presence(ctx context.Context) (*proto.Roster, error) {
	call, err := c.start(ctx, proto.Command{Kind: proto.CommandPresence})
	if err != nil {
		return nil, err
	}
	a := call.wait()
	if a.err == nil && a.presence == nil {
		a.err = errors.New("the server gave another command's answer")
	}
	if a.err != nil {
		return nil, fmt.Errorf("presence: %w", a.err)
	}
	return &a.presence.Roster, nil
}

// Info asks how large the channel's audience is. It blocks like Publish.
func (c *Client) Info(ctx context.Context) (*proto.Info, error) {
	call, err := c.start(ctx, proto.Command{Kind: proto.CommandInfo})
	if err != nil {
		return nil, err
	}
	a := call.wait()
	if a.err == nil && a.info == nil {
		a.err = errors.New("the server gave another command's answer")
	}
	if a.err != nil {
		return nil, fmt.Errorf("info: %w", a.err)
	}
	return a.info, nil
}

func (c *Client) start(ctx context.Context, cmd proto.Command) (*Call, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // nothing is sent, although there may be room
	}
	if cmd.ID == "" {
		cmd.ID = crand.Text()
	}
	line := proto.AppendCommand(make([]byte, 0, len(cmd.Data)+64), cmd)
	call := &Call{client: c, ctx: ctx, id: cmd.ID, line: line, done: make(chan answer, 1)}
	c.mu.Lock()
	err := c.fits(call) // not only once there is room for it
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case c.window <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.ended:
		return nil, c.endError()
	}
	c.mu.Lock()
	if c.calls.byID[call.id] != nil {
		c.mu.Unlock()
		<-c.window
		return nil, fmt.Errorf("%w: %s", ErrBusy, call.id)
	}
	c.calls.next++
	call.order = c.calls.next
	c.calls.byID[call.id] = call
	c.calls.unsent = append(c.calls.unsent, call)
	c.mu.Unlock()
	c.flush()
	return call, nil
}

func (c *Client) endError() error {
	return fmt.Errorf("%w: %w", ErrEnded, c.endErr)
}

func (call *Call) wait() answer {
	select {
	case a := <-call.done:
		return a
	case <-call.ctx.Done():
		return call.abandon(context.Cause(call.ctx))
	case <-call.client.ended:
		return call.abandon(call.client.endError())
	}
}

// abandon gives the window's place back, unless the answer came at the same moment.
func (call *Call) abandon(err error) answer {
	c := call.client
	c.mu.Lock()
	if call.flying {
		c.calls.abandoned = max(c.calls.abandoned, len(call.line))
	}
	mine := c.calls.remove(call)
	c.mu.Unlock()
	if !mine {
		return <-call.done
	}
	<-c.window
	return answer{err: err}
}

// attach makes conn the one that commands are written to, all of them again. The caller holds mu.
func (c *Client) attach(conn *websocket.Conn, limit int) {
	c.conn, c.limit = conn, limit
	c.calls.requeue()
	if left := time.Until(c.calls.told); left > 0 { // what limits may limit the user, on all connections
		c.calls.allowed = 1
		c.hold(left)
	}
	c.flushLater()
}

// flushLater writes what waits from a goroutine of its own, because the reading one must not block in a write while
// the server waits to be read. The caller holds mu.
func (c *Client) flushLater() {
	if len(c.calls.unsent) > 0 {
		c.flushes.Go(c.flush)
	}
}

// flush writes what waits, in order. It may block for as long as writeWait.
func (c *Client) flush() {
	c.write.Lock()
	defer c.write.Unlock()
	for {
		conn, call := c.take()
		if call == nil {
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(writeWait))
		if err := conn.WriteMessage(websocket.TextMessage, call.line); err != nil {
			c.log.Debug("a write failed", "error", err)
			_ = conn.Close() // the reading side notices; the command goes out again on the next connection
			return
		}
	}
}

// take gives the next command to write, or nil.
func (c *Client) take() (*websocket.Conn, *Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.calls
	for c.conn != nil && len(t.unsent) > 0 { // what waited for a connection is judged by its limit
		err := c.fits(t.unsent[0])
		if err == nil {
			break
		}
		c.finish(t.unsent[0], answer{err: err})
	}
	if c.conn == nil || t.retry != nil || len(t.unsent) == 0 || t.flying >= t.allowed {
		return nil, nil
	}
	call := t.unsent[0]
	t.unsent = t.unsent[1:]
	call.flying = true
	t.flying++
	if call.sends > 0 {
		c.stats.resent.Add(1)
	}
	call.sends++
	return c.conn, call
}

// answer ends the command with this id.
func (s *session) answer(id string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := s.calls.byID[id]
	if call == nil {
		return // abandoned, or answered on an earlier connection
	}
	s.finish(call, a)
	if a.err == nil {
		s.calls.failures = 0
		s.calls.allowed = min(s.calls.allowed+1, s.calls.most)
	}
	s.flushLater()
}

func (s *session) acknowledged(a *proto.Ack) {
	s.mu.Lock()
	if s.calls.byID[a.ID] != nil {
		s.position.stored(a.Offset)
	}
	s.mu.Unlock()
	s.answer(a.ID, answer{ack: a})
}

func (s *session) failed(f *proto.Failure) {
	if f.ID == "" {
		s.unknown("an error that belongs to no command", f.Err())
		return
	}
	if !f.Retry {
		s.answer(f.ID, answer{err: f.Err()})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	call := s.calls.byID[f.ID]
	if call == nil || slices.Contains(s.calls.held, call) {
		return
	}
	s.log.Debug("a command is refused for a time", "id", f.ID, "error", f.Err())
	s.calls.held = append(s.calls.held, call)
	s.calls.land(call)
	s.calls.allowed = 1
	switch told := time.Duration(f.RetryAfter) * time.Millisecond; {
	case told > 0:
		told += time.Duration(rand.Int64N(int64(told)/4 + 1)) // not all clients at the same moment
		until := time.Now().Add(told)
		if until.After(s.calls.told) {
			s.calls.told = until
		}
		if s.calls.retry == nil || until.After(s.calls.until) {
			s.hold(told)
		}
	case s.calls.retry == nil:
		pause := backoff{least: s.opt.BackoffMin, most: s.opt.BackoffMax, failures: s.calls.failures}
		s.calls.failures++
		// Not at once: the answers to what is under way are still to come, and belong to the same pause.
		s.hold(pause.least + pause.next(nil))
	}
}

// hold stops writing for a time, instead of the time before. The caller holds mu.
func (c *Client) hold(pause time.Duration) {
	c.calls.stop()
	c.calls.until = time.Now().Add(pause)
	var timer *time.Timer
	timer = time.AfterFunc(pause, func() {
		c.mu.Lock()
		if c.calls.retry == timer {
			c.calls.release()
			c.flushLater()
		}
		c.mu.Unlock()
	})
	c.calls.retry = timer
}
