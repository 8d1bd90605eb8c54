package load

import (
	"fmt"
	"io"
	"time"
)

// Result is what a run measured. Times are in the unit that a name ends with. What was not measured is left out.
type Result struct {
	// What was asked for.
	URLs            []string `json:"urls"`
	Connections     int      `json:"connections"`
	Rooms           int      `json:"rooms"`
	Publishers      int      `json:"publishers_per_room"`
	Rate            float64  `json:"rate,omitempty"`
	Size            int      `json:"size,omitempty"`
	TraceMessages   int      `json:"trace_messages,omitempty"`
	WarmupSeconds   float64  `json:"warmup_seconds,omitempty"`
	MeasuredSeconds float64  `json:"measured_seconds,omitempty"`
	Processes       int      `json:"processes"`

	Connect Connect  `json:"connect"`
	Idle    *Idle    `json:"idle,omitempty"`
	Traffic *Traffic `json:"traffic,omitempty"`

	// Servers are the processes that were measured, those of one name together.
	Servers []Use `json:"servers,omitempty"`

	// Closed counts connections that ended before the end, and Reason is why the first did. Stalled counts readers that did not
	// read; they are part of no other count. The server ended Dropped of them; when the others read at last, CaughtUp got all
	// messages and Skipped did not, by Missed messages in all.
	Closed  int    `json:"closed"`
	Reason  string `json:"reason,omitempty"`
	Stalled int    `json:"stalled"`
	Dropped int    `json:"dropped"`

	CaughtUp int   `json:"caught_up,omitempty"`
	Skipped  int   `json:"skipped,omitempty"`
	Missed   int64 `json:"missed,omitempty"`
}

// Connect is how the readers connected: from the first attempt to the last answer.
type Connect struct {
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	// Retries counts attempts that failed and were made again.
	Retries int `json:"retries"`
	// Took is from one connection's attempt to its upgrade.
	Took         Quantiles `json:"took"`
	ServerCPUus  float64   `json:"server_cpu_us_per_connect,omitempty"`
	ServerCPUsec float64   `json:"server_cpu_seconds,omitempty"`
}

// Idle is what connections cost without traffic. Before is the servers' memory before the first of them.
type Idle struct {
	Seconds            float64 `json:"seconds"`
	Memory             string  `json:"memory"`
	BytesBefore        int64   `json:"bytes_before"`
	Bytes              int64   `json:"bytes"`
	BytesPerConnection float64 `json:"bytes_per_connection"`
	// CPUPercent of one processor.
	CPUPercent float64 `json:"cpu_percent"`
}

