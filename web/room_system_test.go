//go:build system

package web_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"barrage/web/webtest"

	"github.com/chromedp/chromedp"
)

func TestHistoryIsShownOnOpen(t *testing.T) {
	p := open(t, "/", 1200, 700, func(s *webtest.Server) { numbered(s, "lobby", 120) })
	p.until(`document.querySelectorAll('#rows .row').length >= 50`, "the last 50 messages are shown")
	wantRun(t, p.rows(), 71, 120)
	p.until(`(() => { const s = document.getElementById('scroller'); return s.scrollHeight - s.scrollTop - s.clientHeight < 3 })()`,
		"the newest message is in view")
	if n := eval[int](p, `document.querySelectorAll('.bullet:not(.idle)').length`); n != 0 {
		t.Errorf("%d old messages fly over the stage; history belongs to the chat only", n)
	}
	if got := eval[string](p, `document.querySelector('#rows .row:last-child').textContent`); got == "m120" {
		t.Errorf("the last row is %q; it must have time and name too", got)
	}
}

func TestWhatIsWrittenComesBack(t *testing.T) {
	p := open(t, "/?channel="+"%E6%88%BF%E9%97%B4", 1200, 700, nil)
	p.do(chromedp.SetValue("#name", "Ada"))
	p.js(`document.getElementById('name').dispatchEvent(new Event('change'))`)
	p.until(`document.getElementById('status').dataset.phase === 'live'`, "the page is live under its new name")
	p.say("hello 房间")
	p.until(`document.querySelectorAll('#rows .row.own').length === 1 && document.querySelectorAll('#pending li').length === 0`,
		"an own message is marked as own and no longer pending")
	p.until(`document.querySelector('.bullet.own')?.textContent === 'hello 房间'`, "it flies over the stage")
	stored := p.Messages("房间")
	if len(stored) != 1 || string(stored[0].Data) != `"hello 房间"` || stored[0].User != "Ada" {
		t.Fatalf("the server holds %+v; it must hold one JSON string by Ada", stored)
	}
	if got := eval[string](p, `document.getElementById('text').value`); got != "" {
		t.Errorf("the input still holds %q after sending", got)
	}
	p.do(chromedp.Reload())
	p.until(`document.querySelectorAll('#rows .row.own').length === 1`, "after a reload the message is still known as own")
	if got := eval[string](p, `document.getElementById('name').value`); got != "Ada" {
		t.Errorf("after a reload the name is %q; it must be remembered", got)
	}
}

func TestMarkupStaysText(t *testing.T) {
	evil := `<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>`
	p := open(t, "/", 1200, 700, nil)
	p.Publish("lobby", `<b onclick="window.hacked=1">bob</b>`, evil)
	p.until(`document.querySelector('#rows .text')`, "the message is shown")
	p.until(`document.querySelector('.bullet:not(.idle)')`, "the message flies")
	if rows := p.rows(); rows[0] != evil {
		t.Errorf("the row says %q; it must say %q", rows[0], evil)
	}
	if n := eval[int](p, `document.querySelectorAll('#rows img, #rows script, #rows .name *, #bullets img, #bullets script').length`); n != 0 {
		t.Errorf("markup of a message became %d elements", n)
	}
	if eval[bool](p, `'hacked' in window`) {
		t.Error("markup of a message ran as a script")
	}
}

func TestAnyJSONIsShown(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	for _, data := range []any{"text", map[string]any{"text": "inside"}, map[string]any{"x": 1}, 7, nil, []int{1, 2}} {
		p.Publish("lobby", "", data)
	}
	p.until(`document.querySelectorAll('#rows .row').length === 6`, "all six messages are shown")
	want := []string{"text", "inside", `{"x":1}`, "7", "null", "[1,2]"}
	for i, row := range p.rows() {
		if row != want[i] {
			t.Errorf("row %d says %q; it must say %q", i, row, want[i])
		}
	}
}

