package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuTick is the unit of CPU times in /proc: USER_HZ is 100 on all systems that Go supports.
const cpuTick = 10 * time.Millisecond

// spent is the user and system time of processes so far.
func spent(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		d, err := parseStat(text)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		sum += d
	}
	return sum, nil
}

// parseStat reads /proc/PID/stat: pid (name) state …; fields 14 and 15 are the times. The name may hold spaces and
// parentheses.
func parseStat(text []byte) (time.Duration, error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%d fields after the name", len(fields))
	}
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * cpuTick
	}
	return sum, nil
}

// memory is what processes hold, in bytes: the proportional set size, in which a page shared by several counts once, or
// the resident set size where the kernel does not tell the former.
func memory(pids []int) (sum int64, kind string, err error) {
	for _, pid := range pids {
		kind = "PSS"
		n, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
		if err != nil {
			kind = "RSS"
			if n, err = kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:"); err != nil {
				return 0, "", err
			}
		}
		sum += n
	}
	return sum, kind, nil
}

// kilobytes reads a line "name  N kB" and gives bytes.
func kilobytes(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n * 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// machineBusy is the time that all processors together were not idle since the start, time stolen by other machines
// included; 0 where the system does not tell.
func machineBusy() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	return parseBusy(line)
}

// parseBusy reads the first line of /proc/stat: cpu user nice system idle iowait irq softirq steal guest guest_nice. Time of guests
// is in user already.
func parseBusy(line string) (sum time.Duration) {
	for i, f := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, _ := strconv.ParseInt(f, 10, 64)
		sum += time.Duration(n) * cpuTick
	}
	return sum
}
