package auth

import (
	"regexp"
	"strings"
	"testing"

	"barrage/proto"
)

// who are the identities of the decision table.
var who = map[string]*Identity{"nobody's": {}, "alice": {User: "alice"}, "bob": {User: "bob"}, "x#bob": {User: "x#bob"}, "a,b": {User: "a,b"}}

// decides reads a policy's table: a line "who action channel" with the words subscribed and token, → and yes or the error's words.
func decides(t *testing.T, p *Policy, table string) {
	t.Helper()
	for line := range strings.Lines(table) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		ask, want, _ := strings.Cut(line, " → ")
		words := strings.Fields(ask)
		r := Request{Channel: words[2], Subscribed: strings.Contains(ask, " subscribed"), Token: strings.Contains(ask, " token")}
		for a, name := range actionNames {
			if name == words[1] {
				r.Action = Action(a)
			}
		}
		got := "yes"
		if err := p.Allow(who[words[0]], r); err != nil {
			got = err.Error()
		}
		if got != want && (want == "yes" || !strings.Contains(got, want)) {
			t.Errorf("%s must be %q, got %q", ask, want, got)
		}
	}
}

func TestWithoutAuthenticationEverythingIsOpen(t *testing.T) {
	decides(t, &Policy{Default: Open}, `
		nobody's subscribe room → yes
		nobody's publish room → yes
		nobody's history room → yes
		nobody's presence room → yes
		nobody's subscribe any:room → yes
		nobody's subscribe #alice → 103: this channel is personal
	`)
}

func TestWithAuthenticationEverythingIsClosed(t *testing.T) {
	decides(t, &Policy{Default: Closed}, `
		nobody's subscribe room → 103: the namespace default allows subscribe to those with a subscription token only
		alice subscribe room → 103: the namespace default allows subscribe to those with a subscription token only
		alice subscribe room token → yes
		nobody's subscribe room token → yes
		alice publish room → 103: the namespace default allows publish to the server API only
		alice publish room subscribed → 103: the namespace default allows publish to the server API only
		alice publish room token → 103: the namespace default allows publish
		alice history room → 103: the namespace default allows history to its subscribers
		alice history room token → 103: the namespace default allows history
		alice history room subscribed → yes
		nobody's history room subscribed → yes
		alice presence room subscribed → 103: the namespace default allows presence to the server API only
		alice subscribe #alice → yes
		alice history #alice → 103: the namespace default allows history
		alice history #alice subscribed → yes
		alice publish #alice subscribed → 103: the namespace default allows publish
	`)
}

func TestRulesOfNamespaces(t *testing.T) {
	decides(t, &Policy{Default: Closed, Named: map[string]Namespace{
		"any":  {Rules: [actions]Rule{Anyone, Anyone, Anyone, Anyone}},
		"user": {Rules: [actions]Rule{User, User, User, User}},
		"sub":  {Rules: [actions]Rule{Subscriber, Subscriber, Subscriber, Subscriber}},
		"none": {Rules: [actions]Rule{Nobody, Nobody, Nobody, Nobody}},
		"digit": {
			Rules: [actions]Rule{Anyone, Anyone, Anyone, Anyone}, Pattern: regexp.MustCompile(`\A(?:[0-9]+|#.*)\z`),
		},
	}}, `
		nobody's subscribe any:x → yes
		nobody's publish any:x → yes
		nobody's history any:x → yes
		nobody's presence any:x → yes
		nobody's subscribe other:x → 103: the namespace default
		nobody's subscribe any → 103: the namespace default
		alice subscribe user:x → yes
		alice publish user:x → yes
		nobody's subscribe user:x → 103: the namespace user allows subscribe to clients with a user id only
		nobody's publish user:x → 103: the namespace user allows publish to clients with a user id only
		nobody's publish user:x subscribed → yes
		alice subscribe sub:x → 103: the namespace sub allows subscribe to those with a subscription token only
		alice subscribe sub:x subscribed → 103: the namespace sub
		alice publish sub:x → 103: the namespace sub allows publish to its subscribers
		alice publish sub:x subscribed → yes
		alice presence sub:x subscribed → yes
		alice publish none:x subscribed → 103: the namespace none allows publish to the server API only
		nobody's subscribe digit:12 → yes
		nobody's subscribe digit:12a → 102: the namespace digit has no channel of this name
		alice subscribe digit:12a token → 102: the namespace digit has no channel of this name
		alice publish digit:12a subscribed → 102: the namespace digit has no channel of this name
		alice subscribe digit:#alice → yes
	`)
}

