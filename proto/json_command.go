package proto

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"unicode/utf8"
)

// Limits of commands.
const (
	// MaxOffset is the largest offset that a client may name: the largest whole number that every JSON reader
	// holds exactly.
	MaxOffset Offset = 1<<53 - 1
	// MaxHistory is the most messages that one page of history or the query parameter last may ask for.
	MaxHistory = 1000
	// DefaultHistory is the number of messages of a page when the client names none.
	DefaultHistory = 100
)

// CommandKind says what a client asks for.
type CommandKind uint8

// The commands of /ws. The zero value is none of them.
const (
	CommandPublish CommandKind = iota + 1
	CommandPing
	CommandHistory
	CommandInfo
	CommandRefresh
	CommandPresence
)

const knownCommands = "publish, ping, history, info, presence and refresh"

// MaxTokenBytes is the longest token that is looked at, in bytes.
const MaxTokenBytes = 8 << 10

// String is the key of the command on the wire.
func (k CommandKind) String() string {
	switch k {
	case CommandPublish:
		return "publish"
	case CommandPing:
		return "ping"
	case CommandHistory:
		return "history"
	case CommandInfo:
		return "info"
	case CommandRefresh:
		return "refresh"
	case CommandPresence:
		return "presence"
	}
	return "unknown"
}

// keys says which keys a command knows, for people.
func (k CommandKind) keys() string {
	switch k {
	case CommandPublish:
		return "known are data and id"
	case CommandHistory:
		return "known are since, before, limit and id"
	case CommandRefresh:
		return "known are token and id"
	}
	return "only id is known"
}

// Command is one line of a client on /ws.
type Command struct {
	Kind CommandKind
	// ID is what the answer repeats and, for a publish, the idempotency key. Empty means none.
	ID string
	// Data is what to publish: one JSON value, valid UTF-8, compact, nested at most MaxDepth deep. It is a copy
	// that belongs to the caller.
	Data []byte
	// Since and Before bound a page of history; at most one is set. Since is 0 to MaxOffset, Before 1 to MaxOffset.
	// The page before 1 is empty.
	Since, Before *Offset
	// Limit is the size of a page of history, 1 to MaxHistory; DefaultHistory when the client named none, and 0 for
	// other commands.
	Limit int
	// Token is the new token of a refresh, 1 to MaxTokenBytes bytes; empty for other commands. It must not get into logs.
	Token string
}

// SplitLines returns the lines of a frame. Lines that hold only white space are left out. The lines alias payload.
func SplitLines(payload []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(payload) > 0 {
			line, rest, _ := bytes.Cut(payload, []byte{'\n'})
			payload = rest
			if line = bytes.TrimSpace(line); len(line) > 0 && !yield(line) {
				return
			}
		}
	}
}

// ParseCommand reads one line of a client. The error is an *Error that matches ErrBadRequest and says in a sentence
// what is wrong. When there is one, only the ID of the command is of use: it is set when it could be read, for the
// answer. Nothing that is returned aliases line.
func ParseCommand(line []byte) (Command, error) {
	p := commandParser{scanner: scanner{b: line}}
	err := p.line()
	if err == nil {
		err = p.wrong
	}
	if err != nil {
		return Command{ID: p.cmd.ID}, err
	}
	return p.cmd, nil
}

// commandParser reads one command in one pass. An error of the JSON ends the pass; anything else that is wrong is
// remembered and the pass goes on, because the id may still follow.
type commandParser struct {
	scanner
	cmd Command
	// wrong is the first thing that was wrong.
	wrong *Error
	// commands counts the keys of the outer object, seen holds those of the inner one.
	commands int
	seen     commandKeys
}

type commandKeys uint8

const (
	keyID commandKeys = 1 << iota
	keyData
	keySince
	keyBefore
	keyLimit
	keyToken
)

func (p *commandParser) fail(format string, args ...any) {
	if p.wrong == nil {
		p.wrong = ErrBadRequest.With(format, args...)
	}
}

