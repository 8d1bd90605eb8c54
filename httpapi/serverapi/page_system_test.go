//go:build system

package serverapi_test

import (
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

func chromium() string {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	return "/usr/bin/chromium"
}

// The page works in a browser under its own policy: it shows every method, in both languages, and sends what is typed in.
func TestThePageInABrowser(t *testing.T) {
	w := start(t)
	server := httptest.NewServer(w.mux)
	defer server.Close()
	alloc, stop := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(chromium()), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-US"))
	defer stop()
	ctx, cancel := chromedp.NewContext(alloc)
	defer cancel()
	ctx, end := context.WithTimeout(ctx, 60*time.Second)
	defer end()
	js := func(expression string) string {
		t.Helper()
		v, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		return v
	}
	until := func(sentence, expression, part string) {
		t.Helper()
		got := ""
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(25 * time.Millisecond) {
			if got = js(expression); strings.Contains(got, part) {
				return
			}
		}
		t.Fatalf("%s: %s must have %q, and is %q", sentence, expression, part, got)
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL+"/api/docs")); err != nil {
		t.Fatal(err)
	}
	until("the page shows every method", `String(document.querySelectorAll('details').length)`, "16")
	js(`document.getElementById('language').click(), ''`)
	until("the page speaks both languages", `document.body.innerText`, map[bool]string{true: "服务端 API", false: "server API"}[js(`document.documentElement.lang`) == "zh"])
	js(`document.getElementById('publish').open = true, document.getElementById('key').value = '` + adminKey + `', document.querySelector('#publish button').click(), ''`)
	until("the form sends its request and shows the answer", `document.querySelector('#publish pre').textContent`, `"offset": 1`)
	js(`document.querySelector('#publish button').click(), ''`)
	until("the same request again is a new message: what is filled in holds no idempotency key", `document.querySelector('#publish pre').textContent`, `"offset": 2`)
	if outside := js(`String([...document.querySelectorAll('input[type=password]')].filter((e) => !e.form).length)`); outside != "0" {
		t.Errorf("%s password fields stand outside a form, of which browsers warn", outside)
	}
	js(`window.same = 'yes', document.getElementById('key-form').requestSubmit(), ''`)
	until("Enter in the key's field does not load the page anew", `window.same + document.getElementById('key').value`, "yes"+adminKey)
	js(`document.getElementById('key').value = '', document.querySelector('#publish button').click(), ''`)
	until("the form shows what was refused", `document.querySelector('#publish pre').textContent`, "401")

	if err := chromedp.Do(ctx, chromedp.EmulateViewport(375, 700)); err != nil {
		t.Fatal(err)
	}
	js(`document.querySelectorAll('details').forEach((d) => (d.open = true)), ''`)
	if wide := js(`[document.scrollingElement, ...document.querySelectorAll('details > div')].filter((e) => e.scrollWidth > e.clientWidth)
		.map((e) => e.parentElement?.id + ' ' + e.scrollWidth).join()`); wide != "" {
		t.Errorf("on a screen of 375 px nothing scrolls sideways: %s", wide)
	}
	if narrow := js(`[...document.querySelectorAll('tbody td:last-child')].filter((e) => e.clientWidth < 300).length + ' cells'`); narrow != "0 cells" {
		t.Errorf("on a screen of 375 px a field's meaning has the width of the screen: %s are under 300 px", narrow)
	}
}
