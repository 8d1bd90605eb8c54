//go:build system

package web_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"barrage/web/webtest"

	"github.com/chromedp/chromedp"
)

// asking makes a server let in ann and bob only; eve's token has expired.
func asking(s *webtest.Server) {
	s.Tokens(map[string]string{"anns": "ann", "bobs": "bob", "eves": webtest.Expired})
}

// hints waits until the stage says all of these.
func (p *tab) hints(sentence string, parts ...string) {
	p.t.Helper()
	for _, part := range parts {
		p.until(fmt.Sprintf(`!document.getElementById('hint').hidden && document.getElementById('hint').innerText.includes(%q)`, part), sentence)
	}
}

func (p *tab) live(sentence string) {
	p.t.Helper()
	p.until(`document.getElementById('status').dataset.phase === 'live'`, sentence)
}

func TestAPageWithoutATokenSaysHowToGiveOne(t *testing.T) {
	p := visit(t, "/", 1200, 700, asking)
	p.hints("the page says that it needs a token, how to give one, and what the server said",
		"needs a token", "behind the address", "#token=…", "a token is needed")
	if said := eval[string](p, `document.getElementById('announce').textContent`); !strings.Contains(said, "#token=…") {
		t.Errorf("a screen reader is told %q; it must be told how to give a token", said)
	}
	p.do(chromedp.Click("#language"))
	p.hints("it says so in Chinese, beside the server's sentence", "令牌", "#token=…", "a token is needed")

	p.js(`location.hash = '#token=anns'`)
	p.live("a token behind the address of the open page is used at once")
	p.js(`location.hash = '#token=forged'`)
	p.hints("another token is tried in its turn, and what is wrong with it is said", "令牌无效", "#token=…")
	p.js(`location.hash = '#token=not a token'`)
	p.hints("so it is with what no socket takes", "令牌无效")
	p.do(chromedp.NavigateBack(), chromedp.NavigateBack())
	p.live("going back goes back to the token that was good")
}

func TestATokenThatHasExpiredIsNotTriedForEver(t *testing.T) {
	p := visit(t, "/?channel=stage#token=eves", 1200, 700, asking)
	p.hints("the page says that the token has expired and what to do", "has expired", "new one", "#token=…")
	if phase := eval[string](p, `document.getElementById('status').dataset.phase`); phase != "ended" {
		t.Errorf("the phase is %q; a page that cannot come back by itself must not say that it does", phase)
	}
	p.do(chromedp.Click("#language"))
	p.hints("it says so in Chinese", "令牌已过期", "#token=…")
	p.js(`location.hash = '#token=anns'`)
	p.live("a new token opens the channel again")
	if name := eval[string](p, `document.getElementById('channel-name').textContent`); name != "stage" {
		t.Errorf("the new token opened %q; it must be the same channel", name)
	}
}

func TestWhatCouldNotBeSentSurvivesANewToken(t *testing.T) {
	p := open(t, "/#token=anns", 1200, 700, asking)
	p.Tokens(map[string]string{"anns": webtest.Expired, "new": "ann"})
	p.Drop(3005)
	p.hints("the page says that the token has expired", "has expired")
	p.say("written too late")
	p.until(`document.querySelector('#pending .failed')`, "what is written then could not be sent")
	p.js(`location.hash = '#token=new'`)
	p.live("the new token is used")
	p.js(`document.querySelector('#pending .failed button').click()`)
	p.until(`document.querySelectorAll('#rows .row.own').length === 1 && document.querySelectorAll('#pending li').length === 0`,
		"it can be sent under the new token")
}

func TestTheNameOfATokenIsShownAndCannotBeEdited(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	guest := eval[string](p, `document.getElementById('name').value`)
	name := func(value string, readOnly bool) string {
		return fmt.Sprintf(`document.getElementById('name').value === %q && document.getElementById('name').readOnly === %t`, value, readOnly)
	}
	p.until(name(guest, false), "without a token the name can be chosen")
	asking(p.Server)
	p.js(`location.hash = '#token=anns'`)
	p.until(name("ann", true), "the user of the token is shown, and cannot be edited")
	p.js(`location.hash = '#token=bobs'`)
	p.until(name("bob", true), "so is the user of another token")
	p.say("hello")
	p.until(`document.querySelectorAll('#rows .row.own').length === 1`, "the message is shown")
	if m := p.Messages("lobby"); m[0].User != "bob" {
		t.Errorf("the message is by %q; it must be by the name that is shown", m[0].User)
	}
	p.Tokens(nil)
	p.js(`location.hash = ''`)
	p.until(name(guest, false), "without the token the chosen name is back")
	p.do(chromedp.Reload())
	p.until(name(guest, false), "a token's user is not remembered as the chosen name")
}

func TestTheWaysToTheLobbyKeepTheToken(t *testing.T) {
	p := open(t, "/?channel=stage#token=anns", 1200, 700, asking)
	p.do(chromedp.Click("#home"))
	p.until(`document.getElementById('channel-name')?.textContent === 'lobby' && location.hash === '#token=anns'`, "the logo leads to the lobby, with the token")
	p.live("the lobby is open")
	p.js(`location.hash = '#token=bobs'`)
	p.until(`document.getElementById('name').value === 'bob' && new URL(document.getElementById('home').href).hash === '#token=bobs'`,
		"the logo has the token that is in the address now")
}

func TestANameThatIsNotValidOpensNoOtherRoom(t *testing.T) {
	p := visit(t, "/?channel="+strings.Repeat("x", 300)+"#token=anns", 1200, 700, asking)
	p.hints("the page says that the name is not valid, and offers the lobby", "cannot be opened", "at most 255 bytes", "Open the lobby")
	p.js(`document.getElementById('composer').requestSubmit()`)
	if !eval[bool](p, `document.getElementById('text').disabled && document.getElementById('send').disabled`) {
		t.Error("one can write where no channel is open")
	}
	if n := p.Accepted(); n != 0 {
		t.Errorf("%d connections were made for a name that is not valid", n)
	}
	p.do(chromedp.Click("#language"))
	p.hints("it says so in Chinese", "无法打开这个频道", "最多 255 字节", "进入大厅")
	p.do(chromedp.Click("#hint-lobby"))
	p.until(`document.getElementById('name')?.value === 'ann'`, "the offer opens the lobby, with the token")
	p.say("in the lobby")
	if !p.wait(func() bool {
		return slices.ContainsFunc(p.Messages("lobby"), func(m webtest.Message) bool { return m.User == "ann" })
	}) {
		t.Error("one can write again once a channel is open")
	}
	p.js(`history.back()`)
	p.until(`document.getElementById('text')?.disabled`, "going back says again that the name is not valid")
	p.js(`document.getElementById('channel').click(), document.getElementById('switch-name').value = 'stage', document.getElementById('switch-form').requestSubmit()`)
	p.live("another name can be chosen there")
}
