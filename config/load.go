package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	envPrefix = "BARRAGE_"
	// envFile names the file when no path is given; it is no setting itself.
	envFile = envPrefix + "CONFIG"
	// envToken is for the commands that connect as a client: no setting of a server.
	envToken = envPrefix + "TOKEN"
	// envIgnored begins variables that belong to the project's tests.
	envIgnored = envPrefix + "TEST_"
	// maxFile bounds the settings file, in bytes.
	maxFile = 1 << 20
)

// Problems is what is wrong with settings: one sentence each, never empty when used as an error.
type Problems []string

func (p Problems) Error() string { return strings.Join(p, "\n") }

func (p *Problems) addf(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Load gives the settings from the file at path, the environment (entries "NAME=value"), and flags (setting names to
// values), each overriding the one before. An empty path means the file that BARRAGE_CONFIG names, or none. An empty
// variable counts as not set. The error, when there is one, is of type Problems and holds everything that could not be
// understood; the settings are then what could be.
func Load(path string, environ []string, flags map[string]string) (Config, error) {
	c := Default()
	var problems Problems
	if path == "" {
		path = lookup(environ, envFile)
	}
	if path != "" {
		loadFile(&c, path, &problems)
	}
	loadEnviron(&c, environ, &problems)
	loadFlags(&c, flags, &problems)
	return c, problems.err()
}

func lookup(environ []string, name string) string {
	for _, entry := range environ {
		if n, v, _ := strings.Cut(entry, "="); n == name {
			return v
		}
	}
	return ""
}

func loadFile(c *Config, path string, problems *Problems) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			problems.addf("the settings file %s does not exist; create it or leave out --config", path)
		} else {
			problems.addf("the settings file cannot be read: %v", err)
		}
		return
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		problems.addf("the settings file cannot be read: %v", err)
	case len(text) > maxFile:
		problems.addf("the settings file %s is larger than 1MiB; is it the right file?", path)
	default:
		parseFile(c, path, text, problems)
	}
}

// fileReader walks the tree of one settings file.
type fileReader struct {
	path     string
	config   *Config
	problems *Problems
}

// parseFile reads text, the content of the settings file called path, into c.
func parseFile(c *Config, path string, text []byte, problems *Problems) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			problems.addf("%s", yamlError(path, err))
		}
		return
	}
	r := fileReader{path: path, config: c, problems: problems}
	var more yaml.Node
	if err := decoder.Decode(&more); err == nil && len(more.Content) > 0 {
		r.problem(more.Content[0], "the file holds a second document; keep one")
	} else if err != nil && !errors.Is(err, io.EOF) {
		problems.addf("%s", yamlError(path, err))
	}
	if len(doc.Content) == 1 {
		r.group("", doc.Content[0])
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yamlError writes a syntax error as FILE:LINE: what is wrong.
func yamlError(path string, err error) string {
	text := err.Error()
	m := yamlLine.FindStringSubmatch(text)
	if m == nil {
		return fmt.Sprintf("%s: %s", path, text)
	}
	text = strings.TrimPrefix(text, m[0])
	if m[1] == "" {
		return fmt.Sprintf("%s: this is not YAML: %s", path, text)
	}
	return fmt.Sprintf("%s:%s: this is not YAML: %s", path, m[1], text)
}

func (r *fileReader) problem(n *yaml.Node, format string, args ...any) {
	r.problems.addf("%s:%d: %s", r.path, n.Line, fmt.Sprintf(format, args...))
}

func empty(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// group reads a mapping: the whole file when name is empty.
func (r *fileReader) group(name string, n *yaml.Node) {
	if empty(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		if name == "" {
			r.problem(n, "the file must hold lines of the form \"name: value\"")
		} else {
			r.problem(n, "%s is a group of settings; put them below it, indented", name)
		}
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := k.Value
		if name != "" {
			key = name + "." + key
		}
		if line, twice := seen[key]; twice {
			r.problem(k, "%s is set twice, first on line %d; remove one", clip(key), line)
			continue
		}
		seen[key] = k.Line
		r.entry(key, k, v)
	}
}

func (r *fileReader) entry(key string, k, v *yaml.Node) {
	s, known := find(key)
	switch {
	case !known && isGroup(key) && !strings.Contains(key, "."):
		r.group(key, v)
	case !known:
		r.problem(k, "unknown setting %q; did you mean %s?", clip(key), nearest(key))
	case empty(v):
		r.problem(k, "%s has no value; give one or remove the line", key)
	case v.Kind == yaml.ScalarNode:
		if err := s.set(r.config, v.Value); err != nil {
			r.problem(v, "%s: %v", key, err)
		}
	case v.Kind == yaml.SequenceNode:
		r.list(s, v)
	case v.Kind == yaml.MappingNode && s.mapping():
		r.namespaces(key, s.field(r.config).(*Namespaces), v)
	default:
		r.problem(v, "%s takes one value, written on the line itself", key)
	}
}

func (r *fileReader) list(s *Setting, n *yaml.Node) {
	var items []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || empty(item) {
			r.problem(item, "%s: every item of the list must be one value", s.Name)
			return
		}
		items = append(items, item.Value)
	}
	if !s.setList(r.config, items) {
		r.problem(n, "%s takes one value, not a list", s.Name)
	}
}

// namespaces reads a mapping of names to namespaces; it replaces what was there.
func (r *fileReader) namespaces(key string, into *Namespaces, n *yaml.Node) {
	*into = nil
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		name := k.Value
		if line, twice := seen[name]; twice {
			r.problem(k, "%s.%s is set twice, first on line %d; remove one", key, clip(name), line)
			continue
		}
		seen[name] = k.Line
		into.take(name)
		switch {
		case empty(v):
		case v.Kind != yaml.MappingNode:
			r.problem(v, "%s.%s is a group of settings; put its keys (class, merge, subscribe, …) below it, indented", key, clip(name))
		default:
			r.namespace(key+"."+clip(name), name, into, v)
		}
	}
}

func (r *fileReader) namespace(path, name string, into *Namespaces, n *yaml.Node) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if line, twice := seen[k.Value]; twice {
			r.problem(k, "%s.%s is set twice, first on line %d; remove one", path, clip(k.Value), line)
			continue
		}
		seen[k.Value] = k.Line
		if v.Kind != yaml.ScalarNode || empty(v) {
			r.problem(v, "%s.%s takes one value, written on the line itself", path, clip(k.Value))
			continue
		}
		if err := into.set(name, k.Value, v.Value); err != nil {
			r.problem(k, "%s: %v", path, err)
		}
	}
}

func loadEnviron(c *Config, environ []string, problems *Problems) {
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, envIgnored) || name == envFile || name == envToken {
			continue
		}
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.Env() == name })
		if i < 0 {
			key := strings.ToLower(strings.TrimPrefix(name, envPrefix))
			s, _ := find(nearest(key))
			problems.addf("unknown environment variable %s; did you mean %s?", clip(name), s.Env())
			continue
		}
		if value == "" {
			continue
		}
		if err := settings[i].set(c, value); err != nil {
			problems.addf("%s: %v", name, err)
		}
	}
}

func loadFlags(c *Config, flags map[string]string, problems *Problems) {
	for i := range settings {
		s := &settings[i]
		if value, ok := flags[s.Name]; ok {
			if err := s.set(c, value); err != nil {
				problems.addf("--%s: %v", s.Flag(), err)
			}
		}
	}
	for name := range flags {
		if _, ok := find(name); !ok {
			problems.addf("unknown setting %q; did you mean %s?", clip(name), nearest(name))
		}
	}
}
