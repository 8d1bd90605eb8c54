package repo

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"barrage/config"
)

// composition is what is checked of deploy/compose.yaml.
type composition struct {
	Services map[string]struct {
		Image       string
		Build       any
		Environment map[string]string
		Ports       []string
		Healthcheck struct{ Test any }
		Networks    yaml.Node
		Depends     map[string]any `yaml:"depends_on"`
	}
	Volumes map[string]any
}

func readComposition(t *testing.T) composition {
	t.Helper()
	text := read(t, "deploy/compose.yaml")
	text = regexp.MustCompile(`\$\{\w+:-([^}]*)\}`).ReplaceAllString(text, "$1")
	var c composition
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("deploy/compose.yaml is YAML: %v", err)
	}
	return c
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCompositionIsWhole(t *testing.T) {
	c := readComposition(t)
	want := []string{"nginx", "node1", "node2", "node3", "postgres", "redis"}
	if got := slices.Sorted(maps.Keys(c.Services)); !slices.Equal(got, want) {
		t.Fatalf("the cluster is %v: got %v", want, got)
	}
	pinned := regexp.MustCompile(`^[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-\w+)?$`)
	for name, s := range c.Services {
		if s.Build == nil && !pinned.MatchString(s.Image) {
			t.Errorf("the image of %s is pinned to a version: %q", name, s.Image)
		}
		if s.Healthcheck.Test == nil {
			t.Errorf("%s has a health check", name)
		}
		for other := range s.Depends {
			if _, ok := c.Services[other]; !ok {
				t.Errorf("%s depends on %s, which is there", name, other)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s is closed by default: its port %s is published on loopback only", name, p)
			}
		}
	}
	if _, ok := c.Volumes["postgres"]; !ok {
		t.Error("the messages are in a named volume")
	}
}

func TestNodesOfTheCompositionHaveGoodSettings(t *testing.T) {
	names := map[string]bool{}
	for service, s := range readComposition(t).Services {
		if !strings.HasPrefix(service, "node") {
			continue
		}
		var env []string
		for name, value := range s.Environment {
			env = append(env, name+"="+value)
		}
		cfg, err := config.Load("", env, nil)
		if err != nil {
			t.Errorf("the environment of %s is understood: %v", service, err)
			continue
		}
		if cfg.Name == "" || names[cfg.Name] {
			t.Errorf("%s has a name of its own: %q", service, cfg.Name)
		}
		names[cfg.Name] = true
		if !strings.HasSuffix(cfg.Listen, ":8000") || !strings.Contains(read(t, "deploy/nginx/nodes.conf"), "server "+service+":8000 ") {
			t.Errorf("%s listens at %s, and nodes.conf of nginx names it with that port", service, cfg.Listen)
		}
	}
}