func (p *commandParser) line() *Error {
	p.space()
	if first := p.peek(); first != '{' {
		if err := p.value(); err != nil {
			return err
		}
		p.fail("a line must be a JSON object with one command, not %s", typeName(first))
	} else if err := p.object(p.command); err != nil {
		return err
	} else if p.commands == 0 {
		p.fail("the object is empty; it must hold one command: %s", knownCommands)
	}
	p.space()
	if p.pos < len(p.b) {
		return p.bad("expected the end of the line")
	}
	return nil
}

// command reads one key of the outer object with its value.
func (p *commandParser) command(key []byte) *Error {
	p.commands++
	if p.commands == 2 {
		p.fail("the object has a second key %s; a line holds exactly one command", quoteShort(key))
	}
	if p.commands > 1 {
		return p.value()
	}
	switch string(key) {
	case "publish":
		p.cmd.Kind = CommandPublish
	case "ping":
		p.cmd.Kind = CommandPing
	case "history":
		p.cmd.Kind = CommandHistory
		p.cmd.Limit = DefaultHistory
	case "info":
		p.cmd.Kind = CommandInfo
	case "refresh":
		p.cmd.Kind = CommandRefresh
	case "presence":
		p.cmd.Kind = CommandPresence
	default:
		p.fail("unknown command %s; known are %s", quoteShort(key), knownCommands)
	}
	if first := p.peek(); first != '{' {
		if err := p.value(); err != nil {
			return err
		}
		p.fail("%s must hold an object, not %s", p.cmd.Kind, typeName(first))
		return nil
	}
	if err := p.object(p.field); err != nil {
		return err
	}
	if p.cmd.Kind == CommandPublish && p.seen&keyData == 0 {
		p.fail("publish has no data; give it any JSON value as data")
	}
	if p.cmd.Kind == CommandRefresh && p.seen&keyToken == 0 {
		p.fail("refresh has no token; give it the new one as token")
	}
	return nil
}

// field reads one key of the inner object with its value.
func (p *commandParser) field(key []byte) *Error {
	switch kind := p.cmd.Kind; {
	case string(key) == "id":
		return p.id()
	case kind == CommandPublish && string(key) == "data":
		return p.data()
	case kind == CommandHistory && string(key) == "since":
		p.once(keySince, "since")
		if p.seen&keyBefore != 0 {
			p.fail("history has both since and before; give one of them")
		}
		return p.offset("since", 0, &p.cmd.Since)
	case kind == CommandHistory && string(key) == "before":
		p.once(keyBefore, "before")
		if p.seen&keySince != 0 {
			p.fail("history has both since and before; give one of them")
		}
		return p.offset("before", 1, &p.cmd.Before)
	case kind == CommandHistory && string(key) == "limit":
		p.once(keyLimit, "limit")
		n, err := p.whole("limit", 1, MaxHistory)
		p.cmd.Limit = int(n)
		return err
	case kind == CommandRefresh && string(key) == "token":
		return p.token()
	default:
		p.fail("unknown key %s in %s; %s", quoteShort(key), kind, kind.keys())
		return p.value()
	}
}

func (p *commandParser) once(key commandKeys, name string) {
	if p.seen&key != 0 {
		p.fail("%s has the key %q twice", p.cmd.Kind, name)
	}
	p.seen |= key
}

func (p *commandParser) data() *Error {
	p.once(keyData, "data")
	start, spaces := p.pos, p.spaces
	if err := p.value(); err != nil {
		return err
	}
	if p.wrong == nil {
		p.cmd.Data = compact(p.b[start:p.pos], p.spaces-spaces)
	}
	return nil
}

func (p *commandParser) id() *Error {
	p.once(keyID, "id")
	first := p.peek()
	if first != '"' {
		if err := p.value(); err != nil {
			return err
		}
		p.fail("id must be a string, not %s", typeName(first))
		return nil
	}
	raw, escaped, err := p.text()
	if err != nil {
		return err
	}
	lone := false
	if escaped {
		raw, lone = appendUnescaped(nil, raw)
	}
	if lone {
		p.fail("id holds half of a surrogate pair, which is no character")
		return nil
	}
	id := string(raw)
	if err := CheckKey(id); err != nil {
		p.fail("id cannot be used: %s", reasonOf(err))
		return nil
	}
	p.cmd.ID = id
	return nil
}

