package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine says what the figures were measured on.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

func thisMachine() machine {
	m := machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return m
}

// tick is the unit of CPU times in /proc.
const tick = 10 * time.Millisecond

// usage is the CPU time of processes by name, in seconds.
type usage map[string]float64

func (u usage) minus(before usage) usage {
	out := usage{}
	for name, s := range u {
		out[name] = s - before[name]
	}
	return out
}

// process is one line of /proc: who started it, and what it and its ended children used.
type process struct {
	pid, parent int
	name        string
	cpu         time.Duration
}

// cpu is what all processes that this one started, and theirs, have used so far.
func (st *stage) cpu() usage {
	all := processes()
	names := map[int]string{}
	out := usage{}
	for _, n := range st.cluster.Nodes {
		names[n.PID()] = "node " + n.Name()
		out["node "+n.Name()] += n.Spent().CPU.Seconds()
	}
	if st.player != nil && st.player.Process != nil {
		names[st.player.Process.Pid] = "replay"
		if state := st.player.ProcessState; state != nil {
			out["replay"] += (state.UserTime() + state.SystemTime()).Seconds()
		}
	}
	for _, l := range st.audience {
		names[l.cmd.Process.Pid] = "subscribers"
	}
	for _, p := range all {
		if name := owner(all, names, p.pid); name != "" && name != "sh" { // guards of process groups sleep
			out[name] += p.cpu.Seconds()
		}
	}
	return out
}

// owner is the name of the process that this program started and that pid is, or descends from. Empty for strangers.
func owner(all map[int]process, names map[int]string, pid int) string {
	for range 32 {
		p, ok := all[pid]
		if !ok {
			return ""
		}
		if p.parent == os.Getpid() {
			if name := names[pid]; name != "" {
				return name
			}
			return p.name
		}
		pid = p.parent
	}
	return ""
}

// processes reads /proc.
func processes() map[int]process {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	all := make(map[int]process, len(files))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		if p, ok := parseStat(text); ok {
			all[p.pid] = p
		}
	}
	return all
}

// parseStat reads /proc/PID/stat: pid (name) state ppid …; the fields 14 to 17 are the times. The name may hold spaces
// and parentheses.
func parseStat(text []byte) (process, bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, false
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 15 {
		return process{}, false
	}
	p := process{name: string(text[open+1 : end])}
	p.pid, _ = strconv.Atoi(string(bytes.TrimSpace(text[:open])))
	p.parent, _ = strconv.Atoi(string(fields[1]))
	for _, f := range fields[11:15] {
		n, _ := strconv.Atoi(string(f))
		p.cpu += time.Duration(n) * tick
	}
	return p, true
}

// cpuTimes is the first line of /proc/stat, in ticks.
type cpuTimes struct{ busy, total uint64 }

func machineTimes() cpuTimes {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	var t cpuTimes
	for i, f := range strings.Fields(line) {
		if i == 0 || i > 8 { // the name; guest times are counted in user already
			continue
		}
		n, _ := strconv.ParseUint(f, 10, 64)
		t.total += n
		if i != 4 && i != 5 { // idle, iowait
			t.busy += n
		}
	}
	return t
}

// busyPart is which part of the machine's CPU time was in use, by whomever, as a percentage.
func busyPart(from, to cpuTimes) string {
	if to.total == from.total {
		return "unknown"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(to.busy-from.busy)/float64(to.total-from.total))
}
