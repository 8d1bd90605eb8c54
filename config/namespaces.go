package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Classes of messages.
const (
	// ClassDurable stores every message before it is acknowledged.
	ClassDurable = "durable"
	// ClassLive stores nothing: messages are delivered at most once.
	ClassLive = "live"
)

// DefaultNamespace is the entry for channels that belong to no other.
const DefaultNamespace = "default"

// MaxMerge is the largest value of Namespace.Merge.
const MaxMerge = 10 * time.Second

const (
	// maxNamespaceName bounds the name of a namespace, in bytes.
	maxNamespaceName = 64
	// maxPattern bounds Namespace.Pattern, in bytes.
	maxPattern = 1000
)

// Rules are the words for who may do something: package auth says what they mean.
var Rules = []string{"nobody", "subscriber", "user", "anyone"}

// Namespace says how the channels of a namespace behave: those whose name begins with the namespace's and a colon.
type Namespace struct {
	// Class is ClassDurable or ClassLive.
	Class string
	// Merge is how long a message may wait for others while the channel is busy, 0 to MaxMerge; 0 means not at all.
	Merge time.Duration
	// Subscribe, Publish, History and Presence say who may; each is one of Rules, or empty for what holds without.
	Subscribe, Publish, History, Presence string
	// JoinLeave tells members of others that come and go.
	JoinLeave bool
	// Pattern is the regular expression that the whole name after the colon must match; empty for any. See CompilePattern.
	Pattern string
	// Count and Age are what the namespace's channels keep; 0 means History.Count and History.Age.
	Count int64
	Age   time.Duration
}

// Namespaces are the namespaces by name.
type Namespaces map[string]Namespace

// CompilePattern makes the pattern of a namespace, which must match as a whole.
func CompilePattern(text string) (*regexp.Regexp, error) {
	// Alone first: an unbalanced bracket would otherwise match those that anchor it.
	if _, err := regexp.Compile(text); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + text + `)\z`)
}

// namespaceKey is one key of a namespace: how it is read and written. Which are always written, the others only when they are set.
type namespaceKey struct {
	name   string
	always bool
	field  func(ns *Namespace) any
}

// className and ruleName are the types of fields whose values are words of a list.
type (
	className struct{ text *string }
	ruleName  struct{ text *string }
)

var namespaceKeys = []namespaceKey{
	{"class", true, func(ns *Namespace) any { return className{&ns.Class} }},
	{"merge", true, func(ns *Namespace) any { return &ns.Merge }},
	{"subscribe", false, func(ns *Namespace) any { return ruleName{&ns.Subscribe} }},
	{"publish", false, func(ns *Namespace) any { return ruleName{&ns.Publish} }},
	{"history", false, func(ns *Namespace) any { return ruleName{&ns.History} }},
	{"presence", false, func(ns *Namespace) any { return ruleName{&ns.Presence} }},
	{"join_leave", false, func(ns *Namespace) any { return &ns.JoinLeave }},
	{"pattern", false, func(ns *Namespace) any { return &ns.Pattern }},
	{"count", false, func(ns *Namespace) any { return &ns.Count }},
	{"age", false, func(ns *Namespace) any { return &ns.Age }},
}

// set reads one key of the namespace called name, which is taken into the list if need be.
func (n *Namespaces) set(name, key, value string) error {
	ns := n.take(name)
	i := slices.IndexFunc(namespaceKeys, func(k namespaceKey) bool { return k.name == key })
	if i < 0 {
		var names []string
		for _, k := range namespaceKeys {
			names = append(names, k.name)
		}
		return fmt.Errorf("unknown key %q; did you mean %s?", clip(key), nearestOf(key, names...))
	}
	if err := namespaceKeys[i].set(&ns, value); err != nil {
		return err
	}
	(*n)[name] = ns
	return nil
}

func (k *namespaceKey) set(ns *Namespace, text string) (err error) {
	switch p := k.field(ns).(type) {
	case className:
		if text != ClassDurable && text != ClassLive {
			return fmt.Errorf("%q is not a class; did you mean %s? There are %s and %s",
				clip(text), nearestOf(text, ClassDurable, ClassLive), ClassDurable, ClassLive)
		}
		*p.text = text
	case ruleName:
		if !slices.Contains(Rules, text) {
			return fmt.Errorf("%s: %q says not who may; did you mean %s? There are %s",
				k.name, clip(text), nearestOf(text, Rules...), strings.Join(Rules, ", "))
		}
		*p.text = text
	case *string:
		*p = text
	case *bool:
		*p, err = parseSwitch(text)
	case *int64:
		*p, err = parseCount[int64](text)
	case *time.Duration:
		*p, err = ParseDuration(text)
	}
	return err
}

