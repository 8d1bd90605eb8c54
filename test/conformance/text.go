package conformance

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// utf8Text is 6: text must be UTF-8, and what cannot become UTF-8 any more fails at once.
func utf8Text() (all []Case) {
	const good = "Hello-µ@ßöäüàá-UTF-8!!"
	const cosmos, bad, edited = "κόσμε", "\xed\xa0\x80", "edited"
	all = []Case{
		fixed("6.1.1 an empty text", []message{{op: opText}}, frame{op: opText}),
		fixed("6.1.2 an empty text in three fragments", []message{{op: opText}}, frame{op: opText, more: true}, frame{op: opContinuation, more: true}, frame{op: opContinuation}),
		fixed("6.1.3 a text between two empty fragments", []message{{opText, "middle"}}, frame{op: opText, more: true}, frame{op: opContinuation, more: true, payload: "middle"}, frame{op: opContinuation}),
		fixed("6.2.1 a text", []message{{opText, good}}, frame{op: opText, payload: good}),
		fixed("6.2.2 a text that is split between characters", []message{{opText, good}}, frame{op: opText, more: true, payload: good[:11]}, frame{op: opContinuation, payload: good[11:]}),
		inOctets("6.2.3 a text", good),
		inOctets("6.2.4 a text", cosmos),
		failing("6.3.1 what is not UTF-8", 1007, nil, frame{op: opText, payload: cosmos + bad + edited}),
		inOctets("6.3.2 what is not UTF-8", cosmos+bad+edited),
		failing("6.4.1 fails at the second of three fragments", 1007, nil, frame{op: opText, more: true, payload: cosmos}, frame{op: opContinuation, more: true, payload: "\xf4\x90\x80\x80"}),
		failing("6.4.2 fails at the second of three fragments, which ends with half a character", 1007, nil, frame{op: opText, more: true, payload: cosmos + "\xf4"}, frame{op: opContinuation, more: true, payload: "\x90"}),
		failing("6.4.3 fails at the octet in the middle of a frame", 1007, nil, frame{op: opText, payload: cosmos + "\xf4\x90", length: 100}),
		failing("6.4.4 fails when the last fragment ends within a character", 1007, nil, frame{op: opText, more: true, payload: "\xe5\xbc"}, frame{op: opContinuation}),
	}
	for i := range len(cosmos) + 1 {
		all = append(all, sequence(fmt.Sprintf("6.6.%d the beginning of a text", i), cosmos[:i])...)
	}
	for _, group := range sequences {
		for i, s := range group.texts {
			all = append(all, sequence(fmt.Sprintf("%s.%d %s: %x", group.number, i+1, group.what, s), s)...)
		}
	}
	return append(all, sequenceOfAll()...)
}

// inOctets is a text in fragments of one byte, without any that the server would not wait for.
func inOctets(name, text string) Case {
	c := Case{Name: name + ", in fragments of one octet", exchange: func() ([]byte, []message) {
		if n := hopeless(text); n > 0 {
			return fragments(opText, 0, text+"x", 1)[:n*7], nil // a frame of one byte takes seven
		}
		return fragments(opText, 0, text, 1), []message{{opText, text}}
	}}
	if hopeless(text) > 0 {
		c.code = 1007
	}
	return c
}

// hopeless is how many octets of text it takes to see that no continuation can make it UTF-8, 0 when some can.
func hopeless(text string) int {
	for n := range len(text) + 1 {
		for at := 0; at < n; {
			r, size := utf8.DecodeRuneInString(text[at:n])
			if r == utf8.RuneError && size == 1 {
				if utf8.FullRuneInString(text[at:n]) {
					return n
				}
				break
			}
			at += size
		}
	}
	return 0
}

// sequence makes cases of a text: whole, chopped, in fragments, and if it is not UTF-8 broken off where that can be seen.
func sequence(name, text string) (all []Case) {
	if utf8.ValidString(text) {
		c := fixed(name+" is echoed", []message{{opText, text}}, frame{op: opText, payload: text})
		return []Case{c, chopped(1, c), inOctets(name, text)}
	}
	c := failing(name+" fails", 1007, nil, frame{op: opText, payload: text})
	all = []Case{c, chopped(1, c)}
	if n := hopeless(text); n > 0 {
		all = append(all,
			failing(name+" fails at the octet", 1007, nil, frame{op: opText, payload: "ok " + text[:n], length: 1000}),
			inOctets(name, text))
	} else {
		all = append(all, failing(name+" fails at the end of the message", 1007, nil, frame{op: opText, more: true, payload: text}, frame{op: opContinuation}))
	}
	return all
}

// sequences are where decoders of UTF-8 go wrong: the boundaries of lengths, of what was forbidden later, and of planes.
var sequences = []struct {
	number, what string
	texts        []string
}{
	{"6.7", "the first of a length", []string{"\x00", "\u0080", "\u0800", "\U00010000"}},
	{"6.8", "the first of five and six octets", []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}},
	{"6.9", "the last of a length", []string{"\x7f", "\u07ff", "\uffff", "\U0010ffff"}},
	{"6.10", "the last of four, five and six octets", []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}},
	{"6.11", "another boundary", []string{"\ud7ff", "\ue000", "\ufffd", "\U0010ffff", "\xf4\x90\x80\x80"}},
	{"6.12", "a continuation octet without a beginning", []string{
		"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf",
	}},
	{"6.13", "beginnings, each followed by a space", []string{"\xc0 \xc1 ", "\xc2 \xdf ", "\xe0 \xef ", "\xf0 \xf7 ", "\xf8 \xfb ", "\xfc \xfd "}},
	{"6.14", "the last octet is missing", []string{
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
	}},
	{"6.15", "several without their last octet", []string{
		"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf", "\xdf\xef\xbf",
	}},
	{"6.16", "octets that never occur", []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}},
	{"6.17", "an overlong slash", []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}},
	{"6.18", "the last of an overlong form", []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}},
	{"6.19", "an overlong NUL", []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}},
	{"6.20", "half of a surrogate pair", []string{
		"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf",
	}},
	{"6.21", "a surrogate pair", []string{
		"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
		"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf",
	}},
	{"6.22", "a noncharacter", noncharacters()},
	{"6.23", "a special", []string{"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"}},
}

// noncharacters are the last two of each plane, and are UTF-8.
func noncharacters() (all []string) {
	for plane := range rune(17) {
		all = append(all, string([]rune{plane<<16 | 0xFFFE}), string([]rune{plane<<16 | 0xFFFF}))
	}
	return all
}

// sequenceOfAll are all continuation octets, and all beginnings.
func sequenceOfAll() (all []Case) {
	var tails, heads strings.Builder
	for c := 0x80; c < 0xC0; c++ {
		tails.WriteByte(byte(c))
	}
	for c := 0xC0; c < 0x100; c++ {
		heads.Write([]byte{byte(c), ' '})
	}
	return append(sequence("6.12.8 all continuation octets", tails.String()), sequence("6.13.6 all beginnings", heads.String())...)
}
