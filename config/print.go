package config

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

var secretParameter = regexp.MustCompile(`(?i)([?&][^=&#]*(?:password|secret|token)[^=&#]*=)[^&#]*`)

// masked stands for what is hidden.
const masked = "****"

// Mask replaces the password in a URL, and parameters whose names say that they are secret, by stars. It works on text
// that is no valid URL too, where it rather hides too much.
func Mask(text string) string {
	text = secretParameter.ReplaceAllString(text, "${1}"+masked)
	start := strings.Index(text, "://")
	at := strings.LastIndexByte(text, '@')
	if start < 0 || at < start {
		return text
	}
	start += len("://")
	colon := strings.IndexByte(text[start:at], ':')
	if colon < 0 {
		return text
	}
	return text[:start+colon+1] + masked + text[at:]
}

// maskItem hides the last part of NAME:SCOPE:KEY, and everything of what is written otherwise.
func maskItem(item string) string {
	name, rest, _ := strings.Cut(item, ":")
	scope, _, ok := strings.Cut(rest, ":")
	if !ok {
		return masked
	}
	return name + ":" + scope + ":" + masked
}

// Print writes the settings as a file that Load reads, each with a comment that says what it means. Secrets, and passwords in
// URLs, are masked unless showSecrets.
func (c *Config) Print(w io.Writer, showSecrets bool) error {
	var b strings.Builder
	group := ""
	for i := range settings {
		s := &settings[i]
		indent, key := "", s.Name
		if g, k, grouped := strings.Cut(s.Name, "."); grouped {
			indent, key = "  ", k
			if g != group {
				fmt.Fprintf(&b, "\n%s:\n", g)
				group = g
			} else {
				b.WriteByte('\n')
			}
		} else if i > 0 {
			b.WriteByte('\n')
		}
		for _, line := range wrap(s.Doc, 100-len(indent)) {
			fmt.Fprintf(&b, "%s# %s\n", indent, line)
		}
		value, err := s.yaml(c, showSecrets)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s%s: %s\n", indent, key, value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// yaml writes the setting's value as it stands behind its key.
func (s *Setting) yaml(c *Config, showSecrets bool) (string, error) {
	n := yaml.Node{Kind: yaml.ScalarNode}
	show := s.secret.show
	if showSecrets {
		show = public.show
	}
	switch p := s.field(c).(type) {
	case *[]string:
		n = yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range *p {
			var v yaml.Node
			v.SetString(show(item))
			// A folded or literal block cannot stand inside a flow list.
			v.Style = yaml.DoubleQuotedStyle
			n.Content = append(n.Content, &v)
		}
	case *Namespaces:
		n = p.yaml()
	case *string:
		text := show(*p)
		n.SetString(text)
		if strings.ContainsAny(text, "\r\n") {
			n.Style = yaml.DoubleQuotedStyle
		}
	default:
		n.Value = s.format(c)
	}
	out, err := yaml.Marshal(&n)
	return strings.TrimSuffix(string(out), "\n"), err
}

// wrap breaks text into lines of at most width bytes where words allow it.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// Reference writes docs/settings.md.
func Reference(w io.Writer) error {
	c := Default()
	var b strings.Builder
	b.WriteString(referenceHead)
	for i := range settings {
		s := &settings[i]
		value := s.format(&c)
		if value == "" {
			value = "empty"
		} else {
			value = "`" + value + "`"
		}
		flag := "--" + s.Flag()
		if s.Hint != "" {
			flag += " " + s.Hint
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| default | environment | flag of `serve` |\n|---|---|---|\n| %s | `%s` | `%s` |\n",
			s.Name, strings.Join(wrap(s.Doc, 120), "\n"), value, s.Env(), flag)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const referenceHead = `# Settings

This page is written by ` + "`barrage config reference`" + ` from the settings of the program; ` + "`go generate ./config`" + ` renews it.

A setting comes from the file that ` + "`--config`" + ` or ` + "`BARRAGE_CONFIG`" + ` names, then from the environment, then from flags; the later
one wins. The file is YAML; a dot in a name stands for a group:

` + "```yaml" + `
listen: 127.0.0.1:8000
limits:
  message: 64KiB
origins: ["https://example.com"]
namespaces:
  live: {class: live, merge: 50ms}
` + "```" + `

- A key of the file or a variable ` + "`BARRAGE_…`" + ` that is not known is an error that names the nearest known one. Variables that
  begin with ` + "`BARRAGE_TEST_`" + ` belong to the tests and are ignored. An empty variable counts as not set.
- A duration is a number with a unit: ` + "`250ms`, `25s`, `10m`, `12h`, `7d`" + `.
- A size is a number of bytes, or a number with ` + "`KiB`, `MiB`, `GiB` (1024) or `KB`, `MB`, `GB`" + ` (1000).
- A list is a YAML list; in the environment and in flags it is separated by commas.
- ` + "`barrage config check`" + ` says what is wrong, ` + "`barrage config print`" + ` shows what is in force.
`