// format gives the key's value; shown says whether it is written at all.
func (k *namespaceKey) format(ns *Namespace) (text string, shown bool) {
	switch p := k.field(ns).(type) {
	case className:
		text = *p.text
	case ruleName:
		text = *p.text
	case *string:
		text = *p
	case *bool:
		if *p {
			text = formatSwitch(*p)
		}
	case *int64:
		if *p != 0 {
			text = formatCount(*p)
		}
	case *time.Duration:
		if *p != 0 || k.always {
			text = FormatDuration(*p)
		}
	}
	return text, k.always || text != ""
}

// take returns the namespace called name, with defaults if it is new.
func (n *Namespaces) take(name string) Namespace {
	if *n == nil {
		*n = Namespaces{}
	}
	if _, known := (*n)[name]; !known {
		(*n)[name] = Namespace{Class: ClassDurable}
	}
	return (*n)[name]
}

// parseNamespaces reads "live:class=live,merge=50ms;big:merge=200ms".
func parseNamespaces(text string) (Namespaces, error) {
	var n Namespaces
	for _, entry := range splitOutside(text, ';') {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		name, rest, _ := strings.Cut(entry, ":")
		name = strings.TrimSpace(name)
		if _, twice := n[name]; twice {
			return nil, fmt.Errorf("the namespace %q is given twice; keep one", clip(name))
		}
		n.take(name)
		if err := n.parseKeys(name, rest); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *Namespaces) parseKeys(name, text string) error {
	seen := map[string]bool{}
	for _, pair := range splitOutside(text, ',') {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok:
			return fmt.Errorf("%q has no value; write it like live:class=live,merge=50ms;big:merge=200ms", clip(pair))
		case seen[key]:
			return fmt.Errorf("%s of the namespace %q is given twice; keep one", clip(key), clip(name))
		}
		seen[key] = true
		if strings.HasPrefix(value, `"`) {
			text, err := strconv.Unquote(value)
			if err != nil {
				return fmt.Errorf("%s: %s of %s is no text in double quotes", clip(name), clip(value), clip(key))
			}
			value = text
		}
		if err := n.set(name, key, value); err != nil {
			return fmt.Errorf("%s: %w", clip(name), err)
		}
	}
	return nil
}

// splitOutside divides a text at the separators that do not stand in a value in double quotes. Such a value begins after "=", so
// that a quote elsewhere is nothing special; in it a backslash makes the next byte ordinary.
func splitOutside(text string, separator byte) (parts []string) {
	start, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted && strings.HasSuffix(strings.TrimRight(text[start:i], " \t\r\n"), "=")
		case c == separator && !quoted:
			parts, start = append(parts, text[start:i]), i+1
		}
	}
	return append(parts, text[start:])
}

// format writes the namespaces, sorted by name, so that parseNamespaces reads the same back.
func (n Namespaces) format() string {
	var entries []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		ns := n[name]
		var pairs []string
		for _, k := range namespaceKeys {
			text, shown := k.format(&ns)
			if !shown {
				continue
			}
			if strings.ContainsAny(text, "\",;\\") || strings.TrimSpace(text) != text || !strconv.CanBackquote(text) {
				text = strconv.Quote(text)
			}
			pairs = append(pairs, k.name+"="+text)
		}
		entries = append(entries, name+":"+strings.Join(pairs, ","))
	}
	return strings.Join(entries, ";")
}

// yaml writes the namespaces as a mapping on one line.
func (n Namespaces) yaml() yaml.Node {
	root := yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	scalar := func(text string) *yaml.Node {
		var v yaml.Node
		v.SetString(text)
		if v.Style == yaml.LiteralStyle || text == "" {
			v.Style = yaml.DoubleQuotedStyle
		}
		return &v
	}
	for _, name := range slices.Sorted(maps.Keys(n)) {
		ns := n[name]
		entry := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for _, k := range namespaceKeys {
			if text, shown := k.format(&ns); shown {
				entry.Content = append(entry.Content, scalar(k.name), scalar(text))
			}
		}
		root.Content = append(root.Content, scalar(name), entry)
	}
	return root
}

func (n Namespaces) check(p *Problems) {
	for _, name := range slices.Sorted(maps.Keys(n)) {
		ns, key := n[name], "namespaces."+clip(name)
		if !namespaceName(name) {
			p.addf("namespaces: %q cannot name a namespace; give 1 to %d letters, digits, dots, dashes and underscores", clip(name), maxNamespaceName)
		}
		if ns.Merge < 0 || ns.Merge > MaxMerge {
			p.addf("%s.merge: %s is out of bounds; give 0s to %s", key, FormatDuration(ns.Merge), FormatDuration(MaxMerge))
		}
		if _, err := CompilePattern(ns.Pattern); err != nil || len(ns.Pattern) > maxPattern {
			p.addf("%s.pattern: %q is not a regular expression (RE2) of at most %d bytes", key, clip(ns.Pattern), maxPattern)
		}
		notNegative(p, key+".count", ns.Count)
		atLeast(p, key+".age", ns.Age, 0)
	}
}

func namespaceName(name string) bool {
	for _, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune("-._", r) {
			return false
		}
	}
	return name != "" && len(name) <= maxNamespaceName
}
