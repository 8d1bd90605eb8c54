package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// collected is a histogram of the pauses that a node's garbage collector made: how many took up to so many seconds.
type collected map[float64]uint64

// pauses asks a node for its pauses so far; the floor has none.
func (t *target) pauses(ctx context.Context) (collected, error) {
	if t.metrics == "" {
		return nil, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.metrics, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", t.metrics, answer.Status)
	}
	return parsePauses(answer.Body)
}

// parsePauses reads the lines of barrage_gc_pause_seconds in the text format of Prometheus.
func parsePauses(r io.Reader) (collected, error) {
	c := collected{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), `barrage_gc_pause_seconds_bucket{le="`)
		if !ok {
			continue
		}
		bound, count, _ := strings.Cut(rest, `"} `)
		le, err := strconv.ParseFloat(bound, 64)
		if err != nil {
			return nil, err
		}
		if c[le], err = strconv.ParseUint(count, 10, 64); err != nil {
			return nil, err
		}
	}
	return c, lines.Err()
}

// since is how many pauses there were since an earlier moment, and the least bound that none of them exceeds, in ms.
func (c collected) since(before collected) (n uint64, most float64) {
	bounds := make([]float64, 0, len(c))
	for le := range c {
		bounds = append(bounds, le)
	}
	slices.Sort(bounds)
	n = c[math.Inf(1)] - before[math.Inf(1)]
	for _, le := range bounds {
		if n > 0 && c[le]-before[le] == n {
			return n, 1000 * le
		}
	}
	return n, 0
}
