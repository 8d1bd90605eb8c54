package serverapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"barrage/httpapi/apikey"
	"barrage/proto"
)

// Bounds of one request.
const (
	// MaxCommands is the most commands of a batch, or of a request with a command on each line.
	MaxCommands = 1000
	// MaxPublishes is the most messages that the commands of a request publish together; one for each channel of a broadcast.
	MaxPublishes = 10_000
	// maxAnswer bounds what the answers to all commands of a request hold, in bytes before they are written as JSON.
	maxAnswer = 32 << 20
	// maxParallel is how many commands of one batch are under way at a time, publishes not counted.
	maxParallel = 32
)

var (
	errAnswer    = proto.ErrLimit.With("the answers to this request are larger than %d MiB together; ask for less at a time", maxAnswer>>20)
	errPublishes = proto.ErrLimit.With("this request publishes more than %d messages together; send the rest in another one", MaxPublishes)
	errEnded     = proto.ErrUnavailable.With("the request ended before the command could begin")
	errScope     = proto.ErrDenied.With("the API key is not allowed to do this: its scope is too small")
)

// call is one HTTP request under way.
type call struct {
	ctx    context.Context
	key    apikey.Key
	answer atomic.Int64 // bytes of answers so far
	// publishes are the messages so far. Owner: the request's goroutine, which begins all commands.
	publishes int
}

// spend takes n bytes of what answers may hold, or reports false.
func (c *call) spend(n int) bool { return c.answer.Add(int64(n)) <= maxAnswer }

// queue takes places for n messages and their outcomes; nil says that there are so many.
func (c *call) queue(n int) *proto.Error {
	if c.publishes+n > MaxPublishes {
		return errPublishes
	}
	if !c.spend(n * memberBytes) {
		return errAnswer
	}
	c.publishes += n
	return nil
}

// reply is the outcome of a command.
type reply struct {
	Result any    `json:"result,omitempty"`
	Error  *Error `json:"error,omitempty"`
}

// told is an error as clients of the API see it.
func told(err *proto.Error) *Error {
	if err == nil {
		return nil
	}
	return &Error{Code: err.Code, Message: err.Message}
}

// pending is a command that was begun.
type pending chan reply

// wait returns the outcome. A command that is not done when the request ends goes on, but nobody hears of it.
func (p pending) wait(ctx context.Context) reply {
	select {
	case r := <-p:
		return r
	case <-ctx.Done():
	}
	select {
	case r := <-p:
		return r
	default:
		return reply{Error: told(proto.ErrUnavailable.With("there was no answer in time; whether the command was carried out is not known"))}
	}
}

// failed is a command that could not begin.
func failed(err *proto.Error) pending {
	p := make(pending, 1)
	p <- reply{Error: told(err)}
	return p
}

// begin starts a command and counts it. ended, unless nil, is called when it is done.
func (a *API) begin(c *call, m *method, params []byte, ended func()) pending {
	p := make(pending, 1)
	count := a.stats.of[m.name]
	started := time.Now()
	m.start(a, c, params, func(result any, err *proto.Error) {
		count.observe(time.Since(started), err == nil)
		if err != nil {
			p <- reply{Error: told(err)}
		} else {
			p <- reply{Result: result}
		}
		if ended != nil {
			ended()
		}
	})
	return p
}

// command is one of many in a request.
type command struct {
	name   string
	params []byte
	wrong  *proto.Error // instead of the others: why there is none
}

// all carries out commands and returns their outcomes in order. Publishes that follow each other are queued together, in order, so
// that they are stored by few commits. Every other command waits until all before it are done, and is waited for; with parallel
// it is not, and at most maxParallel of them are under way at a time.
func (a *API) all(c *call, commands []command, parallel bool) []reply {
	replies := make([]reply, len(commands))
	under := make([]pending, len(commands))
	slots := make(chan struct{}, maxParallel)
	settled := 0 // the outcomes before it are in replies
	settle := func(end int) {
		for ; settled < end; settled++ {
			replies[settled] = under[settled].wait(c.ctx)
		}
	}
	for i, cmd := range commands {
		m, bad := a.allowed(c, cmd)
		switch {
		case bad != nil:
			under[i] = failed(bad)
		case c.ctx.Err() != nil:
			under[i] = failed(errEnded)
		case m.queues:
			under[i] = a.begin(c, m, cmd.params, nil)
		case parallel:
			select {
			case slots <- struct{}{}:
				under[i] = a.begin(c, m, cmd.params, func() { <-slots })
			case <-c.ctx.Done():
				under[i] = failed(errEnded)
			}
		default:
			settle(i)
			under[i] = a.begin(c, m, cmd.params, nil)
			settle(i + 1)
		}
	}
	settle(len(commands))
	return replies
}

// allowed finds the method of a command that is one of many.
func (a *API) allowed(c *call, cmd command) (*method, *proto.Error) {
	if cmd.wrong != nil {
		return nil, cmd.wrong
	}
	m := byName[cmd.name]
	switch {
	case m == nil:
		return nil, unknownMethod(cmd.name)
	case m.name == batchMethod:
		return nil, proto.ErrBadRequest.With("a batch cannot hold another one")
	case c.key.Scope&m.scope == 0:
		return nil, errScope
	}
	return m, nil
}

// batch works in the request's own goroutine, and is done when it returns.
func (a *API) batch(c *call, q *BatchRequest, done func(*BatchResult, *proto.Error)) {
	if n := len(q.Commands); n == 0 || n > MaxCommands {
		done(nil, proto.ErrLimit.With("there are %d commands; give 1 to %d", n, MaxCommands))
		return
	}
	commands := make([]command, len(q.Commands))
	for i, one := range q.Commands {
		if len(one) != 1 {
			commands[i].wrong = proto.ErrBadRequest.With("a command is an object with one key, the name of a method; this one has %d", len(one))
			continue
		}
		for name, params := range one {
			commands[i] = command{name: name, params: params}
		}
	}
	result := &BatchResult{Replies: make([]map[string]any, len(commands))}
	for i, r := range a.all(c, commands, q.Parallel) {
		if r.Error != nil {
			result.Replies[i] = map[string]any{"error": r.Error}
		} else {
			result.Replies[i] = map[string]any{commands[i].name: r.Result}
		}
	}
	done(result, nil)
}

// lines reads commands of the form {"method":…,"params":{…}}, one after the other with white space between them.
func lines(body []byte) ([]command, *proto.Error) {
	var list []command
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		var one struct {
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
		}
		err := d.Decode(&one)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed(err)
		}
		if len(list) == MaxCommands {
			return nil, proto.ErrLimit.With("there are more than %d commands; send them in several requests", MaxCommands)
		}
		list = append(list, command{name: one.Method, params: one.Params})
	}
	if len(list) == 0 {
		return nil, proto.ErrBadRequest.With(`there is no command; send lines of the form {"method":"publish","params":{…}}`)
	}
	return list, nil
}