func TestScrollingUpLoadsHistoryAndKeepsThePlace(t *testing.T) {
	p := open(t, "/", 1200, 700, func(s *webtest.Server) { numbered(s, "lobby", 700) })
	p.until(`document.querySelectorAll('#rows .row').length === 50`, "the last 50 messages are shown")
	moved := eval[float64](p, `new Promise((done) => {
		const scroller = document.getElementById('scroller');
		const row = [...document.querySelectorAll('#rows .row')].find((r) => r.querySelector('.text').textContent === 'm656');
		let before;
		new MutationObserver((_, o) => { o.disconnect(); done(Math.abs(row.getBoundingClientRect().top - before)); })
			.observe(document.getElementById('rows'), { childList: true });
		scroller.scrollTop = 120;
		before = row.getBoundingClientRect().top;
	})`)
	if moved > 1.5 {
		t.Errorf("a row moved by %.1f px when older ones were put above it; it must stay where it is", moved)
	}
	p.until(`(() => {
		const scroller = document.getElementById('scroller');
		if (document.querySelector('#rows .text').textContent === 'm1') return true;
		scroller.scrollTop = 0;
		return false;
	})()`, "scrolling up reaches the first message")
	rows := p.rows()
	wantRun(t, rows, 1, len(rows))
	if len(rows) > 500 {
		t.Errorf("the column holds %d rows; at most 500 are allowed", len(rows))
	}
	p.until(`document.getElementById('top').textContent === 'This is where the room begins'`, "the beginning is named")

	p.Publish("lobby", "zoe", "m701")
	p.until(`!document.getElementById('jump').hidden && document.getElementById('jump').textContent.includes('1 new message')`,
		"a reader of history is told of a new message")
	if p.rows()[0] != "m1" {
		t.Error("a new message moved the reader away from what they read")
	}
	p.until(`(() => {
		const scroller = document.getElementById('scroller');
		const last = [...document.querySelectorAll('#rows .text')].at(-1).textContent;
		scroller.scrollTop = scroller.scrollHeight;
		return last === 'm701';
	})()`, "scrolling down again reaches the newest message")
	rows = p.rows()
	wantRun(t, rows, 701-len(rows)+1, 701)

	p.js(`document.getElementById('scroller').scrollTop = 0`)
	p.until(`!document.getElementById('jump').hidden`, "the button offers the way back")
	p.do(chromedp.Click("#jump"))
	p.until(`document.getElementById('jump').hidden && [...document.querySelectorAll('#rows .text')].at(-1).textContent === 'm701'`,
		"the button leads to the newest message")
}

func TestTheColumnIsBounded(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	for i := 1; i <= 2000; i++ {
		p.Publish("lobby", "bot", fmt.Sprintf("m%d", i))
	}
	p.until(`[...document.querySelectorAll('#rows .text')].at(-1)?.textContent === 'm2000'`, "the newest of 2000 messages is shown")
	rows := p.rows()
	if len(rows) > 300 {
		t.Errorf("the column holds %d rows while following; at most 300 are allowed", len(rows))
	}
	wantRun(t, rows, 2000-len(rows)+1, 2000)
	if n := eval[int](p, `document.querySelectorAll('.bullet').length`); n > 160 {
		t.Errorf("%d bullets exist; at most 160 are allowed", n)
	}
	p.until(`!document.getElementById('dropped').hidden`, "what never flew is counted")
}

func TestALostConnectionLosesAndRepeatsNothing(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	publish := func(from, to int) {
		for i := from; i <= to; i++ {
			p.Publish("lobby", "bot", fmt.Sprintf("m%d", i))
		}
	}
	publish(1, 20)
	p.Refuse(true)
	p.Drop(0)
	publish(21, 40)
	p.until(`document.getElementById('status').dataset.phase === 'waiting'`, "the page says that it reconnects")
	p.Refuse(false)
	publish(41, 60)
	p.until(`document.getElementById('status').dataset.phase === 'live'`, "the page comes back by itself")
	publish(61, 80)
	p.until(`document.querySelectorAll('#rows .row').length >= 80`, "all messages are shown")
	wantRun(t, p.rows(), 1, 80)
}

