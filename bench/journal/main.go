// Command journal measures how many publishes a second the journals acknowledge as stored, beside the least that the same
// database could do: rows inserted in batches of 512 into a table without index and without offsets.
//
// PostgreSQL is a server of its own, with its default settings, in a temporary folder, unless --postgres names one. Every
// publisher waits for its acknowledgement before it publishes again. Figures of one run may be compared with each other.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"barrage/internal/machine"
	"barrage/internal/testserver"
	"barrage/journal"
	"barrage/journal/open"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-journal:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	postgres, only       string
	publishers, channels counts
	duration, warmup     time.Duration
	size, rounds         int
	json                 bool
}

// counts is a flag with whole numbers, separated by commas.
type counts []int

func (c *counts) String() string { return strings.Trim(fmt.Sprint([]int(*c)), "[]") }
func (c *counts) Set(text string) error {
	*c = nil
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number above 0", part)
		}
		*c = append(*c, n)
	}
	return nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o := options{publishers: counts{1, 16, 256}, channels: counts{1, 100}}
	flags := flag.NewFlagSet("journal", flag.ContinueOnError)
	flags.StringVar(&o.postgres, "postgres", "", "URL of a PostgreSQL database to use; it gets tables in a schema of its own")
	flags.StringVar(&o.only, "only", "", "only this journal: sqlite or postgres")
	flags.Var(&o.publishers, "publishers", "numbers of concurrent publishers")
	flags.Var(&o.channels, "channels", "numbers of channels that they publish into")
	flags.DurationVar(&o.duration, "duration", 2*time.Second, "how long each cell measures")
	flags.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "how long each cell runs before it measures")
	flags.IntVar(&o.size, "size", 128, "length of a message in bytes")
	flags.IntVar(&o.rounds, "rounds", 1, "how often everything is run; the table shows medians")
	flags.BoolVar(&o.json, "json", false, "print one JSON object instead of the table")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "barrage-bench-journal-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := report{Began: time.Now(), Machine: machine.Describe(), Size: o.size, Seconds: o.duration.Seconds()}
	for _, kind := range []string{"sqlite", "postgres"} {
		if o.only != "" && o.only != kind {
			continue
		}
		if err := r.measure(ctx, &o, kind, dir); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	r.collapse()
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", " ")
		return e.Encode(&r)
	}
	return r.write(out)
}

// report is everything that was measured.
type report struct {
	Began   time.Time           `json:"began"`
	Machine machine.Description `json:"machine"`
	Size    int                 `json:"size"`
	Seconds float64             `json:"seconds_per_cell"`
	Bare    []bare              `json:"bare"`
	Cells   []cell              `json:"cells"`
}

// bare is what the database does without a journal.
type bare struct {
	Journal     string  `json:"journal"`
	Connections int     `json:"connections"`
	PerSecond   float64 `json:"rows_per_second"`
	// CPU time of this program and the database it started, for each row.
	CPUus float64 `json:"cpu_us_per_row"`
}