// token reads a token; no error repeats a part of it.
func (p *commandParser) token() *Error {
	p.once(keyToken, "token")
	first := p.peek()
	if first != '"' {
		if err := p.value(); err != nil {
			return err
		}
		p.fail("token must be a string, not %s", typeName(first))
		return nil
	}
	raw, escaped, err := p.text()
	if err != nil {
		return err
	}
	if escaped {
		raw, _ = appendUnescaped(nil, raw)
	}
	switch {
	case len(raw) == 0:
		p.fail("token is empty")
	case len(raw) > MaxTokenBytes:
		p.fail("token has %d bytes; at most %d are allowed", len(raw), MaxTokenBytes)
	default:
		p.cmd.Token = string(raw)
	}
	return nil
}

func (p *commandParser) offset(name string, least uint64, to **Offset) *Error {
	n, err := p.whole(name, least, uint64(MaxOffset))
	o := Offset(n)
	*to = &o
	return err
}

// whole reads a whole number from least to most.
func (p *commandParser) whole(name string, least, most uint64) (uint64, *Error) {
	start := p.pos
	if err := p.value(); err != nil {
		return 0, err
	}
	n, ok := parseWhole(p.b[start:p.pos], least, most)
	if !ok {
		p.fail("%s must be a whole number from %d to %d without quotes, fraction or exponent, not %s",
			name, least, most, cutShort(p.b[start:p.pos]))
	}
	return n, nil
}

// parseWhole reads decimal digits and nothing else.
func parseWhole[S ~string | ~[]byte](s S, least, most uint64) (uint64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(string(s), 10, 64)
	return n, err == nil && n >= least && n <= most
}

// AppendCommand appends the line of a command, without a newline. c.Data must be JSON in compact form.
func AppendCommand(dst []byte, c Command) []byte {
	dst = append(dst, `{"`...)
	dst = append(dst, c.Kind.String()...)
	dst = append(dst, `":{`...)
	body := len(dst)
	if c.Kind == CommandPublish {
		dst = append(dst, `"data":`...)
		dst = append(dst, c.Data...)
	}
	if c.Kind == CommandHistory {
		if c.Since != nil {
			dst = append(dst, `"since":`...)
			dst = strconv.AppendUint(dst, uint64(*c.Since), 10)
		}
		if c.Before != nil {
			dst = appendComma(dst, body)
			dst = append(dst, `"before":`...)
			dst = strconv.AppendUint(dst, uint64(*c.Before), 10)
		}
		if c.Limit != 0 {
			dst = appendComma(dst, body)
			dst = append(dst, `"limit":`...)
			dst = strconv.AppendInt(dst, int64(c.Limit), 10)
		}
	}
	if c.Kind == CommandRefresh {
		dst = append(dst, `"token":`...)
		dst = AppendJSONString(dst, c.Token)
	}
	if c.ID != "" {
		dst = appendComma(dst, body)
		dst = append(dst, `"id":`...)
		dst = AppendJSONString(dst, c.ID)
	}
	return append(dst, `}}`...)
}

// appendComma appends a comma unless nothing was appended since dst had length start.
func appendComma(dst []byte, start int) []byte {
	if len(dst) > start {
		return append(dst, ',')
	}
	return dst
}

// maxQuoted is how much of a client's text an error message repeats, in bytes.
const maxQuoted = 40

func quoteShort(s []byte) string {
	if len(s) <= maxQuoted {
		return strconv.Quote(string(s))
	}
	return strconv.Quote(string(cutRune(s, maxQuoted))) + "…"
}

func cutShort(s []byte) string {
	if len(s) <= maxQuoted {
		return string(s)
	}
	return fmt.Sprintf("%s…", cutRune(s, maxQuoted))
}

// cutRune returns the longest beginning of s that has at most n bytes and does not end inside a character.
func cutRune(s []byte, n int) []byte {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// reasonOf returns the sentence of an error of CheckKey, CheckUser or CheckChannel without its kind.
func reasonOf(err error) string {
	text := err.Error()
	for _, kind := range []error{ErrChannelName, ErrKey, ErrUserName} {
		if errors.Is(err, kind) {
			return text[len(kind.Error())+len(": "):]
		}
	}
	return text
}
