package load

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// progressEvery is how often a worker tells how far it is.
const progressEvery = 200 * time.Millisecond

// maxFailed is how many attempts to connect may fail, besides one for each connection.
const maxFailed = 100

// Work is a worker: it reads its job and orders from in, one JSON object per line, and writes what it has to tell to out. It
// blocks until it is done or in ends, and keeps its thread for itself.
func Work(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	encoder := json.NewEncoder(out)
	emit := func(e event) error { return encoder.Encode(e) }
	var job Job
	if err := readLine(lines, &job); err != nil {
		return err
	}
	l, err := newLoop(&job, emit)
	if err != nil {
		return errors.Join(err, emit(event{Error: err.Error()}))
	}
	w := &worker{loop: l, orders: make(chan order, 4), gone: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	go w.listen(ctx, lines)
	err = w.run()
	stop()
	_ = l.close()
	if err != nil {
		err = errors.Join(err, emit(event{Error: err.Error()}))
	}
	return err
}

func readLine(lines *bufio.Scanner, v any) error {
	if !lines.Scan() {
		return cmpErr(lines.Err(), io.ErrUnexpectedEOF)
	}
	return json.Unmarshal(lines.Bytes(), v)
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// worker follows orders with its loop.
type worker struct {
	*loop
	orders chan order
	gone   chan struct{} // closed when no more orders can come
	told   int64         // when progress was told last
	// sampled counts the ends of the window that CPU time was taken at.
	sampled int
}

// listen passes orders on and wakes the loop, until the coordinator is gone or ctx ends.
func (w *worker) listen(ctx context.Context, lines *bufio.Scanner) {
	defer close(w.gone)
	for {
		var o order
		if readLine(lines, &o) != nil {
			return
		}
		select {
		case w.orders <- o:
		case <-ctx.Done():
			return
		}
		w.ring()
	}
}

// ring ends the loop's wait.
func (w *worker) ring() { _, _ = w.wake.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}) }

var errGone = errors.New("the coordinator is gone")

func (w *worker) run() error {
	if err := w.emit(event{Ready: true}); err != nil {
		return err
	}
	for {
		o, err := w.await()
		if err != nil {
			return err
		}
		switch {
		case o.Connect:
			if err := w.connectAll(); err != nil {
				return err
			}
			if err := w.emit(event{Connected: &w.dial.opened}); err != nil {
				return err
			}
		case o.Begin != nil:
			w.window = *o.Begin
			if w.job.Publish != nil {
				if err := w.publishAll(); err != nil {
					return err
				}
			}
		case o.Finish != nil:
			return w.finish(o.Finish)
		}
	}
}

// await serves the connections until the next order.
func (w *worker) await() (order, error) {
	for {
		select {
		case o := <-w.orders:
			return o, nil
		default:
		}
		if err := w.serve(50 * time.Millisecond); err != nil {
			return order{}, err
		}
	}
}

// serve lets the connections work for a moment and tells how far they are.
func (w *worker) serve(d time.Duration) error {
	if err := w.poll(d); err != nil {
		return err
	}
	now := w.clock.now()
	w.sample(now)
	if now-w.told < int64(progressEvery) {
		return nil
	}
	select {
	case <-w.gone:
		return errGone
	default:
	}
	w.told = now
	return w.emit(event{Progress: &progress{Open: w.opened, Received: w.ledger.Received, Sent: w.pub.total}})
}

// sample takes this process's CPU time at both ends of the window.
func (w *worker) sample(now int64) {
	if w.window.To == 0 || w.sampled == 2 {
		return
	}
	if w.sampled == 0 && now >= w.window.Measure || w.sampled == 1 && now >= w.window.To {
		w.sampled++
		var u unix.Rusage
		if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
			w.out.CPU = time.Duration(u.Utime.Nano()+u.Stime.Nano()) - w.out.CPU
		}
	}
}

// connectAll opens all connections.
func (w *worker) connectAll() error {
	d := &w.dial
	d.First = w.clock.now()
	until := d.First + int64(w.job.OpenFor)
	for w.opened < len(w.conns) {
		if err := w.begin(); err != nil {
			return err
		}
		if err := w.serve(10 * time.Millisecond); err != nil {
			return err
		}
		if w.clock.now() > until || w.out.Closed > 0 || d.failed > maxFailed+len(w.conns) {
			return fmt.Errorf("%d of %d connections are open after %v; %d attempts failed: %s", w.opened, len(w.conns),
				time.Duration(w.clock.now()-d.First).Round(time.Millisecond), d.failed, cmp.Or(d.why, w.out.Reason, "no answer"))
		}
	}
	d.Retry = d.failed
	return nil
}

// publishAll sends the whole schedule and tells what was sent.
func (w *worker) publishAll() error {
	for !w.publish() {
		if err := w.serve(50 * time.Millisecond); err != nil {
			return err
		}
	}
	for late := w.window.To + int64(time.Second); w.clock.now() < w.window.To || len(w.unsent) > 0 && w.clock.now() < late; {
		if err := w.serve(50 * time.Millisecond); err != nil {
			return err
		}
	}
	return w.emit(event{Sent: &w.pub.sent})
}

// finish waits for what is under way and tells what was counted.
func (w *worker) finish(f *finish) error {
	var expected int64
	if w.job.Publish == nil {
		if len(f.Sent) != w.job.Rooms*w.job.Publishers {
			return fmt.Errorf("%d counts of messages for %d streams", len(f.Sent), w.job.Rooms*w.job.Publishers)
		}
		for i := range w.conns {
			if !w.job.stalled(i) {
				expected += w.sentTo(i, f)
			}
		}
	}
	for w.ledger.Received < expected && w.clock.now() < f.Until {
		if err := w.serve(50 * time.Millisecond); err != nil {
			return err
		}
	}
	w.ledger.settle(expected)
	w.out.Account = w.ledger.Account
	if w.late != nil {
		if err := w.wakeStalled(f); err != nil {
			return err
		}
	}
	return w.emit(event{Done: &w.out})
}

// sentTo is how many messages were sent to the room of connection i.
func (w *worker) sentTo(i int, f *finish) (n int64) {
	for stream := w.job.room(i); stream < len(f.Sent); stream += w.job.Rooms {
		n += int64(f.Sent[stream])
	}
	return n
}

// quietAfter is how long nothing must have come for those that stalled before they are taken to have all that they will get.
const quietAfter = time.Second

// wakeStalled lets those that did not read read, and counts what became of them.
func (w *worker) wakeStalled(f *finish) error {
	var expected int64
	for i := range w.conns {
		if c := &w.conns[i]; c.state == stalledOpen {
			c.state = resumed
			expected += w.sentTo(i, f)
			w.check(int32(i), w.control(unix.EPOLL_CTL_MOD, int(c.fd), int32(i), c.gen, unix.EPOLLIN))
		}
	}
	had, since := w.late.Received, w.clock.now()
	for now := since; w.late.Received < expected && now-since < int64(quietAfter) && now < f.Until+int64(quietAfter); now = w.clock.now() {
		if err := w.serve(50 * time.Millisecond); err != nil {
			return err
		}
		if w.late.Received > had {
			had, since = w.late.Received, now
		}
	}
	for i := range w.conns {
		if w.conns[i].state != resumed {
			continue
		}
		if missed := w.sentTo(i, f) - w.late.had(i*w.job.Publishers, w.job.Publishers); missed > 0 {
			w.out.Skipped++
			w.out.Missed += missed
		} else {
			w.out.CaughtUp++
		}
	}
	return nil
}