// cell is one measurement of a journal.
type cell struct {
	Journal    string  `json:"journal"`
	Publishers int     `json:"publishers"`
	Channels   int     `json:"channels"`
	PerSecond  float64 `json:"publishes_per_second"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	// CPU time of this program and the database it started, for each publish.
	CPUus float64 `json:"cpu_us_per_publish"`
	// Batch is the mean number of drafts in a commit.
	Batch float64 `json:"batch"`
	// Ratio to the better bare insert of the same database.
	Ratio float64 `json:"ratio"`
}

// bound is the least ratio that a cell must reach; 0 where none is asked for.
func (c *cell) bound() float64 {
	if c.Journal == "postgres" && c.Publishers == 256 && c.Channels == 1 {
		return 0.6
	}
	return 0
}

// measure runs all cells of one kind of journal in every round, the bare inserts before and after them.
func (r *report) measure(ctx context.Context, o *options, kind, dir string) error {
	url := o.postgres
	if kind == "postgres" && url == "" {
		server, err := testserver.StartPostgres()
		if err != nil {
			return err
		}
		defer server.Close()
		url = server.URL()
	}
	least := func() error {
		b, err := measureBare(ctx, o, kind, url, filepath.Join(dir, "bare.db"))
		r.Bare = append(r.Bare, b...)
		return err
	}
	if err := least(); err != nil {
		return err
	}
	for range o.rounds {
		if err := r.cells(ctx, o, kind, url, dir); err != nil {
			return err
		}
		if err := least(); err != nil {
			return err
		}
	}
	return nil
}

// cells runs all cells of one kind of journal once.
func (r *report) cells(ctx context.Context, o *options, kind, url, dir string) error {
	for _, channels := range o.channels {
		for _, publishers := range o.publishers {
			name := url
			if kind == "sqlite" {
				name = "sqlite:" + filepath.Join(dir, fmt.Sprintf("%d-%d.db", channels, publishers))
			}
			fmt.Fprintf(os.Stderr, "%s: %d publishers into %d channels\n", kind, publishers, channels)
			c, err := measureCell(ctx, o, name, publishers, channels)
			if err != nil {
				return err
			}
			c.Journal = kind
			r.Cells = append(r.Cells, c)
		}
	}
	return nil
}

// collapse replaces the cells of all rounds by their medians, and compares them with the bare inserts.
func (r *report) collapse() {
	var out []cell
	for _, c := range r.Cells {
		alike := func(d cell) bool {
			return d.Journal == c.Journal && d.Publishers == c.Publishers && d.Channels == c.Channels
		}
		if slices.ContainsFunc(out, alike) {
			continue
		}
		median := func(value func(cell) float64) float64 {
			var all []float64
			for _, d := range r.Cells {
				if alike(d) {
					all = append(all, value(d))
				}
			}
			slices.Sort(all)
			return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
		}
		c.PerSecond = median(func(d cell) float64 { return d.PerSecond })
		c.P50, c.P99 = median(func(d cell) float64 { return d.P50 }), median(func(d cell) float64 { return d.P99 })
		c.CPUus, c.Batch = median(func(d cell) float64 { return d.CPUus }), median(func(d cell) float64 { return d.Batch })
		c.Ratio = c.PerSecond / r.best(c.Journal)
		out = append(out, c)
	}
	r.Cells = out
}

// best is the best bare insert: of each number of connections the mean of what was measured around the cells.
func (r *report) best(kind string) float64 {
	sums, n := map[int]float64{}, map[int]float64{}
	for _, b := range r.Bare {
		if b.Journal == kind {
			sums[b.Connections] += b.PerSecond
			n[b.Connections]++
		}
	}
	var best float64
	for connections, sum := range sums {
		best = max(best, sum/n[connections])
	}
	return best
}

// measureCell opens a journal and has publishers publish into it.
func measureCell(ctx context.Context, o *options, url string, publishers, channels int) (cell, error) {
	j, err := open.Journal(ctx, url, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return cell{}, err
	}
	defer j.Close()
	if err := open.Ready(ctx, j); err != nil {
		return cell{}, err
	}
	w := journal.NewWriter(j, journal.WriterOptions{})
	c, err := publishAll(ctx, w, crowd{
		publishers: publishers, channels: channels, size: o.size, warmup: o.warmup, duration: o.duration,
		prefix: strconv.FormatInt(time.Now().UnixNano(), 36) + "-",
	})
	return c, errors.Join(err, w.Close(ctx))
}

// write writes the table.
func (r *report) write(out io.Writer) error {
	fmt.Fprintf(out, "%v\n%s, messages of %d bytes, %g s a cell, each publisher waits for its acknowledgement\n\n",
		r.Machine, r.Began.Format(time.DateTime), r.Size, r.Seconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "journal\tpublishers\tchannels\tacknowledged/s\tp50 ms\tp99 ms\tCPU µs\tbatch\tof bare\tmust be\t")
	for _, kind := range []string{"sqlite", "postgres"} {
		rows := slices.DeleteFunc(slices.Clone(r.Bare), func(b bare) bool { return b.Journal != kind })
		slices.SortStableFunc(rows, func(a, b bare) int { return cmp.Compare(a.Connections, b.Connections) })
		for _, b := range rows {
			fmt.Fprintf(w, "%s, bare insert\t%d\t\t%.0f\t\t\t%.1f\t512\t\t\t\n", kind, b.Connections, b.PerSecond, b.CPUus)
		}
		for i := range r.Cells {
			c := &r.Cells[i]
			if c.Journal != kind {
				continue
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.2f\t%.2f\t%.1f\t%.0f\t%.0f %%\t%s\t\n", kind, c.Publishers, c.Channels, c.PerSecond, c.P50, c.P99,
				c.CPUus, c.Batch, 100*c.Ratio, verdict(c.Ratio, c.bound()))
		}
	}
	return w.Flush()
}

// meter takes CPU time at both ends of the measured time.
type meter struct {
	mu       sync.Mutex
	from, to time.Duration // owner: mu
}

// start takes the first sample after the warm-up; the result takes the second one and tells the difference in µs for each of n.
func (m *meter) start(after time.Duration) (end func(n float64) float64) {
	timer := time.AfterFunc(after, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.from = used()
	})
	return func(n float64) float64 {
		timer.Stop()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.to = used()
		return float64((m.to - m.from).Microseconds()) / max(1, n)
	}
}

// used is the CPU time of this process and of those that it started.
func used() time.Duration {
	all, err := machine.CPU([]int{os.Getpid()})
	if err != nil {
		return 0
	}
	return all[0]
}

func verdict(ratio, bound float64) string {
	switch {
	case bound == 0:
		return ""
	case ratio >= bound:
		return fmt.Sprintf("at least %.0f %%: reached", 100*bound)
	}
	return fmt.Sprintf("at least %.0f %%: MISSED", 100*bound)
}
