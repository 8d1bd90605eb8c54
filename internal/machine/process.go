package machine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ is 100 on all systems that Go supports.
const tick = 10 * time.Millisecond

// Process is one line of /proc: who started it, and what it and its ended children used.
type Process struct {
	PID, Parent int
	Name        string
	CPU         time.Duration
}

// Processes are all processes that run now, by their number.
func Processes() map[int]Process {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	all := make(map[int]Process, len(files))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		if p, ok := parseStat(text); ok {
			all[p.PID] = p
		}
	}
	return all
}

// parseStat reads /proc/PID/stat: pid (name) state ppid …; the fields 14 to 17 are the times, of itself and of children that it
// waited for. The name may hold spaces and parentheses.
func parseStat(text []byte) (Process, bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return Process{}, false
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 15 {
		return Process{}, false
	}
	p := Process{Name: string(text[open+1 : end])}
	var err error
	if p.PID, err = strconv.Atoi(string(bytes.TrimSpace(text[:open]))); err != nil {
		return Process{}, false
	}
	if p.Parent, err = strconv.Atoi(string(fields[1])); err != nil {
		return Process{}, false
	}
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return Process{}, false
		}
		p.CPU += time.Duration(n) * tick
	}
	return p, true
}

// descends says whether pid is root or was started by it or by one of those that it started.
func descends(all map[int]Process, pid, root int) bool {
	for range 32 {
		if pid == root {
			return true
		}
		p, ok := all[pid]
		if !ok {
			return false
		}
		pid = p.Parent
	}
	return false
}

// CPU is the user and system time so far of each of pids, with all processes that it started.
func CPU(pids []int) ([]time.Duration, error) {
	used := make([]time.Duration, len(pids))
	if len(pids) == 0 {
		return used, nil
	}
	all := Processes()
	for i, root := range pids {
		if _, ok := all[root]; !ok {
			return nil, fmt.Errorf("there is no process %d", root)
		}
		for pid, p := range all {
			if descends(all, pid, root) {
				used[i] += p.CPU
			}
		}
	}
	return used, nil
}

// Memory is what each of pids holds, with all processes that it started, in bytes: the proportional set size, in which a page
// shared by several counts once, or the resident set size where the kernel does not tell the former; kind says which.
func Memory(pids []int) (held []int64, kind string, err error) {
	held = make([]int64, len(pids))
	if len(pids) == 0 {
		return held, "", nil
	}
	all := Processes()
	kind = "PSS"
	for i, root := range pids {
		if _, ok := all[root]; !ok {
			return nil, "", fmt.Errorf("there is no process %d", root)
		}
		for pid := range all {
			if !descends(all, pid, root) {
				continue
			}
			n, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
			if err != nil {
				if n, err = kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:"); err != nil {
					continue // it has just ended
				}
				kind = "RSS"
			}
			held[i] += n
		}
	}
	return held, kind, nil
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

// Times is what all processors together did since the start. Time stolen by other machines is Busy.
type Times struct{ Busy, Total time.Duration }

// Busy reads the times of all processors; both are 0 where the system does not tell.
func Busy() Times {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	return parseBusy(line)
}

// parseBusy reads the first line of /proc/stat: cpu user nice system idle iowait irq softirq steal guest guest_nice. Time of
// guests is in user already.
func parseBusy(line string) (t Times) {
	for i, f := range strings.Fields(line) {
		if i == 0 || i > 8 {
			continue
		}
		n, _ := strconv.ParseInt(f, 10, 64)
		d := time.Duration(n) * tick
		t.Total += d
		if i != 4 && i != 5 {
			t.Busy += d
		}
	}
	return t
}
