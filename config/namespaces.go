package config

import (
	"fmt"
	"maps"
	"slices"
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

// maxNamespaceName bounds the name of a namespace, in bytes.
const maxNamespaceName = 64

// Namespace says how the channels of a namespace behave: those whose name begins with the namespace's and a colon.
type Namespace struct {
	// Class is ClassDurable or ClassLive.
	Class string
	// Merge is how long a message may wait for others while the channel is busy, 0 to MaxMerge; 0 means not at all.
	Merge time.Duration
}

// Namespaces are the namespaces by name.
type Namespaces map[string]Namespace

var namespaceKeys = []string{"class", "merge"}

// set reads one key of the namespace called name, which is taken into the list if need be.
func (n *Namespaces) set(name, key, value string) error {
	ns := n.take(name)
	var err error
	switch key {
	case "class":
		if value != ClassDurable && value != ClassLive {
			return fmt.Errorf("%q is not a class; did you mean %s? There are %s and %s",
				clip(value), nearestOf(value, ClassDurable, ClassLive), ClassDurable, ClassLive)
		}
		ns.Class = value
	case "merge":
		ns.Merge, err = ParseDuration(value)
	default:
		return fmt.Errorf("unknown key %q; did you mean %s?", clip(key), nearestOf(key, namespaceKeys...))
	}
	(*n)[name] = ns
	return err
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
	for entry := range strings.SplitSeq(text, ";") {
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
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		switch {
		case !ok:
			return fmt.Errorf("%q has no value; write it like live:class=live,merge=50ms;big:merge=200ms", clip(pair))
		case seen[key]:
			return fmt.Errorf("%s of the namespace %q is given twice; keep one", clip(key), clip(name))
		}
		seen[key] = true
		if err := n.set(name, key, strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("%s: %w", clip(name), err)
		}
	}
	return nil
}

// format writes the namespaces, sorted by name, so that parseNamespaces reads the same back.
func (n Namespaces) format() string {
	var entries []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		ns := n[name]
		entries = append(entries, fmt.Sprintf("%s:class=%s,merge=%s", name, ns.Class, FormatDuration(ns.Merge)))
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
		entry := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, Content: []*yaml.Node{
			scalar("class"), scalar(ns.Class), scalar("merge"), scalar(FormatDuration(ns.Merge)),
		}}
		root.Content = append(root.Content, scalar(name), entry)
	}
	return root
}

func (n Namespaces) check(p *Problems) {
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if !namespaceName(name) {
			p.addf("namespaces: %q cannot name a namespace; give 1 to %d letters, digits, dots, dashes and underscores", clip(name), maxNamespaceName)
		}
		if m := n[name].Merge; m < 0 || m > MaxMerge {
			p.addf("namespaces.%s.merge: %s is out of bounds; give 0s to %s", clip(name), FormatDuration(m), FormatDuration(MaxMerge))
		}
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