// Traffic is what became of the messages. The account covers all that were sent, warm-up included; rates, CPU time and
// latency the measured time alone.
type Traffic struct {
	Sent int64 `json:"sent"`
	// MeasuredMessages were due while measuring.
	MeasuredMessages int64 `json:"measured_messages"`
	// Unsent counts messages that the server did not take in time: they were due, but never left the generator.
	Unsent int64 `json:"unsent"`
	Account
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`
	// Latency is from when a message was due to when it was read at a connection.
	Latency Quantiles `json:"latency"`
	// Late is how much after its time a message was sent, the generator's own share of the latency.
	Late Quantiles `json:"late"`
	// ServerCPUus is the server's CPU time per delivery, deliveries to publishers (Echoes) included.
	ServerCPUus float64 `json:"server_cpu_us_per_delivery,omitempty"`
	// ServerCPUusPerMessage is the same for each message sent.
	ServerCPUusPerMessage float64 `json:"server_cpu_us_per_message,omitempty"`

	ServerCPUPercent float64 `json:"server_cpu_percent,omitempty"`
	GeneratorCPUus   float64 `json:"generator_cpu_us_per_delivery"`
	GeneratorPercent float64 `json:"generator_cpu_percent"`
	Echoes           int64   `json:"echoes,omitempty"`
	// OthersPercent of a processor was used by neither: interrupts, and processes that should not have run meanwhile.
	OthersPercent float64 `json:"others_cpu_percent,omitempty"`

	measured  int64         // deliveries that arrived while measuring
	generator time.Duration // CPU time of all workers meanwhile
	machine   time.Duration // CPU time of everything meanwhile
}

// Quantiles of durations, in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Quantiles are those of h that results tell.
func (h *Histogram) Quantiles() Quantiles {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Quantiles{ms(h.Quantile(0.5)), ms(h.Quantile(0.9)), ms(h.Quantile(0.99)), ms(h.Max())}
}

func (q Quantiles) String() string {
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  max %s", millis(q.P50), millis(q.P90), millis(q.P99), millis(q.Max))
}

// millis writes a number of milliseconds with three digits or more.
func millis(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// Flawless says whether every message arrived at every connection once and in order.
func (r *Result) Flawless() bool {
	t := r.Traffic
	return r.Closed == 0 && (t == nil || t.Unsent == 0 && t.Lost == 0 && t.Repeated == 0 && t.OutOfOrder == 0)
}

// WriteTable writes the result for people.
func (r *Result) WriteTable(w io.Writer) error {
	p := &printer{w: w}
	p.row("connections", "%d in %d rooms, by %d processes", r.Connections, r.Rooms, r.Processes)
	p.row("connecting", "%.0f/s (%.2f s), %d retries", r.Connect.PerSecond, r.Connect.Seconds, r.Connect.Retries)
	p.row("", "%v", r.Connect.Took)
	if r.Connect.ServerCPUus > 0 {
		p.row("", "server CPU %.1f µs per connection", r.Connect.ServerCPUus)
	}
	if i := r.Idle; i != nil {
		p.row("idle", "%.0f bytes of %s per connection (%.1f MiB in all), server CPU %.2f %% of a processor over %.1f s",
			i.BytesPerConnection, i.Memory, float64(i.Bytes)/(1<<20), i.CPUPercent, i.Seconds)
	}
	if t := r.Traffic; t != nil {
		r.writeTraffic(p, t)
	}
	if r.Stalled > 0 {
		p.row("stalled", "%d did not read: %d were ended by the server, %d caught up at the end, %d had missed %d messages",
			r.Stalled, r.Dropped, r.CaughtUp, r.Skipped, r.Missed)
	}
	if r.Closed > 0 {
		p.row("closed", "%d connections ended early; the first: %s", r.Closed, r.Reason)
	}
	return p.err
}

func (r *Result) writeTraffic(p *printer, t *Traffic) {
	how := fmt.Sprintf("%g/s of %d bytes", r.Rate, r.Size)
	if r.TraceMessages > 0 {
		how = "a recorded chat"
	}
	p.row("messages", "%d sent (%s), %d not taken by the server", t.Sent, how, t.Unsent)
	p.row("deliveries", "%d expected, %d received", t.Expected, t.Received)
	p.row("", "%d lost, %d repeated, %d out of order", t.Lost, t.Repeated, t.OutOfOrder)
	p.row("", "%.0f/s over %.1f s after %.1f s of warm-up", t.DeliveriesPerSecond, r.MeasuredSeconds, r.WarmupSeconds)
	p.row("latency", "%v", t.Latency)
	p.row("sent late", "%v", t.Late)
	if t.ServerCPUus > 0 {
		p.row("server CPU", "%.3f µs per delivery, %.0f µs per message, %.0f %% of a processor", t.ServerCPUus, t.ServerCPUusPerMessage,
			t.ServerCPUPercent)
		if len(r.Servers) > 1 {
			for _, u := range r.Servers {
				p.row("", "%s: %.0f %%", u.Name, u.CPUPercent)
			}
		}
	}
	p.row("generator", "%.3f µs of CPU per delivery", t.GeneratorCPUus)
	if t.ServerCPUus > 0 {
		p.row("others", "%.0f %% of a processor", t.OthersPercent)
	}
}

// printer writes rows and remembers the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) row(name, format string, args ...any) {
	if _, err := fmt.Fprintf(p.w, "%-12s "+format+"\n", append([]any{name}, args...)...); p.err == nil {
		p.err = err
	}
}
