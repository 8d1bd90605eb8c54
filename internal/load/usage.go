package load

import (
	"fmt"
	"time"

	"barrage/internal/machine"
)

// Server is a process whose CPU time and memory are told, together with all that it started.
type Server struct {
	// Name of the group that it counts in, such as "node" or "redis".
	Name string
	PID  int
}

// Use is what the processes of one name used.
type Use struct {
	Name      string `json:"name"`
	Processes int    `json:"processes"`
	// IdleCPUPercent and CPUPercent are of one processor, while the connections were idle and while measuring traffic.
	IdleCPUPercent float64 `json:"idle_cpu_percent"`
	CPUPercent     float64 `json:"cpu_percent"`
	// BytesBefore the connections were opened, BytesIdle with all of them open, and BytesAfter the last message.
	BytesBefore int64 `json:"bytes_before"`
	BytesIdle   int64 `json:"bytes_idle"`
	BytesAfter  int64 `json:"bytes_after,omitempty"`
}

// usage measures the servers.
type usage struct {
	pids   []int
	group  []int // by process: its place in groups
	groups []Use
	kind   string // of memory that is told
}

func newUsage(servers []Server) *usage {
	u := &usage{}
	places := map[string]int{}
	for _, s := range servers {
		at, ok := places[s.Name]
		if !ok {
			at = len(u.groups)
			places[s.Name] = at
			u.groups = append(u.groups, Use{Name: s.Name})
		}
		u.groups[at].Processes++
		u.pids, u.group = append(u.pids, s.PID), append(u.group, at)
	}
	return u
}

// takeCPU is the CPU time of each process so far.
func (u *usage) takeCPU() ([]time.Duration, error) {
	spent, err := machine.CPU(u.pids)
	if err != nil {
		return nil, fmt.Errorf("the server's CPU time: %w", err)
	}
	return spent, nil
}

// takeMemory is what each process holds, in bytes.
func (u *usage) takeMemory() ([]int64, error) {
	held, kind, err := machine.Memory(u.pids)
	if err != nil {
		return nil, fmt.Errorf("the server's memory: %w", err)
	}
	u.kind = kind
	return held, nil
}

// idle notes what was used while the connections were idle.
func (u *usage) idle(before, held []int64, from, to []time.Duration, wall time.Duration) {
	for i, at := range u.group {
		g := &u.groups[at]
		g.BytesBefore += before[i]
		g.BytesIdle += held[i]
		g.IdleCPUPercent += 100 * (to[i] - from[i]).Seconds() / wall.Seconds()
	}
}

// busy notes what was used while measuring traffic.
func (u *usage) busy(from, to []time.Duration, wall time.Duration) error {
	held, err := u.takeMemory()
	if err != nil {
		return err
	}
	for i, at := range u.group {
		g := &u.groups[at]
		g.BytesAfter += held[i]
		g.CPUPercent += 100 * (to[i] - from[i]).Seconds() / wall.Seconds()
	}
	return nil
}

func sum[T time.Duration | int64](values []T) (s T) {
	for _, v := range values {
		s += v
	}
	return s
}
