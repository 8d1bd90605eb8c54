package main

import (
	"fmt"
	"os"

	"barrage/internal/machine"
)

// usage is the CPU time of processes by name, in seconds.
type usage map[string]float64

func (u usage) minus(before usage) usage {
	out := usage{}
	for name, s := range u {
		out[name] = s - before[name]
	}
	return out
}

// cpu is what all processes that this one started, and theirs, have used so far.
func (st *stage) cpu() usage {
	all := machine.Processes()
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
		if name := owner(all, names, p.PID); name != "" && name != "sh" { // guards of process groups sleep
			out[name] += p.CPU.Seconds()
		}
	}
	return out
}

// owner is the name of the process that this program started and that pid is, or descends from. Empty for strangers.
func owner(all map[int]machine.Process, names map[int]string, pid int) string {
	for range 32 {
		p, ok := all[pid]
		if !ok {
			return ""
		}
		if p.Parent == os.Getpid() {
			if name := names[pid]; name != "" {
				return name
			}
			return p.Name
		}
		pid = p.Parent
	}
	return ""
}

// busyPart is which part of the machine's CPU time was in use, by whomever, as a percentage.
func busyPart(from, to machine.Times) string {
	if to.Total == from.Total {
		return "unknown"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(to.Busy-from.Busy)/float64(to.Total-from.Total))
}
