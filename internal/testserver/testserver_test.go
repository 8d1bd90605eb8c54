package testserver

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestNobodyIsAtAnAddress(t *testing.T) {
	addr, release, err := Nobody()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody answers: a connection is refused, not %v, %v", c, err)
	}
	if l, err := net.Listen("tcp", addr); err == nil {
		l.Close()
		t.Error("nobody else can listen there")
	}
	release()
	release() // again is nothing
}

func TestNoPortIsGivenTwice(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < firstPort || port >= firstPort+ports {
			t.Fatalf("a port that was not given yet is given, of those that the system leaves alone, not %d", port)
		}
		seen[port] = true
	}
}
