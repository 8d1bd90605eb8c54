// Package machine tells what figures were measured on, and what processes use: CPU time and memory of a process with all that it
// started, from /proc. Elsewhere than on Linux everything is unknown: descriptions are short, and usage is an error.
package machine

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Description is what something was measured on.
type Description struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	Memory     int64  `json:"memory_bytes,omitempty"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	// Load is the load average at that moment: of what else the machine did.
	Load string `json:"load"`
}

// Describe describes this machine as it is now.
func Describe() Description {
	d := Description{CPU: runtime.GOARCH, Processors: runtime.NumCPU(), Go: runtime.Version(), Kernel: runtime.GOOS}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			d.CPU = strings.TrimSpace(value)
			break
		}
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		d.Kernel = "Linux " + strings.TrimSpace(string(kernel))
	}
	d.Memory, _ = kilobytes("/proc/meminfo", "MemTotal:")
	average, _ := os.ReadFile("/proc/loadavg")
	d.Load = strings.TrimSpace(string(average))
	return d
}

// String describes the machine in one line.
func (d Description) String() string {
	memory := ""
	if d.Memory > 0 {
		memory = fmt.Sprintf(", %.1f GiB", float64(d.Memory)/(1<<30))
	}
	return fmt.Sprintf("%s, %d processors%s, %s, %s, load %s", d.CPU, d.Processors, memory, d.Kernel, d.Go, d.Load)
}
