//go:build system

package js_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"barrage/internal/testserver"
)

// patience is how long a test waits for something that must happen; the machine may be busy.
const patience = 60 * time.Second

// count is how many messages the scenario publishes.
const count = 200

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer testserver.RemoveBinary()
	return m.Run()
}

// outcome is what test/scenario.mjs saw: pairs of offset and data.
type outcome struct {
	Seen     [][2]int `json:"seen"`
	Stored   [][2]int `json:"stored"`
	Past     [][2]int `json:"past"`
	Trouble  []string `json:"trouble"`
	Welcomes int      `json:"welcomes"`
	Members  int      `json:"members"`
}

// check says what a node's end may not have done.
func (o *outcome) check(t *testing.T) {
	t.Helper()
	if len(o.Trouble) > 0 {
		t.Errorf("nothing may go wrong while the node is away: %v", o.Trouble)
	}
	if o.Welcomes < 2 || o.Members < 1 {
		t.Errorf("the client came back to the node: %d welcomes, %d members", o.Welcomes, o.Members)
	}
	published := map[int]bool{}
	for _, m := range o.Stored {
		published[m[1]] = true
	}
	if len(o.Stored) != count || len(published) != count {
		t.Errorf("each of %d messages is acknowledged once, got %d of %d", count, len(o.Stored), len(published))
	}
	for name, got := range map[string][][2]int{"the stream": o.Seen, "history": o.Past} {
		if len(got) != count {
			t.Fatalf("%s has %d messages; it must have %d, each once", name, len(got), count)
		}
		for i, m := range got {
			if m[0] != i+1 || m != o.Stored[i] {
				t.Fatalf("message %d of %s is %v; it must be what was acknowledged there, %v", i+1, name, m, o.Stored[i])
			}
		}
	}
}

func startNode(t *testing.T) *testserver.Node {
	t.Helper()
	n, err := testserver.StartNode(testserver.NodeOptions{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// endAndStart kills the node and starts it again at the same address.
func endAndStart(t *testing.T, n *testserver.Node) {
	t.Helper()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
}

func TestANodesEndLosesNothingInNode(t *testing.T) {
	n := startNode(t)
	cmd := testserver.Command("node", "test/node.mjs", n.URL(), "room", fmt.Sprint(count))
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
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	var o outcome
	for lines.Scan() {
		if lines.Text() == "half" {
			endAndStart(t, n)
		} else if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Errorf("test/node.mjs writes its outcome, got %s", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("test/node.mjs must end by itself within %s: %v\n%s\nnode:\n%s", patience, err, complaints.String(), n.Logs())
	}
	o.check(t)
}

func TestANodesEndLosesNothingInABrowser(t *testing.T) {
	n := startNode(t)
	page := openPage(t, strings.Replace(n.URL(), "ws://", "http://", 1)+"/")
	scenario, err := os.ReadFile("test/scenario.mjs")
	if err != nil {
		t.Fatal(err)
	}
	page.eval(`void (globalThis.half = new Promise((half) => {
		globalThis.outcome = (async () => {
			const { Barrage } = await import('/assets/barrage.js');
			` + strings.Replace(string(scenario), "export ", "", 1) + `
			return play(Barrage, location.origin, 'room', ` + fmt.Sprint(count) + `, half);
		})();
	}))`)
	page.eval(`Promise.race([half, outcome]).then(() => 'half')`)
	endAndStart(t, n)
	var o outcome
	if err := json.Unmarshal([]byte(page.eval(`globalThis.outcome.then(JSON.stringify)`)), &o); err != nil {
		t.Fatal(err)
	}
	o.check(t)
}

// tab is a page in a browser of its own.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func openPage(t *testing.T, url string) *tab {
	t.Helper()
	path := "/usr/bin/chromium"
	if named := os.Getenv("CHROMIUM"); named != "" {
		path = named
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true))
	t.Cleanup(stop)
	browser, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	ctx, cancelLate := context.WithTimeout(browser, 2*patience)
	t.Cleanup(cancelLate)
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatalf("the page opens (this needs Chromium; its path may be in CHROMIUM): %v", err)
	}
	return &tab{t: t, ctx: ctx}
}

// eval gives the text that an expression comes to, once its promise is kept; empty for undefined.
func (p *tab) eval(expression string) string {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[*string](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	if v == nil {
		return ""
	}
	return *v
}
