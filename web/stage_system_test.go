//go:build system

package web_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barrage/web/webtest"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestModules runs the tests of the pure modules.
func TestModules(t *testing.T) {
	files, err := filepath.Glob("test/*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of modules found in web/test: %v", err)
	}
	out, err := exec.Command("node", append([]string{"--test"}, files...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("the tests of the modules must pass (they need Node.js 18 or newer: apt-get install nodejs): %v\n%s", err, out)
	}
}

// sample is what sampling in the page gives: the times between frames in milliseconds, sorted; the pairs of bullets of
// one lane that were compared; and what overlapped.
type sample struct {
	Frames   []float64 `json:"frames"`
	Pairs    int       `json:"pairs"`
	Most     int       `json:"most"`
	Overlaps []string  `json:"overlaps"`
}

const sampling = `new Promise((done) => {
	const frames = [], overlaps = [];
	let pairs = 0, most = 0, last = 0, n = 0;
	const until = performance.now() + %d;
	requestAnimationFrame(function frame(now) {
		if (last) frames.push(now - last);
		last = now;
		if (%t && ++n %% 6 === 0) {
			const lanes = new Map();
			const flying = document.querySelectorAll('.bullet:not(.idle)');
			most = Math.max(most, flying.length);
			for (const e of flying) {
				const { left, right } = e.getBoundingClientRect();
				if (!lanes.has(e.dataset.lane)) lanes.set(e.dataset.lane, []);
				lanes.get(e.dataset.lane).push({ left, right, text: e.textContent });
			}
			for (const [lane, list] of lanes) {
				list.sort((a, b) => a.left - b.left);
				for (let i = 1; i < list.length; i++) {
					pairs++;
					if (list[i].left < list[i - 1].right) overlaps.push(lane + ': ' + list[i - 1].text + ' / ' + list[i].text);
				}
			}
		}
		if (now < until) requestAnimationFrame(frame);
		else done({ frames: frames.sort((a, b) => a - b), pairs, most, overlaps });
	});
})`

// busy publishes perSecond messages of many lengths until the test ends.
func busy(t *testing.T, s *webtest.Server, perSecond int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				words := 1 + int(random.ExpFloat64()*3)
				s.Publish("lobby", fmt.Sprintf("user%d", random.IntN(40)), strings.Repeat("danmaku ", words))
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

func TestBulletsOfALaneNeverOverlap(t *testing.T) {
	p := open(t, "/", 1280, 760, nil)
	busy(t, p.Server, 50)
	s := eval[sample](p, fmt.Sprintf(sampling, 8000, true))
	t.Logf("%d pairs compared, at most %d bullets at once", s.Pairs, s.Most)
	if s.Pairs < 100 {
		t.Errorf("only %d pairs of bullets were seen at 50 messages/s; the stage must be busy", s.Pairs)
	}
	if len(s.Overlaps) > 0 {
		t.Errorf("%d times two bullets of a lane overlapped, first: %s", len(s.Overlaps), s.Overlaps[0])
	}
}

func TestFramesStaySmoothAtFiftyMessagesASecond(t *testing.T) {
	p := open(t, "/", 1280, 760, nil)
	busy(t, p.Server, 50)
	p.until(`document.querySelectorAll('.bullet:not(.idle)').length > 30`, "the stage is busy")
	// Other programs may take the processors for a moment: the best of up to four samples counts.
	best := 0.0
	for i := range 4 {
		s := eval[sample](p, fmt.Sprintf(sampling, 4000, false))
		at := func(q float64) float64 { return s.Frames[int(q*float64(len(s.Frames)-1))] }
		t.Logf("%d frames in 4 s; a frame takes %.1f ms (median), %.1f ms (95 %%), %.1f ms (99 %%), %.1f ms (longest)",
			len(s.Frames), at(0.5), at(0.95), at(0.99), at(1))
		if i == 0 || at(0.5) < best {
			best = at(0.5)
		}
		if best < 25 {
			return
		}
	}
	t.Errorf("the median frame takes %.1f ms at 50 messages/s; it must stay under 25 ms", best)
}

func TestAHiddenPageAnimatesNothing(t *testing.T) {
	p := open(t, "/", 1280, 760, nil)
	p.Publish("lobby", "bot", "seen")
	p.until(`document.querySelectorAll('.bullet:not(.idle)').length === 1`, "a message flies")
	hide := `Object.defineProperty(document, 'hidden', { value: %t, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))`
	p.js(fmt.Sprintf(hide, true))
	for i := 1; i <= 600; i++ {
		p.Publish("lobby", "bot", fmt.Sprintf("m%d", i))
	}
	p.say("from the other side") // acknowledged after everything before it was received
	p.until(`document.querySelectorAll('#pending li:not([data-done]):not([hidden])').length === 0`, "the own message was acknowledged")
	if n := eval[int](p, `document.getAnimations().length + document.querySelectorAll('.bullet:not(.idle)').length`); n != 0 {
		t.Errorf("%d bullets or animations run in a hidden page", n)
	}
	p.js(fmt.Sprintf(hide, false))
	p.until(`[...document.querySelectorAll('#rows .text')].at(-1)?.textContent === 'from the other side'`, "the chat is complete once it is looked at")
	rows := p.rows()
	wantRun(t, rows[:len(rows)-1], 600-len(rows)+2, 600)
}

func TestLessMotionIsHonoured(t *testing.T) {
	p := open(t, "/", 1280, 760, nil)
	p.do(func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return chromedp.Void{}, err
	})
	p.until(`matchMedia('(prefers-reduced-motion: reduce)').matches`, "the browser asks for less motion")
	// The stage is told of that with the next frame, and clears itself then.
	eval[bool](p, `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`)
	p.Publish("lobby", "bot", "still")
	p.until(`document.querySelector('.bullet:not(.idle)')`, "the message is shown on the stage")
	if moved := eval[float64](p, `new Promise((done) => {
		const e = document.querySelector('.bullet:not(.idle)');
		const x = e.getBoundingClientRect().left;
		setTimeout(() => done(Math.abs(e.getBoundingClientRect().left - x)), 300);
	})`); moved != 0 {
		t.Errorf("the message moved by %.0f px; it must stand still", moved)
	}
}

