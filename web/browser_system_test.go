//go:build system

package web_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/web/webtest"

	"github.com/chromedp/chromedp"
)

// patience is how long a test waits for something that must happen; the machine may be busy.
const patience = 20 * time.Second

// browser is the one browser of all tests; each test gets a context of its own in it, with empty storage.
var browser context.Context

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	alloc, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-renderer-backgrounding", true), chromedp.Flag("disable-background-timer-throttling", true))
	defer stop()
	ctx, cancel := chromedp.NewContext(alloc)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "these tests need Chromium (apt-get install chromium; or its path in CHROMIUM): %v\n", err)
		return 1
	}
	browser = ctx //nolint:fatcontext // one browser for all tests, set once before they run
	return m.Run()
}

func chromium() string {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	return "/usr/bin/chromium"
}

// tab is a page in the browser and the server it came from.
type tab struct {
	t   *testing.T
	ctx context.Context
	*webtest.Server
}

// open is visit, and waits until the page is live.
func open(t *testing.T, path string, width, height int64, prepare func(*webtest.Server)) *tab {
	t.Helper()
	p := visit(t, path, width, height, prepare)
	p.until(`document.getElementById('status').dataset.phase === 'live'`, "the page is live after it opened")
	return p
}

// visit starts a server, lets prepare fill it, and opens path on a screen of the given size. At the end of the test the
// page must not have thrown, nor tried what its own policy forbids.
func visit(t *testing.T, path string, width, height int64, prepare func(*webtest.Server)) *tab {
	t.Helper()
	s := webtest.New()
	t.Cleanup(s.Close)
	if prepare != nil {
		prepare(s)
	}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	var mu sync.Mutex
	var wrong []string
	console := chromedp.Console(ctx)
	go func() {
		for m, err := range console {
			if err != nil {
				return
			}
			if m.IsException() || strings.Contains(m.Text, "Content Security Policy") {
				mu.Lock()
				wrong = append(wrong, m.String())
				mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range wrong {
			t.Errorf("the page complained: %s", m)
		}
	})
	p := &tab{t: t, ctx: ctx, Server: s}
	p.do(chromedp.EmulateViewport(width, height), chromedp.Navigate(s.URL+path))
	return p
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 2*patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// js evaluates an expression without a result.
func (p *tab) js(expression string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](expression, chromedp.EvalAwaitPromise))
}

func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 2*patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for a condition in the page; sentence is what the specification says.
func (p *tab) until(condition, sentence string) {
	p.t.Helper()
	ok := p.wait(func() bool { return eval[bool](p, "!!("+condition+")") })
	if !ok {
		p.t.Fatalf("not within %s: %s (%s)\nrows: %s", patience, sentence, condition,
			strings.Join(p.rows(), " | "))
	}
}

// wait asks again and again until it holds or patience is over.
func (p *tab) wait(holds func() bool) bool {
	deadline := time.After(patience)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		if holds() {
			return true
		}
		select {
		case <-deadline:
			return false
		case <-tick.C:
		}
	}
}

// rows are the texts of the messages that the chat column holds.
func (p *tab) rows() []string {
	p.t.Helper()
	return eval[[]string](p, `[...document.querySelectorAll('#rows .row .text')].map((e) => e.textContent)`)
}

// say types a text and presses Enter.
func (p *tab) say(text string) {
	p.t.Helper()
	p.do(chromedp.SendKeys("#text", text+"\r"))
}

// numbered fills a channel with past messages m1 to mN.
func numbered(s *webtest.Server, channel string, n int) {
	for i := 1; i <= n; i++ {
		s.PublishAt(channel, fmt.Sprintf("user%d", i%9), fmt.Sprintf("m%d", i), time.Now().Add(-time.Hour))
	}
}

// wantRun says whether rows are exactly m(from) to m(to).
func wantRun(t *testing.T, rows []string, from, to int) {
	t.Helper()
	if len(rows) != to-from+1 {
		t.Fatalf("the chat has %d rows; it must have m%d to m%d: %v", len(rows), from, to, rows)
	}
	for i, row := range rows {
		if want := fmt.Sprintf("m%d", from+i); row != want {
			t.Fatalf("row %d of the chat is %q; it must be %q", i, row, want)
		}
	}
}
