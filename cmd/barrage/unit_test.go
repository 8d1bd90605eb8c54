package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"barrage/channel"
	"barrage/client"
	"barrage/config"
	"barrage/internal/trace"
	"barrage/proto"
)

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain 弹幕\t❤️": "plain 弹幕\t❤️",
		"a\nb\rc":      `a\nb\rc`,
		"\x1b[2J\x7f":  `\u001b[2J\u007f`,
		"a\u202eb":     `a\u202eb`,
	} {
		if got := visible(text); got != want {
			t.Errorf("%q is shown as %q, got %q", text, want, got)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(100-i)*time.Millisecond)
	}
	if got := quantilesOf(d); got != (quantiles{50, 90, 99, 100}) {
		t.Errorf("the quantiles of 1 to 100 ms are 50, 90, 99 and 100, got %+v", got)
	}
	if got := quantilesOf(nil); got != (quantiles{}) {
		t.Errorf("nothing has no quantiles, got %+v", got)
	}
	if got := quantilesOf(d[:1]); got != (quantiles{100, 100, 100, 100}) {
		t.Errorf("one value is every quantile, got %+v", got)
	}
}

func TestBarFitsTheLine(t *testing.T) {
	for width := range 120 {
		for _, percent := range []int{0, 1, 50, 100} {
			if line := fit("status of the replay", percent, width); len(line) > width {
				t.Errorf("a line of %d columns is too long: %q", width, line)
			}
		}
	}
	if got := fit("x", 50, 100); got != "["+strings.Repeat("#", 20)+strings.Repeat("-", 20)+"] x" {
		t.Errorf("half of the bar is full, got %q", got)
	}
	if clock(65*time.Second) != "1:05" || clock(3605*time.Second) != "1:00:05" {
		t.Errorf("got %s, %s", clock(65*time.Second), clock(3605*time.Second))
	}
}

func TestProgressWritesLinesWithoutATerminal(t *testing.T) {
	p := newPlayer([]trace.Entry{{At: 0, Author: 1}, {At: 10 * time.Second, Author: 1}}, 2, 1)
	var out bytes.Buffer
	g := newProgress(&out, p, false)
	now := time.Now()
	g.draw(now)
	if out.Len() != 0 {
		t.Errorf("before the start there is nothing to say, got %q", out.String())
	}
	p.began.Store(&now)
	g.draw(now)
	p.sent.Add(1)
	out.Reset()
	g.draw(now.Add(2 * time.Second))
	if got := out.String(); got != "barrage:  50%  1/2 sent  0.5/s  1 under way  0 failed  0:03 left\n" {
		t.Errorf("got %q", got)
	}
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), exitFailed},
		{fmt.Errorf("x: %w", context.Canceled), exitInterrupted},
		{fmt.Errorf("x: %w", client.ErrOptions), exitUsage},
		{fmt.Errorf("x: %w", client.ErrUnreachable), exitConnection},
		{&client.RefusedError{Status: 400}, exitConnection},
		{fmt.Errorf("x: %w", proto.CloseTooBig), exitConnection},
		{fmt.Errorf("x: %w", proto.ErrBadRequest), exitConnection},
	} {
		if got := codeOf(tc.err); got != tc.want {
			t.Errorf("%v ends with exit code %d, got %d", tc.err, tc.want, got)
		}
	}
	var out bytes.Buffer
	if code := report(&out, &exitError{exitFailed, errors.New("one\ntwo")}); code != 1 || out.String() != "barrage: one\nbarrage: two\n" {
		t.Errorf("each line has the program's name in front, got %d, %q", code, out.String())
	}
	if report(&out, nil) != 0 {
		t.Error("no error is exit code 0")
	}
}

func TestDefaultNameIsValid(t *testing.T) {
	name := defaultName()
	if name == defaultName() {
		t.Error("two nodes of one host have different names")
	}
	if len(name) > 64 || strings.ContainsAny(name, " ./:") {
		t.Errorf("got %q", name)
	}
}

func TestNamespacesOfTheSettings(t *testing.T) {
	n := namespaces(config.Namespaces{
		"default": {Class: config.ClassLive, Merge: time.Second}, "kept": {Class: config.ClassDurable, Merge: time.Minute},
	})
	for name, want := range map[string]channel.Namespace{
		"room": {Live: true, Merge: time.Second}, "default:x": {Live: true, Merge: time.Second}, "kept:x": {Merge: time.Minute},
	} {
		if got := n.Of(name); got != want {
			t.Errorf("%s must be %+v, not %+v", name, want, got)
		}
	}
}
