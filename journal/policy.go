package journal

import (
	"math"
	"strings"
	"time"
)

// Retention says what a channel keeps. The zero value keeps everything.
type Retention struct {
	// Count keeps the last Count messages of each channel; 0 means no limit.
	Count int64
	// Age keeps messages younger than this; 0 means no limit.
	Age time.Duration
}

// Everything says whether r keeps all messages.
func (r Retention) Everything() bool { return r.Count <= 0 && r.Age <= 0 }

// Limits are r at one moment, now in Unix milliseconds: what goes is offsets up to the head less keep, and messages with times
// before cutoff.
func (r Retention) Limits(now int64) (keep, cutoff int64) {
	keep = math.MaxInt64
	if r.Count > 0 {
		keep = r.Count
	}
	if r.Age > 0 {
		cutoff = now - r.Age.Milliseconds()
	}
	return keep, cutoff
}

// Policy says what all channels keep. The zero value keeps everything. It must not be changed while it is in use.
type Policy struct {
	// Default is for channels that belong to no namespace in Named.
	Default Retention
	// Named are for the channels NAME:REST. What one leaves open is not taken from Default.
	Named map[string]Retention
}

// Of is what a channel keeps.
func (p Policy) Of(channel string) Retention {
	if len(p.Named) > 0 {
		if name, _, ok := strings.Cut(channel, ":"); ok {
			if r, ok := p.Named[name]; ok {
				return r
			}
		}
	}
	return p.Default
}

// Everything says whether p keeps all messages of all channels.
func (p Policy) Everything() bool {
	for _, r := range p.Named {
		if !r.Everything() {
			return false
		}
	}
	return p.Default.Everything()
}
