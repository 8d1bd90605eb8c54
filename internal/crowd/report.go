package crowd

import (
	"fmt"
	"io"
	"time"

	"barrage/internal/load"
	"barrage/internal/machine"
)

// Report is what a run measured.
type Report struct {
	Began   time.Time           `json:"began"`
	Machine machine.Description `json:"machine"`
	Nodes   int                 `json:"nodes"`
	MergeMS float64             `json:"merge_window_ms"`
	// Handshakes is how many connections went through nginx before, and got every message.
	Handshakes int         `json:"handshakes_through_nginx"`
	Load       load.Result `json:"load"`
	// Memory of the nodes for each connection, in bytes: while all were idle, and after the last message.
	IdleBytes  float64   `json:"node_bytes_per_idle_connection"`
	AfterBytes float64   `json:"node_bytes_per_connection_after"`
	Verdicts   []Verdict `json:"verdicts"`
}

// Verdict says whether something that was asked for was reached.
type Verdict struct {
	Asked   string `json:"asked"`
	Got     string `json:"got"`
	Reached bool   `json:"reached"`
}

// allowance is what p99 may be above the merge window.
const allowance = time.Second

// fill derives what the load alone does not tell.
func (r *Report) fill() {
	for _, u := range r.Load.Servers {
		if u.Name == "nodes" {
			n := float64(r.Load.Connections)
			r.IdleBytes, r.AfterBytes = float64(u.BytesIdle-u.BytesBefore)/n, float64(u.BytesAfter-u.BytesBefore)/n
		}
	}
	t := r.Load.Traffic
	most := r.MergeMS + float64(allowance.Milliseconds())
	r.Verdicts = []Verdict{
		{
			Asked: "every message at every connection once and in order",
			Got: fmt.Sprintf("%d lost, %d repeated, %d out of order, %d not taken, %d connections ended",
				t.Lost, t.Repeated, t.OutOfOrder, t.Unsent, r.Load.Closed),
			Reached: r.Load.Flawless() && t.Received == t.Expected && t.Expected > 0,
		},
		{
			Asked: fmt.Sprintf("p99 at most the merge window and 1 s: %.0f ms", most), Got: fmt.Sprintf("%.0f ms", t.Latency.P99),
			Reached: t.Latency.P99 <= most,
		},
	}
}

// Flawless says whether every message arrived at every connection once and in order.
func (r *Report) Flawless() bool { return r.Verdicts[0].Reached }

// Reached says whether everything that was asked for was reached.
func (r *Report) Reached() bool {
	for _, v := range r.Verdicts {
		if !v.Reached {
			return false
		}
	}
	return true
}

// Write writes the report for people.
func (r *Report) Write(w io.Writer) error {
	merge := "no merge window"
	if r.MergeMS > 0 {
		merge = fmt.Sprintf("a merge window of %.0f ms", r.MergeMS)
	}
	fmt.Fprintf(w, "%v\n%s, %d nodes, %s; %d connections through nginx before\n\n", r.Machine, r.Began.Format(time.DateTime), r.Nodes, merge, r.Handshakes)
	if err := r.Load.WriteTable(w); err != nil {
		return err
	}
	t := r.Load.Traffic
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	row("nodes", "%.0f bytes per idle connection, %.0f after the last message", r.IdleBytes, r.AfterBytes)
	row("generator", "%.0f %% of a processor", t.GeneratorPercent)
	for _, v := range r.Verdicts {
		verdict := "reached"
		if !v.Reached {
			verdict = "MISSED"
		}
		row(verdict, "%s: %s", v.Asked, v.Got)
	}
	return nil
}
