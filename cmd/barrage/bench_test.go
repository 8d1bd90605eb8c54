package main

import (
	"slices"
	"strings"
	"testing"

	"barrage/internal/load"
)

func TestSeveralAddressesMayBeDividedByCommas(t *testing.T) {
	got := splitURLs([]string{"ws://a/raw/{room}?x=1,2,ws://b/{room}", "ws://c/"})
	if want := []string{"ws://a/raw/{room}?x=1,2", "ws://b/{room}", "ws://c/"}; !slices.Equal(got, want) {
		t.Errorf("a comma divides where an address follows, want %q, got %q", want, got)
	}
}

func TestProcessesOfTheServerMayBeNamed(t *testing.T) {
	got, err := parseServers([]string{"12", "redis=34", "nodes=5"})
	if want := []load.Server{{Name: "server", PID: 12}, {Name: "redis", PID: 34}, {Name: "nodes", PID: 5}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("want %v, got %v, %v", want, got, err)
	}
	for _, bad := range []string{"", "x", "0", "=3", "redis=", "redis=x"} {
		if _, err := parseServers([]string{bad}); err == nil || !strings.Contains(err.Error(), "--server-pid") {
			t.Errorf("%q is no process, got %v", bad, err)
		}
	}
}