func TestPersonalChannelsBelongToTheirUsers(t *testing.T) {
	decides(t, &Policy{Default: Open, Named: map[string]Namespace{"chat": Open, "none": Closed}}, `
		alice subscribe #alice → yes
		alice publish #alice → yes
		bob subscribe #alice → 103: this channel is personal
		bob publish #alice → 103: this channel is personal
		bob history #alice → 103: this channel is personal
		bob presence #alice → 103: this channel is personal
		nobody's subscribe # → 103: this channel is personal
		nobody's subscribe #alice, → 103: this channel is personal
		bob subscribe #alice token → yes
		bob publish #alice subscribed → yes
		alice subscribe chat:dialog#alice,bob → yes
		bob publish chat:dialog#alice,bob → yes
		x#bob subscribe chat:dialog#alice,bob → 103: this channel is personal
		alice subscribe none:#alice → yes
		alice publish none:#alice subscribed → 103: the namespace none allows publish
		bob subscribe #x#bob → 103: this channel is personal
		x#bob subscribe #x#bob → 103: this channel is personal
		x#bob subscribe #x#bob token → yes
		a,b subscribe #a,b → 103: this channel is personal
	`)
}

func TestPersonalChannelOfAUser(t *testing.T) {
	for user, want := range map[string]string{
		"alice": "#alice", "日本": "#日本", "": "", "a#b": "", "a,b": "", strings.Repeat("x", 254): "#" + strings.Repeat("x", 254),
		strings.Repeat("x", 255): "",
	} {
		channel, ok := PersonalChannel(user)
		if channel != want || ok != (want != "") {
			t.Errorf("the personal channel of %q is %q, got %q, %v", user, want, channel, ok)
		}
		if !ok {
			continue
		}
		if err := (&Policy{Default: Closed}).Allow(&Identity{User: user}, Request{Action: Subscribe, Channel: channel}); err != nil {
			t.Errorf("%q may subscribe to %q: %v", user, channel, err)
		}
	}
}

func TestRulesAreReadAsTheyAreWritten(t *testing.T) {
	for r := Nobody; r <= Anyone; r++ {
		if got, err := ParseRule(r.String()); err != nil || got != r {
			t.Errorf("%v is read as %v, %v", r, got, err)
		}
	}
	if _, err := ParseRule("everyone"); err == nil || err.Error() != `"everyone" is not a rule; there are nobody, subscriber, user, anyone` {
		t.Errorf("another word is refused with those that there are, got %v", err)
	}
}

// Whatever is asked, nobody may do with less what they may not do with more, and a refusal is 102 or 103.
func FuzzAllow(f *testing.F) {
	f.Add("alice", "a:x#alice,bob", uint8(0), uint8(2))
	f.Fuzz(func(t *testing.T, user, channel string, action, rule uint8) {
		a := Action(action % uint8(actions))
		ns := Namespace{}
		for i := range ns.Rules {
			ns.Rules[i] = Rule(rule % 4)
		}
		p := &Policy{Default: ns}
		ask := func(subscribed, token bool) *proto.Error {
			return p.Allow(&Identity{User: user}, Request{Action: a, Channel: channel, Subscribed: subscribed, Token: token})
		}
		if ask(false, false) == nil && (ask(true, false) != nil || ask(false, true) != nil) {
			t.Errorf("%s %s by %q is allowed, and then also to a subscriber and with a token", a, channel, user)
		}
		if err := ask(false, false); err != nil && err.Code != 102 && err.Code != 103 {
			t.Errorf("a refusal is 102 or 103, got %v", err)
		}
		if users, personal := PersonalUsers(channel); personal && ask(false, false) == nil {
			for _, u := range users {
				if u == user && user != "" {
					return
				}
			}
			t.Errorf("%s is personal, and %q is none of %q", channel, user, users)
		}
	})
}
