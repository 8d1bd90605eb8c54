package migration

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestStepsAreOrderedByNumber(t *testing.T) {
	steps, err := Load(fstest.MapFS{
		"migrations/0002_more.sql": {Data: []byte("two")},
		"migrations/0001_base.sql": {Data: []byte("one")},
		"migrations/README":        {Data: []byte("no step")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || steps[0].SQL != "one" || steps[1].SQL != "two" || steps[1].Version != 2 {
		t.Errorf("steps are %v, want one, two", steps)
	}
}

func TestBadNumbersAreRefused(t *testing.T) {
	for name, want := range map[string]string{
		"migrations/first.sql":    "must begin with its number",
		"migrations/0002_two.sql": "number 1 is expected",
	} {
		_, err := Load(fstest.MapFS{name: {}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load with %s alone says %v, want %q", name, err, want)
		}
	}
}
