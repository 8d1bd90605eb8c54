package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseCommand(t *testing.T) {
	for _, c := range []struct {
		line string
		want Command
	}{
		{`{"publish":{"data":"hello"}}`, Command{Kind: CommandPublish, Data: []byte(`"hello"`)}},
		{`{"publish":{"data":null,"id":"a"}}`, Command{Kind: CommandPublish, Data: []byte(`null`), ID: "a"}},
		{`{"publish":{"id":"ä\u00e4","data":-0.5e+10}}`, Command{Kind: CommandPublish, Data: []byte(`-0.5e+10`), ID: "ää"}},
		{`{"publish":{"id":"","data":{}}}`, Command{Kind: CommandPublish, Data: []byte(`{}`)}},
		{
			" \t{ \"publish\" : { \"data\" : { \"a b\" : [ 1 , \" \\\" \" , true , false , null , [ ] , { } ] } } } \r",
			Command{Kind: CommandPublish, Data: []byte(`{"a b":[1," \" ",true,false,null,[],{}]}`)},
		},
		{`{"\u0070ublish":{"d\u0061ta":"\ud83d\ude00\/"}}`, Command{Kind: CommandPublish, Data: []byte(`"\ud83d\ude00\/"`)}},
		{`{"publish":{"data":{"a":1,"a":2}}}`, Command{Kind: CommandPublish, Data: []byte(`{"a":1,"a":2}`)}},
		{`{"publish":{"data":"\ud800"}}`, Command{Kind: CommandPublish, Data: []byte(`"\ud800"`)}},
		{`{"ping":{}}`, Command{Kind: CommandPing}},
		{`{"ping":{"id":"7"}}`, Command{Kind: CommandPing, ID: "7"}},
		{`{"info":{"id":"7"}}`, Command{Kind: CommandInfo, ID: "7"}},
		{`{"presence":{"id":"7"}}`, Command{Kind: CommandPresence, ID: "7"}},
		{`{"refresh":{"token":"a\u002eb","id":"7"}}`, Command{Kind: CommandRefresh, Token: "a.b", ID: "7"}},
		{`{"history":{}}`, Command{Kind: CommandHistory, Limit: 100}},
		{`{"history":{"since":0,"limit":1}}`, Command{Kind: CommandHistory, Since: new(Offset(0)), Limit: 1}},
		{`{"history":{"before":1,"limit":1000,"id":"h"}}`, Command{Kind: CommandHistory, Before: new(Offset(1)), Limit: 1000, ID: "h"}},
		{`{"history":{"since":9007199254740991}}`, Command{Kind: CommandHistory, Since: new(MaxOffset), Limit: 100}},
	} {
		got, err := ParseCommand([]byte(c.line))
		if err != nil {
			t.Errorf("%s should be accepted, but: %v", c.line, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s should be read as\n%+v, not as\n%+v", c.line, c.want, got)
		}
	}
}

func TestParseCommandRefuses(t *testing.T) {
	deep := func(n int) string {
		return `{"publish":{"data":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}}`
	}
	for _, c := range []struct{ line, id, want string }{
		{``, "", `invalid JSON at byte 1: expected a value, but the line ends`},
		{`hello`, "", `invalid JSON at byte 1: expected a value, found 'h'`},
		{`"hello"`, "", `a line must be a JSON object with one command, not a string`},
		{`[]`, "", `a line must be a JSON object with one command, not an array`},
		{`null`, "", `a line must be a JSON object with one command, not null`},
		{`12`, "", `a line must be a JSON object with one command, not a number`},
		{`true`, "", `a line must be a JSON object with one command, not a boolean`},
		{`tru`, "", `invalid JSON at byte 4: expected true, but the line ends`},
		{`{}`, "", `the object is empty; it must hold one command: publish, ping, history, info, presence and refresh`},
		{`{"shout":{"id":"x","data":1}}`, "x", `unknown command "shout"; known are publish, ping, history, info, presence and refresh`},
		{`{"Publish":{"data":1}}`, "", `unknown command "Publish"; known are publish, ping, history, info, presence and refresh`},
		{`{"ping":{"id":"x"},"info":{}}`, "x", `the object has a second key "info"; a line holds exactly one command`},
		{`{"id":"x","ping":{}}`, "", `unknown command "id"; known are publish, ping, history, info, presence and refresh`},
		{`{"ping":{}}{"ping":{}}`, "", `invalid JSON at byte 12: expected the end of the line, found '{'`},
		{`{"ping":null}`, "", `ping must hold an object, not null`},
		{`{"publish":"hello"}`, "", `publish must hold an object, not a string`},
		{`{"publish":{}}`, "", `publish has no data; give it any JSON value as data`},
		{`{"publish":{"id":"x"}}`, "x", `publish has no data; give it any JSON value as data`},
		{`{"publish":{"data":1,"to":"me","id":"x"}}`, "x", `unknown key "to" in publish; known are data and id`},
		{`{"ping":{"data":1}}`, "", `unknown key "data" in ping; only id is known`},
		{`{"history":{"from":1}}`, "", `unknown key "from" in history; known are since, before, limit and id`},
		{`{"publish":{"data":1,"data":1,"id":"x"}}`, "x", `publish has the key "data" twice`},
		{`{"publish":{"data":1,"id":"x","id":"y"}}`, "y", `publish has the key "id" twice`},
		{`{"publish":{"data":1,"id":7}}`, "", `id must be a string, not a number`},
		{`{"publish":{"data":1,"id":null}}`, "", `id must be a string, not null`},
		{`{"publish":{"data":1,"id":"` + strings.Repeat("x", 129) + `"}}`, "", `id cannot be used: it has 129 bytes; at most 128 are allowed`},
		{`{"publish":{"data":1,"id":"a\n"}}`, "", `id cannot be used: byte 1 is the control character U+000A; remove it`},
		{`{"publish":{"data":1,"id":"\ud800"}}`, "", `id holds half of a surrogate pair, which is no character`},
		{`{"history":{"since":1,"before":2,"id":"x"}}`, "x", `history has both since and before; give one of them`},
		{`{"history":{"before":1,"since":2}}`, "", `history has both since and before; give one of them`},
		{`{"history":{"since":-1}}`, "", `since must be a whole number from 0 to 9007199254740991 without quotes, fraction or exponent, not -1`},
		{`{"history":{"since":1.0}}`, "", `since must be a whole number from 0 to 9007199254740991 without quotes, fraction or exponent, not 1.0`},
		{`{"history":{"since":1e3}}`, "", `since must be a whole number from 0 to 9007199254740991 without quotes, fraction or exponent, not 1e3`},
		{`{"history":{"since":"1"}}`, "", `since must be a whole number from 0 to 9007199254740991 without quotes, fraction or exponent, not "1"`},
		{`{"history":{"since":9007199254740992}}`, "", `since must be a whole number from 0 to 9007199254740991 without quotes, fraction or exponent, not 9007199254740992`},
		{
			`{"history":{"since":99999999999999999999999999999999999999999999}}`, "",
			`since must be a whole number from 0 to 9007199254740991 without quotes, fraction or exponent, not 9999999999999999999999999999999999999999…`,
		},
		{`{"history":{"before":0}}`, "", `before must be a whole number from 1 to 9007199254740991 without quotes, fraction or exponent, not 0`},
		{`{"history":{"limit":0}}`, "", `limit must be a whole number from 1 to 1000 without quotes, fraction or exponent, not 0`},
		{`{"history":{"limit":1001,"id":"x"}}`, "x", `limit must be a whole number from 1 to 1000 without quotes, fraction or exponent, not 1001`},
		{`{"history":{"limit":null}}`, "", `limit must be a whole number from 1 to 1000 without quotes, fraction or exponent, not null`},
		{`{"history":{"since":1,"since":1}}`, "", `history has the key "since" twice`},
		{`{"refresh":{"id":"x"}}`, "x", `refresh has no token; give it the new one as token`},
		{`{"refresh":{"token":""}}`, "", `token is empty`},
		{`{"refresh":{"token":{},"id":"x"}}`, "x", `token must be a string, not an object`},
		{`{"refresh":{"token":"a","token":"b"}}`, "", `refresh has the key "token" twice`},
		{`{"refresh":{"token":"` + strings.Repeat("s", 8193) + `"}}`, "", `token has 8193 bytes; at most 8192 are allowed`},
		{`{"refresh":{"secret":"s"}}`, "", `unknown key "secret" in refresh; known are token and id`},
		{`{"presence":{"limit":1}}`, "", `unknown key "limit" in presence; only id is known`},
		{deep(513), "", `byte 532 opens more than 512 arrays and objects inside each other; nest less deeply`},
		{`{"` + strings.Repeat("ä", 30) + `":1}`, "", `unknown command "` + strings.Repeat("ä", 20) + `"…; known are publish, ping, history, info, presence and refresh`},
		// What is wrong with the JSON itself.
		{`{"publish":{"id":"x","data":01}}`, "x", `invalid JSON at byte 30: expected ',' or '}', found '1'`},
		{`{"publish":{"id":"x","data":}}`, "x", `invalid JSON at byte 29: expected a value, found '}'`},
		{`{"publish":{"data":[1,]}}`, "", `invalid JSON at byte 23: expected a value, found ']'`},
		{`{"publish":{"data":[1}}}`, "", `invalid JSON at byte 22: expected ',' or ']', found '}'`},
		{`{"publish":{"data":{"a":1]}}`, "", `invalid JSON at byte 26: expected ',' or '}', found ']'`},
		{`{"publish":{"data":{"a"}}}`, "", `invalid JSON at byte 24: expected ':', found '}'`},
		{`{"publish":{"data":{a:1}}}`, "", `invalid JSON at byte 21: expected a key in quotes, found 'a'`},
		{`{"publish":{"data":{"a":1,}}}`, "", `invalid JSON at byte 27: expected a key in quotes, found '}'`},
		{`{"publish":{"data":-}}`, "", `invalid JSON at byte 21: expected a digit, found '}'`},
		{`{"publish":{"data":1.}}`, "", `invalid JSON at byte 22: expected a digit, found '}'`},
		{`{"publish":{"data":1e}}`, "", `invalid JSON at byte 22: expected a digit, found '}'`},
		{`{"publish":{"data":"\x"}}`, "", `invalid JSON at byte 22: expected one of " \ / b f n r t u after a backslash, found 'x'`},
		{`{"publish":{"data":"\u12g4"}}`, "", `invalid JSON at byte 25: expected four hexadecimal digits after \u, found 'g'`},
		{"{\"publish\":{\"data\":\"a\tb\"}}", "", `invalid JSON at byte 22: the control character U+0009 must be escaped in a string`},
		{"{\"publish\":{\"data\":\"a\xff\"}}", "", `invalid JSON at byte 22: it is not valid UTF-8`},
		{"{\"publish\":{\"data\":\xff}}", "", `invalid JSON at byte 20: it is not valid UTF-8`},
		{"{\"publish\":{\"data\":\"\xed\xa0\x80\"}}", "", `invalid JSON at byte 21: it is not valid UTF-8`},
		{`{"publish":{"data":"hello`, "", `invalid JSON at byte 26: expected the closing '"' of a string, but the line ends`},
		{`{"publish":{"data":1}`, "", `invalid JSON at byte 22: expected ',' or '}', but the line ends`},
		{"\ufeff{}", "", `invalid JSON at byte 1: expected a value, found '\ufeff'`},
		{"{\"ping\":{}}\x00", "", `invalid JSON at byte 12: expected the end of the line, found '\x00'`},
	} {
		got, err := ParseCommand([]byte(c.line))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s should be refused with an *Error, but: %v", c.line, err)
			continue
		}
		if e.Code != 107 || e.Retry {
			t.Errorf("%s should be refused with code 107 without retry, not %d, %t", c.line, e.Code, e.Retry)
		}
		if e.Message != c.want {
			t.Errorf("%s should be refused with\n%s, not with\n%s", c.line, c.want, e.Message)
		}
		if got.ID != c.id {
			t.Errorf("the error of %s should carry the id %q, not %q", c.line, c.id, got.ID)
		}
	}
	if _, err := ParseCommand([]byte(deep(512))); err != nil {
		t.Errorf("data nested 512 deep should be accepted, but: %v", err)
	}
}