func TestAnUnacknowledgedMessageIsSentAgainAndStoredOnce(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	p.SwallowAcks(true)
	p.say("once")
	if !p.wait(func() bool { return len(p.Messages("lobby")) == 1 }) {
		t.Fatal("the message did not reach the server")
	}
	p.SwallowAcks(false)
	p.Drop(3001)
	p.say("twice")
	p.until(`document.querySelectorAll('#rows .row').length === 2 && document.querySelectorAll('#pending li').length === 0`,
		"both messages are shown and none is pending")
	if stored := p.Messages("lobby"); len(stored) != 2 || string(stored[0].Data) != `"once"` {
		data, _ := json.Marshal(stored)
		t.Fatalf("the server holds %s; it must hold each message once", data)
	}
}

func TestARefusedMessageSaysWhyAndCanBeDiscarded(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	p.say("refuse me")
	p.until(`document.querySelector('#pending .failed')?.textContent.includes('limit exceeded')`, "the reason is shown at the message")
	p.js(`[...document.querySelectorAll('#pending button')].at(-1).click()`)
	p.until(`document.querySelectorAll('#pending li').length === 0`, "a discarded message is gone")
}

func TestAResetSaysThatMessagesAreMissing(t *testing.T) {
	p := open(t, "/", 1200, 700, func(s *webtest.Server) { numbered(s, "lobby", 30) })
	p.until(`document.querySelectorAll('#rows .row').length === 30`, "the past is shown")
	p.Forget("lobby", 5)
	p.Drop(3004)
	p.until(`document.querySelector('#rows .divider')?.textContent === 'Some messages are missing here'`, "a divider says it")
	p.Publish("lobby", "bot", "m31")
	p.until(`document.querySelectorAll('#rows .row').length === 6`, "what there is, and what is new, is shown")
	wantRun(t, p.rows(), 26, 31)
}

func TestEnterOfAnInputMethodDoesNotSend(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	p.js(`(() => {
		const text = document.getElementById('text');
		text.focus();
		text.value = 'nihao';
		const enter = (more) => text.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true, ...more }));
		text.dispatchEvent(new CompositionEvent('compositionstart'));
		enter({ isComposing: true });
		document.getElementById('composer').requestSubmit();
		text.value = '你好';
		text.dispatchEvent(new CompositionEvent('compositionend'));
		enter({ keyCode: 229 });
	})()`)
	if n := eval[int](p, `document.querySelectorAll('#pending li, #rows li').length`); n != 0 {
		t.Fatalf("%d messages were sent while the input method composed", n)
	}
	p.js(`document.getElementById('text').dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }))`)
	p.until(`document.querySelector('#rows .text')?.textContent === '你好'`, "the next Enter sends")
}

func TestAnotherChannelIsOpenedWithoutLeavingThePage(t *testing.T) {
	p := open(t, "/", 1200, 700, func(s *webtest.Server) { numbered(s, "lobby", 3); numbered(s, "b/ä?", 7) })
	p.until(`document.querySelectorAll('#rows .row').length === 3`, "the lobby is shown")
	p.do(chromedp.Click("#channel"), chromedp.SetValue("#switch-name", "b/ä?"),
		chromedp.Click("#switch-form button[type=submit]"))
	p.until(`document.querySelectorAll('#rows .row').length === 7`, "the other channel is shown")
	if got := eval[string](p, `new URLSearchParams(location.search).get('channel')`); got != "b/ä?" {
		t.Errorf("the address names the channel %q", got)
	}
	p.do(chromedp.NavigateBack())
	p.until(`document.querySelectorAll('#rows .row').length === 3 && document.getElementById('channel-name').textContent === 'lobby'`,
		"going back opens the lobby again")
	if !p.wait(func() bool { return p.Members("b/ä?") == 0 }) {
		t.Error("the page still holds a connection to the channel it left")
	}
}
