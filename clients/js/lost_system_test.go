//go:build system

package js_test

import (
	"bufio"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"barrage/gateway"
	"barrage/internal/testnode"
	"barrage/internal/testserver"
	"barrage/node"
	"barrage/proto"
)

// A cluster that lost its journal while the client was away cannot resume it, whatever its new head: it must say so, and the client
// must say so first. On both sides a publish beyond the limit fails alone.
func TestAJournalThatWasLostIsSaid(t *testing.T) {
	for _, head := range []int{0, 2, 3, 5} { // fewer messages than the client has seen, as many, more
		before, after := startInside(t), startInside(t)
		fill(t, after, head)
		cmd := testserver.Command("node", "test/lost.mjs", "ws://"+before.Addr, "ws://"+after.Addr, "room")
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer stop.Stop()
		var o struct {
			Heard, Large []string
			Limit        int
			Renewed      bool
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() != "seen" {
				if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
					t.Errorf("test/lost.mjs writes what it heard, got %s", lines.Text())
				}
			} else if err := before.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("test/lost.mjs must end by itself within %s: %v\n%s", patience, err, complaints.String())
		}
		n := strconv.Itoa(head)
		want := []string{"message 1", "message 2", "message 3", "reset " + n, "welcome", "message " + strconv.Itoa(head+1)}
		if !slices.Equal(o.Heard, want) || !o.Renewed {
			t.Errorf("in a new epoch with head %s the client hears %q, not %q", n, want, o.Heard)
		}
		if o.Limit != 1000 || !slices.Equal(o.Large, []string{"too_large", "too_large"}) {
			t.Errorf("a publish beyond the limit of 1000 bytes fails alone, got %q with limit %d", o.Large, o.Limit)
		}
		if err := after.Close(); err != nil {
			t.Error(err)
		}
	}
}

func startInside(t *testing.T) *testnode.Server {
	t.Helper()
	n, err := testnode.Start(testnode.Options{Gateway: gateway.Options{MaxMessage: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fill publishes count messages into the room.
func fill(t *testing.T, n *testnode.Server, count int) {
	t.Helper()
	for range count {
		stored := make(chan *proto.Error)
		n.Node.Publish(node.Publication{Channel: "room", Data: []byte(`"x"`)}, func(_ node.Published, err *proto.Error) { stored <- err })
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
}
