//go:build system

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"barrage/auth"
	"barrage/internal/testserver"

	"github.com/chromedp/chromedp"
)

// startBrowser starts one Chromium for a test; openPage opens pages in it.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(findBrowser(t)), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-US"),
		// Pages in the background go on at full speed, so that two pages can be tested at once.
		chromedp.Flag("disable-background-timer-throttling", true), chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	browser, quit := chromedp.NewContext(allocator)
	t.Cleanup(func() { quit(); stop() })
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("the browser starts: %v", err)
	}
	return browser
}

func findBrowser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no browser is installed: scripts/install-test-deps.sh installs Chromium on Debian")
	return ""
}

// page is one tab with its own storage, as another visitor would have.
type page struct {
	t   *testing.T
	ctx context.Context
}

// openPage opens the live room as a new visitor with a name, and waits until it is connected. The picture of a page is
// kept when the test fails.
func openPage(t *testing.T, browser context.Context, url, name string) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	p := &page{t: t, ctx: ctx}
	t.Cleanup(func() {
		if t.Failed() {
			p.picture(name)
		}
		cancel()
	})
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatalf("the live room loads: %v", err)
	}
	p.wait("the page says that it is live", `document.querySelector('#status')?.dataset.phase === 'live'`)
	return p
}

// picture saves what the page looks like into the folder for temporary files.
func (p *page) picture(name string) {
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Logf("no picture of the page of %s: %v", name, err)
		return
	}
	file := filepath.Join(os.TempDir(), fmt.Sprintf("barrage-%s-%s.png", strings.ReplaceAll(p.t.Name(), "/", "-"), name))
	if os.WriteFile(file, png, 0o644) == nil {
		p.t.Logf("picture of the page of %s: %s", name, file)
	}
}

// evaluate returns the value of an expression in the page.
func evaluate[T any](p *page, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, defaultWait)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s has a value: %v", expression, err)
	}
	return v
}

// wait waits until an expression is true in the page; what is the sentence that is true then.
func (p *page) wait(what, expression string) {
	p.t.Helper()
	eventually(p.t, 20*time.Second, what, func() bool { return evaluate[bool](p, "!!("+expression+")") })
}

// texts are the messages in the chat column, from top to bottom.
func (p *page) texts() []string {
	return evaluate[[]string](p, `[...document.querySelectorAll('#rows .row .text')].map(e => e.textContent)`)
}

// waitText waits until a message is in the chat column, once.
func (p *page) waitText(text string) {
	p.t.Helper()
	quoted, _ := json.Marshal(text)
	p.wait(fmt.Sprintf("%q is in the chat column once", text), fmt.Sprintf(
		`[...document.querySelectorAll('#rows .row .text')].filter(e => e.textContent === %s).length === 1`, quoted))
}

// say types a message and sends it.
func (p *page) say(text string) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.SendKeys("#text", text+"\r")); err != nil {
		p.t.Fatalf("a message is typed: %v", err)
	}
}

func TestLiveRoomInABrowser(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{})
	c, _ := join(t, n.URL(), "stage", "name=robot", "echo=0")
	for i := 1; i <= 3; i++ {
		publish(t, c, fmt.Sprintf(`"before %d"`, i))
	}

	browser := startBrowser(t)
	ann := openPage(t, browser, n.URL()+"/?channel=stage", "ann")
	for i := 1; i <= 3; i++ {
		ann.waitText(fmt.Sprint("before ", i)) // history on open
	}
	bob := openPage(t, browser, n.URL()+"/?channel=stage", "bob")

	ann.say("hello from ann")
	ann.waitText("hello from ann")
	bob.waitText("hello from ann")
	if m := nextMessage(t, c); m.Offset != 4 || !strings.Contains(string(m.Data), "hello from ann") {
		t.Errorf("what a page says reaches every other client: got %+v", m)
	}

	// What a message holds is text, never markup.
	evil := `<img src=x onerror="document.title='owned'"><b>bold</b>`
	data, _ := json.Marshal(evil)
	send(t, c, `{"publish":{"data":`+string(data)+`}}`)
	bob.waitText(evil)
	if title := evaluate[string](bob, "document.title"); strings.Contains(title, "owned") {
		t.Error("markup in a message is not run")
	}
	if n := evaluate[int](bob, "document.querySelectorAll('#rows .text *, #bullets img, #bullets b').length"); n != 0 {
		t.Errorf("a message makes no elements of its own: %d found", n)
	}
	// And it flies over the stage.
	send(t, c, `{"publish":{"data":"flying by"}}`)
	bob.wait("a new message flies over the stage", `document.querySelector('#bullets').textContent.includes('flying by')`)

	want := append([]string{"before 1", "before 2", "before 3", "hello from ann"}, evil, "flying by")
	ann.waitText("flying by")
	if got := ann.texts(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the chat column has all messages in their order: got %q, want %q", got, want)
	}
}

