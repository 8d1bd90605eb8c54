package auth

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"barrage/proto"
)

// Rule says who may do something in a channel.
type Rule uint8

// Rules, from nobody to everybody. A later one includes those before it; Token concerns subscribing alone.
const (
	// Nobody may, but the server API. A subscription token, and a personal channel's own users, may subscribe all the same.
	Nobody Rule = iota
	// Subscriber: who is subscribed to the channel.
	Subscriber
	// User: every client with a user id.
	User
	// Anyone: every client.
	Anyone
)

var ruleNames = [...]string{Nobody: "nobody", Subscriber: "subscriber", User: "user", Anyone: "anyone"}

// String is the rule as it is written in settings.
func (r Rule) String() string { return ruleNames[r] }

// ParseRule reads a rule as it is written in settings.
func ParseRule(text string) (Rule, error) {
	if i := slices.Index(ruleNames[:], text); i >= 0 {
		return Rule(i), nil
	}
	return Nobody, fmt.Errorf("%q is not a rule; there are %s", text, strings.Join(ruleNames[:], ", "))
}

// Action is what a rule is about.
type Action uint8

// Actions.
const (
	Subscribe Action = iota
	Publish
	History
	Presence
	actions
)

var actionNames = [...]string{Subscribe: "subscribe", Publish: "publish", History: "history", Presence: "presence"}

// String is the action as it is written in settings and errors.
func (a Action) String() string { return actionNames[a] }

// Namespace says who may do what in the channels of a namespace.
type Namespace struct {
	Rules [actions]Rule
	// JoinLeave tells members of others that come and go.
	JoinLeave bool
	// Pattern is what the whole part of a channel's name after the namespace must match; nil for anything.
	Pattern *regexp.Regexp
}

// Open allows everything to everyone: what holds without authentication.
var Open = Namespace{Rules: [actions]Rule{Anyone, Anyone, Anyone, Anyone}}

// Closed is what holds with authentication where settings say nothing: a subscription token, or a personal channel, is needed to
// subscribe; subscribers may read history; the server API publishes.
var Closed = Namespace{Rules: [actions]Rule{Subscribe: Nobody, Publish: Nobody, History: Subscriber, Presence: Nobody}}

// Policy decides. It must not be changed while it is in use.
type Policy struct {
	// Default is for channels that belong to no other namespace.
	Default Namespace
	// Named are for the channels NAME:REST.
	Named map[string]Namespace
}

// Of is the namespace that a channel belongs to, its name, and the rest of the channel's name.
func (p *Policy) Of(channel string) (ns Namespace, name, rest string) {
	if name, rest, ok := strings.Cut(channel, ":"); ok {
		if ns, ok := p.Named[name]; ok {
			return ns, name, rest
		}
	}
	return p.Default, "default", channel
}

// Exists is nil when the pattern of the channel's namespace allows its name.
func (p *Policy) Exists(channel string) *proto.Error {
	ns, name, rest := p.Of(channel)
	if ns.Pattern != nil && !ns.Pattern.MatchString(rest) {
		return proto.ErrUnknownChannel.With("the namespace %s has no channel of this name: it does not match the pattern", name)
	}
	return nil
}

// Request is what an identity wants to do.
type Request struct {
	Action  Action
	Channel string
	// Subscribed says that the connection is a subscriber of the channel already.
	Subscribed bool
	// Token says that a subscription token for this channel and user was verified.
	Token bool
}

// Allow decides; nil means yes. The error tells which rule refused, so that the operator knows what to change.
//
//	a name that the pattern refuses          no, whatever else holds
//	a subscription token                     subscribing: yes
//	a personal channel (a # in its name)     subscribing: its users, nobody else; everything else by the rules, and only for its users
//	otherwise                                by the rule
func (p *Policy) Allow(id *Identity, r Request) *proto.Error {
	if err := p.Exists(r.Channel); err != nil {
		return err
	}
	ns, name, _ := p.Of(r.Channel)
	if r.Action == Subscribe && r.Token {
		return nil
	}
	if users, ok := PersonalUsers(r.Channel); ok {
		switch {
		case id.User == "" || !slices.Contains(users, id.User):
			if r.Token || r.Subscribed {
				break // let in by a token: the rules decide
			}
			return proto.ErrDenied.With("this channel is personal: only the users named after its # may use it")
		case r.Action == Subscribe:
			return nil
		}
	}
	rule := ns.Rules[r.Action]
	if rule == Anyone || rule >= User && id.User != "" || rule >= Subscriber && r.Subscribed && r.Action != Subscribe {
		return nil
	}
	return proto.ErrDenied.With("the namespace %s allows %s to %s", name, r.Action, describe(r.Action, rule))
}

func describe(a Action, r Rule) string {
	switch {
	case a == Subscribe && r <= Subscriber:
		return "those with a subscription token only"
	case r == Nobody:
		return "the server API only"
	case r == Subscriber:
		return "its subscribers and those with more rights only"
	}
	return "clients with a user id only"
}

// PersonalUsers returns who a personal channel belongs to: the users after the # of its name, with commas between them. A name
// with several # is personal and belongs to nobody: it could mean the user after the last one, or one whose id has a # itself.
func PersonalUsers(channel string) (users []string, ok bool) {
	_, after, ok := strings.Cut(channel, "#")
	if !ok || strings.Contains(after, "#") {
		return nil, ok
	}
	return strings.Split(after, ","), true
}

// PersonalChannel is the channel that belongs to one user alone. There is none for an anonymous one, nor for a user id with a
// comma or a # in it, which could not be told from several users, or that is too long for the name of a channel.
func PersonalChannel(user string) (channel string, ok bool) {
	channel = "#" + user
	if user == "" || strings.ContainsAny(user, "#,") || proto.CheckChannel(channel) != nil {
		return "", false
	}
	return channel, true
}
