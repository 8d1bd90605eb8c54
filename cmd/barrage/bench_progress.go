package main

import (
	"fmt"
	"io"
	"time"

	"barrage/internal/load"
)

// benchProgress tells how far a benchmark is: a line that is redrawn on a terminal; elsewhere a line for each phase.
type benchProgress struct {
	w        io.Writer
	terminal bool
	phase    string
	drawn    time.Time
	received int64   // at the last drawing
	rate     float64 // deliveries a second since
}

func newBenchProgress(w io.Writer, quiet bool) *benchProgress {
	if quiet {
		w = io.Discard
	}
	return &benchProgress{w: w, terminal: isTerminal(w)}
}

func (b *benchProgress) draw(p load.Progress) {
	now := time.Now()
	begins := p.Phase != b.phase
	switch {
	case begins && !b.terminal:
		fmt.Fprintln(b.w, "barrage: "+benchLine(p, 0))
	case b.terminal && (begins || now.Sub(b.drawn) >= barEvery):
		if since := now.Sub(b.drawn).Seconds(); since < 5 {
			b.rate = float64(p.Received-b.received) / since
		}
		fmt.Fprintf(b.w, "\r%s\x1b[K", benchLine(p, b.rate))
		b.drawn, b.received = now, p.Received
	}
	b.phase = p.Phase
}

// end ends the line.
func (b *benchProgress) end() {
	if b.terminal && b.phase != "" {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

func benchLine(p load.Progress, rate float64) string {
	line := fmt.Sprintf("%s: %d of %d connections open", p.Phase, p.Open, p.Connections)
	if p.Sent > 0 {
		line += fmt.Sprintf(", %d sent, %d received", p.Sent, p.Received)
	}
	if rate > 0 {
		line += fmt.Sprintf(" (%.0f/s)", rate)
	}
	if p.Left > 0 {
		line += fmt.Sprintf(", %s left", clock(p.Left.Round(time.Second)))
	}
	return line
}