// Browsers offer compression always; a node that is told to accepts it.
func TestLiveRoomWithCompression(t *testing.T) {
	n := startNode(t, testserver.NodeOptions{Args: []string{"--compression", "--compression-threshold", "1B"}})
	c, _ := join(t, n.URL(), "stage", "name=robot") // without compression, in the same room
	long := strings.Repeat("大家好 hello everyone, ", 40)
	publish(t, c, `"before: `+long+`"`)
	if m := nextMessage(t, c); m.Offset != 1 {
		t.Fatalf("the message comes back: got %+v", m)
	}
	browser := startBrowser(t)
	ann := openPage(t, browser, n.URL()+"/?channel=stage", "ann")
	bob := openPage(t, browser, n.URL()+"/?channel=stage", "bob")
	ann.wait("history is shown", `document.querySelector('#rows .row .text')?.textContent.startsWith('before: ')`)
	ann.say("hello from ann, hello from ann, hello from ann")
	ann.waitText("hello from ann, hello from ann, hello from ann")
	bob.waitText("hello from ann, hello from ann, hello from ann")
	if m := nextMessage(t, c); m.Offset != 2 || !strings.Contains(string(m.Data), "hello from ann, hello") {
		t.Errorf("what a page says compressed reaches a client without compression: got %+v", m)
	}
	send(t, c, `{"publish":{"data":"after"}}`)
	bob.waitText("after")

	resp, err := http.Get(n.URL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"barrage_received_compressed_total", "barrage_compressed_total"} {
		if found := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(text); found == nil || string(found[1]) == "0" {
			t.Errorf("compression is used in both directions: %s is %q", name, found)
		}
	}
}

func TestLiveRoomSurvivesItsNode(t *testing.T) {
	c := startCluster(t, testserver.ClusterOptions{})
	browser := startBrowser(t)
	p := openPage(t, browser, c.URL()+"/?channel=stage", "ann")
	p.say("before the fall")
	p.waitText("before the fall")

	p.wait("the page says which node it is on", `document.querySelector('#node').textContent.trim() !== ''`)
	words := strings.Fields(evaluate[string](p, `document.querySelector('#node').textContent`))
	var survivor *testserver.Node
	killed := false
	for _, n := range c.Nodes {
		if n.Name() != words[len(words)-1] {
			survivor = n
			continue
		}
		killed = true
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if !killed {
		t.Fatalf("the page names its node: it says %q", words)
	}
	// A message during the pause: the page must fetch it when it is back.
	other, _ := join(t, survivor.URL(), "stage", "echo=0")
	publish(t, other, `"during the pause"`)
	p.waitText("during the pause")
	p.wait("the page is live again", `document.querySelector('#status').dataset.phase === 'live'`)
	p.say("after the fall")
	p.waitText("after the fall")
	if got, want := p.texts(), []string{"before the fall", "during the pause", "after the fall"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the page shows every message once and in order: got %q, want %q", got, want)
	}
}

// With authentication the page needs a token, which stands in the part of its address that no server is sent.
func TestLiveRoomWithAToken(t *testing.T) {
	secret := "a secret of at least sixteen bytes"
	n := startNode(t, testserver.NodeOptions{
		Args: []string{"--namespaces", "default:subscribe=user,publish=subscriber"}, Env: []string{"BARRAGE_AUTH_SECRET=" + secret},
	})
	token, err := auth.Signer{Key: []byte(secret)}.Sign(map[string]any{"sub": "ann"})
	if err != nil {
		t.Fatal(err)
	}
	browser := startBrowser(t)
	ann := openPage(t, browser, n.URL()+"/?channel=stage#token="+token, "ann")
	ann.say("hello with a token")
	ann.waitText("hello with a token")
	ann.wait("who wrote it is the token's user", `document.querySelector('#rows .row .name')?.textContent.includes('ann')`)
	ann.wait("the page shows who one is, and does not let one edit it",
		`document.querySelector('#name').value === 'ann' && document.querySelector('#name').readOnly`)

	expired, err := auth.Signer{Key: []byte(secret)}.Sign(map[string]any{"sub": "ann", "exp": time.Now().Add(-time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	evaluate[string](ann, `location.hash = '#token=`+expired+`'`)
	ann.wait("an expired token ends it, and the page says what to do", `document.querySelector('#status').dataset.phase === 'ended'
		&& document.querySelector('#hint').innerText.includes('has expired')`)
	evaluate[string](ann, `location.hash = ''`)
	ann.wait("without a token the page says that it needs one", `document.querySelector('#status').dataset.phase === 'ended'
		&& document.querySelector('#hint').innerText.includes('needs a token')`)
	evaluate[string](ann, `location.hash = '#token=`+token+`'`)
	ann.waitText("hello with a token")
}
