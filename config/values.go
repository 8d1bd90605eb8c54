package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads a duration with its unit: 25s, 1h30m, 250ms, and days: 7d, 1d12h. Only 0 needs no unit.
func ParseDuration(text string) (time.Duration, error) {
	t := strings.TrimSpace(text)
	days, rest, hasDays := strings.Cut(t, "d")
	if !hasDays {
		d, err := time.ParseDuration(t)
		if err != nil {
			return 0, errDuration(text)
		}
		return d, nil
	}
	negative := strings.HasPrefix(days, "-")
	n, err := strconv.ParseUint(strings.TrimPrefix(days, "-"), 10, 32)
	if err != nil || n > uint64(math.MaxInt64/day) {
		return 0, errDuration(text)
	}
	d := time.Duration(n) * day
	if rest != "" {
		more, err := time.ParseDuration(rest)
		if err != nil || more < 0 || d+more < d {
			return 0, errDuration(text)
		}
		d += more
	}
	if negative {
		d = -d
	}
	return d, nil
}

func errDuration(text string) error {
	return fmt.Errorf("%q is not a duration; give a number with a unit, such as 250ms, 25s, 10m, 12h or 7d", clip(text))
}

// FormatDuration writes d so that ParseDuration reads the same back, with days when it is a whole number of them.
func FormatDuration(d time.Duration) string {
	if d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"gib", 1 << 30}, {"mib", 1 << 20}, {"kib", 1 << 10}, {"gb", 1e9}, {"mb", 1e6}, {"kb", 1e3}, {"b", 1}, {"", 1},
}

// ParseSize reads a number of bytes: 65536, 64KiB, 1MB. KiB, MiB, GiB count by 1024, KB, MB, GB by 1000; the case
// of letters does not matter.
func ParseSize(text string) (int, error) {
	t := strings.ToLower(strings.TrimSpace(text))
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(t, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n > math.MaxInt/u.bytes || n < math.MinInt/u.bytes {
			break
		}
		return int(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%q is not a size; give a whole number of bytes or one with KB, KiB, MB, MiB, GB or GiB, such as 64KiB",
		clip(text))
}

// FormatSize writes a number of bytes so that ParseSize reads the same back, in the largest binary unit that divides it.
func FormatSize(n int) string {
	for _, u := range sizeUnits[:3] {
		if n != 0 && int64(n)%u.bytes == 0 {
			return strconv.FormatInt(int64(n)/u.bytes, 10) + map[string]string{"gib": "GiB", "mib": "MiB", "kib": "KiB"}[u.suffix]
		}
	}
	return strconv.Itoa(n) + "B"
}

func parseCount[T int | int64](text string) (T, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if errors.Is(err, strconv.ErrRange) || int64(T(n)) != n {
		return 0, fmt.Errorf("%q is too large a number", clip(text))
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number; write it in digits, such as 100000", clip(text))
	}
	return T(n), nil
}

func formatCount(n int64) string { return strconv.FormatInt(n, 10) }

func parseSwitch(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", clip(text))
}

func formatSwitch(b bool) string { return strconv.FormatBool(b) }

// splitList reads comma separated items; empty ones are left out.
func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// clip shortens what was given for an error message.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