func TestAPhoneHasNoHorizontalScroll(t *testing.T) {
	for _, size := range [][2]int64{{320, 568}, {390, 844}, {740, 360}, {820, 1180}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			p := open(t, "/?channel="+strings.Repeat("long-name-", 12), size[0], size[1], nil)
			p.Publish(strings.Repeat("long-name-", 12), strings.Repeat("name", 40), strings.Repeat("x", 3000))
			p.until(`document.querySelector('#rows .row')`, "a message without spaces is shown")
			if over := eval[[]string](p, `[...document.querySelectorAll('body *:not(#bullets *):not(.unseen)')]
				.filter((e) => e.getClientRects().length && !e.closest('svg, dialog') && e.getBoundingClientRect().right > innerWidth + 0.5)
				.map((e) => e.tagName + '#' + e.id + '.' + e.className)`); len(over) > 0 {
				t.Errorf("these reach beyond the right edge: %v", over)
			}
			if w := eval[int](p, `document.scrollingElement.scrollWidth`); w > int(size[0]) {
				t.Errorf("the page is %d px wide on a screen of %d", w, size[0])
			}
			if small := eval[bool](p, `['text', 'name'].some((id) => document.getElementById(id).getBoundingClientRect().height < 24)`); small {
				t.Error("an input is too low to be touched")
			}
			if h := eval[float64](p, `document.getElementById('scroller').clientHeight`); h < 80 {
				t.Errorf("the chat has only %.0f px of height", h)
			}
		})
	}
}

func TestTheThemeIsToggledAndRemembered(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	colour := func() string { return eval[string](p, `getComputedStyle(document.body).backgroundColor`) }
	first := colour()
	p.do(chromedp.Click("#theme"))
	second := colour()
	if first == second {
		t.Fatalf("the toggle left the background at %s", first)
	}
	p.do(chromedp.Reload())
	if got := colour(); got != second {
		t.Errorf("after a reload the background is %s; the chosen theme has %s", got, second)
	}
}

func TestNamesCanBeReadInBothThemes(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	for i := range 60 {
		p.Publish("lobby", fmt.Sprintf("name %d", i), "x")
	}
	p.until(`document.querySelectorAll('#rows .row').length === 60`, "all names are shown")
	for _, theme := range []string{"dark", "light"} {
		least := eval[float64](p, fmt.Sprintf(`(() => {
			document.documentElement.dataset.theme = '%s';
			const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
			const light = (colour) => {
				context.fillStyle = colour;
				context.fillRect(0, 0, 1, 1);
				const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
				return 0.2126 * r + 0.7152 * g + 0.0722 * b;
			};
			const back = light(getComputedStyle(document.querySelector('.chat')).backgroundColor);
			const contrast = (c) => (Math.max(c, back) + 0.05) / (Math.min(c, back) + 0.05);
			return Math.min(...[...document.querySelectorAll('#rows .name, #rows time')].map((e) => contrast(light(getComputedStyle(e).color))));
		})()`, theme))
		t.Logf("least contrast of names and times, %s: %.1f", theme, least)
		if least < 4.5 {
			t.Errorf("in the %s theme a name has a contrast of %.2f; WCAG AA wants 4.5", theme, least)
		}
	}
}

func TestThePageSpeaksChinese(t *testing.T) {
	p := open(t, "/", 1200, 700, func(s *webtest.Server) { numbered(s, "lobby", 1) })
	p.do(chromedp.Click("#language"))
	p.until(`document.documentElement.lang === 'zh-CN' && document.getElementById('text').placeholder === '发条弹幕吧…'
		&& document.getElementById('status-text').textContent === '直播中'`, "the page speaks Chinese")
	p.do(chromedp.Reload())
	p.until(`document.documentElement.lang === 'zh-CN' && document.getElementById('status-text').textContent === '直播中'`,
		"the language is remembered")
}

func TestViewersAndNodeAreShown(t *testing.T) {
	p := open(t, "/", 1200, 700, nil)
	p.until(`document.getElementById('viewers-text').textContent === '1 viewer' && document.getElementById('node').textContent === 'served by node a'`,
		"the number of viewers and the node are shown")
}
