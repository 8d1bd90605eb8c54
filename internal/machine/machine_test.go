package machine

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	p, ok := parseStat([]byte("12 (a b) c) S 7 2 3 4 5 6 7 8 9 10 250 50 20 30 20 0 1 0 100"))
	if want := (Process{PID: 12, Parent: 7, Name: "a b) c", CPU: 3500 * time.Millisecond}); !ok || p != want {
		t.Errorf("250, 50, 20 and 30 ticks are 3.5 s of process 12, got %+v, %v", p, ok)
	}
	for _, bad := range []string{"", "12 (x) S", "12 (x", "x (x) S 7 2 3 4 5 6 7 8 9 10 250 50 20 30 20"} {
		if _, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q is no process", bad)
		}
	}
}

func TestParseBusy(t *testing.T) {
	got := parseBusy("cpu  100 20 30 4000 500 6 7 8 9 1")
	if got.Busy != 171*tick || got.Total != 4671*tick {
		t.Errorf("idle time, waiting for disks and guests are not busy, got %+v", got)
	}
}

func TestWhatAProcessStartedCounts(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Log("this system has no /proc, so nothing can be measured")
		return
	}
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = in.Close(), child.Wait() }()
	if !descends(Processes(), child.Process.Pid, os.Getpid()) || descends(Processes(), os.Getpid(), child.Process.Pid) {
		t.Error("a child descends from its parent, and not the other way")
	}
	used, err := CPU([]int{os.Getpid(), child.Process.Pid})
	if err != nil || len(used) != 2 {
		t.Errorf("the CPU time of both is told, got %v, %v", used, err)
	}
	held, kind, err := Memory([]int{os.Getpid(), child.Process.Pid})
	if err != nil || len(held) != 2 || held[1] <= 0 || held[0] <= held[1] || kind == "" {
		t.Errorf("the parent's memory includes the child's, got %v %s, %v", held, kind, err)
	}
	if _, err := CPU([]int{1 << 30}); err == nil {
		t.Error("a process that is not there is an error")
	}
	if _, _, err := Memory([]int{1 << 30}); err == nil {
		t.Error("a process that is not there is an error")
	}
}

func TestDescribe(t *testing.T) {
	if d := Describe(); d.Processors < 1 || !strings.Contains(d.String(), "processors") || d.Kernel == "" {
		t.Errorf("a machine has processors and a system, got %v", d)
	}
}
