package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress tells how far a replay is: a bar that is redrawn on a terminal, a line every few seconds elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	player   *player
	// readings are those of the last moments, for the rate; the drawing goroutine owns them.
	readings []reading
}

type reading struct {
	at   time.Time
	sent int64
}

const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 5 * time.Second
	// rateOver is how long the rate of the moment looks back.
	rateOver = 3 * time.Second
)

func newProgress(w io.Writer, p *player, quiet bool) *progress {
	if quiet {
		w = io.Discard
	}
	return &progress{w: w, terminal: isTerminal(w), player: p}
}

// start draws until the function it returns is called.
func (g *progress) start() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	every := lineEvery
	if g.terminal {
		every = barEvery
	}
	go func() {
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				g.draw(now)
			case <-end:
				if g.terminal {
					g.draw(time.Now())
					fmt.Fprintln(g.w)
				}
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

func (g *progress) draw(now time.Time) {
	began := g.player.began.Load()
	if began == nil {
		return
	}
	sent, total := g.player.sent.Load(), int64(len(g.player.entries))
	g.readings = append(g.readings, reading{now, sent})
	for len(g.readings) > 2 && now.Sub(g.readings[0].at) > rateOver {
		g.readings = g.readings[1:]
	}
	rate := 0.0
	if first := g.readings[0]; now.After(first.at) {
		rate = float64(sent-first.sent) / now.Sub(first.at).Seconds()
	}
	left := max(0, g.player.length()-now.Sub(*began)).Round(time.Second)
	status := fmt.Sprintf("%3d%%  %d/%d sent  %.1f/s  %d under way  %d failed  %s left", percent(sent, total), sent, total, rate,
		sent-g.player.acked.Load()-g.player.failed.Load(), g.player.failed.Load(), clock(left))
	if !g.terminal {
		fmt.Fprintln(g.w, "barrage: "+status)
		return
	}
	width := 80
	if f, ok := g.w.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	fmt.Fprintf(g.w, "\r%s\x1b[K", fit(status, percent(sent, total), width-1))
}

// fit puts a bar in front of the status when the line has room for one, and cuts what does not fit.
func fit(status string, percent, width int) string {
	room := min(40, width-len(status)-3)
	if room < 10 {
		return status[:min(len(status), max(0, width))]
	}
	done := room * percent / 100
	return "[" + strings.Repeat("#", done) + strings.Repeat("-", room-done) + "] " + status
}

func percent(part, all int64) int {
	if all == 0 {
		return 100
	}
	return int(100 * part / all)
}

// clock writes 1:05 or 1:00:05.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