func TestParseCommandCopies(t *testing.T) {
	line := []byte(`{"publish":{"id":"abc","data":["abc"]}}`)
	c, err := ParseCommand(line)
	if err != nil {
		t.Fatal(err)
	}
	clear(line)
	if c.ID != "abc" || string(c.Data) != `["abc"]` {
		t.Errorf("a command must not change with the line it was read from; now it is %+v", c)
	}
}

func TestSplitLines(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    []string
	}{
		{"", nil},
		{"\n \n\r\n\t", nil},
		{"a", []string{"a"}},
		{"a\nb", []string{"a", "b"}},
		{"\r\na\r\n\n b \n", []string{"a", "b"}},
	} {
		var got []string
		for line := range SplitLines([]byte(c.payload)) {
			got = append(got, string(line))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q should have the lines %q, not %q", c.payload, c.want, got)
		}
	}
	for range SplitLines([]byte("a\nb")) {
		break
	}
}

func FuzzParseCommand(f *testing.F) {
	f.Add([]byte(`{"publish":{"data":{"a":[1,2.5e-3,"\u00e4\n"]},"id":"x"}}`))
	f.Add([]byte(`{"history":{"since":1,"limit":10}}`))
	f.Add([]byte(`{"history":{"before":1}}`))
	f.Add([]byte(`{"ping":{"id":"\"\\"}}`))
	f.Add([]byte(`{"refresh":{"token":"a.b.c","id":"7"}}`))
	f.Add([]byte(`{"presence":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := ParseCommand(line)
		if err != nil {
			if !errors.Is(err, ErrBadRequest) {
				t.Fatalf("%q is refused with %v, which is not a bad request", line, err)
			}
			return
		}
		if !json.Valid(line) {
			t.Fatalf("%q is accepted but encoding/json says that it is not JSON", line)
		}
		if c.Data != nil && (!json.Valid(c.Data) || bytes.ContainsAny(c.Data, "\n\r")) {
			t.Fatalf("the data %q of %q is not compact JSON", c.Data, line)
		}
		again, err := ParseCommand(AppendCommand(nil, c))
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%q is read as %+v, and written and read again as %+v (%v)", line, c, again, err)
		}
	})
}

// FuzzScanner compares the scanner with encoding/json, which differs in allowing invalid UTF-8 and deeper nesting.
func FuzzScanner(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5e-3,"\u00e4\n",true,false,null,{},[]],"b":-0}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := scanner{b: text}
		err := s.value()
		if err == nil {
			s.space()
			if s.pos < len(text) {
				err = s.bad("end")
			}
		}
		if err == nil != (json.Valid(text) && bytes.Equal(bytes.ToValidUTF8(text, []byte("?")), text)) {
			if err == nil || !strings.Contains(err.Message, "nest less deeply") {
				t.Fatalf("encoding/json says %t of %q, the scanner %v", json.Valid(text), text, err)
			}
			return
		}
		if err == nil {
			var want bytes.Buffer
			if err := json.Compact(&want, text); err != nil {
				t.Fatal(err)
			}
			if got := compact(text, s.spaces); !bytes.Equal(got, want.Bytes()) {
				t.Fatalf("%q is %q in compact form, not %q", text, want.Bytes(), got)
			}
		}
	})
}

var chatLine = []byte(`{"publish":{"id":"c1-4711","data":{"text":"hello everyone, 大家好!","color":"#ff8800","lane":3}}}`)

func BenchmarkParseCommand(b *testing.B) {
	for _, c := range []struct {
		name string
		line []byte
	}{
		{"chat", chatLine},
		{"ping", []byte(`{"ping":{}}`)},
		{"refused", []byte(`{"publish":{"text":"hello"}}`)},
		{"4KiB", []byte(`{"publish":{"data":"` + strings.Repeat("x", 4096) + `"}}`)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.line)))
			for b.Loop() {
				_, _ = ParseCommand(c.line)
			}
		})
	}
	b.Run("chat-encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(chatLine)))
		for b.Loop() {
			var v map[string]struct {
				ID   string
				Data json.RawMessage
			}
			_ = json.Unmarshal(chatLine, &v)
		}
	})
}
