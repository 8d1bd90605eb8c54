package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"barrage/internal/load"
	"barrage/internal/testserver"
)

// progress is what a process of the audience says about itself every half second.
type progress struct {
	Connected  int    `json:"connected"`
	Deliveries uint64 `json:"deliveries"`
	Reconnects int    `json:"reconnects"`
	// Final is set once, at the end.
	Final *findings `json:"final,omitempty"`
}

// findings is what a process of the audience found in the end.
type findings struct {
	Deliveries uint64         `json:"deliveries"`
	Lost       uint64         `json:"lost"`
	Repeated   uint64         `json:"repeated"`
	OutOfOrder uint64         `json:"out_of_order"`
	Resets     uint64         `json:"resets"`
	Errors     uint64         `json:"errors"`
	Reconnects int            `json:"reconnects"`
	Bytes      uint64         `json:"bytes"`
	Nodes      map[string]int `json:"nodes"` // first welcomes by node
	Latency    load.Histogram `json:"latency"`
	Pauses     load.Histogram `json:"pauses"`
}

// listeners is one process of the audience, seen from outside.
type listeners struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	ended chan struct{} // closed when the process ended and err is written
	err   error

	mu  sync.Mutex
	now progress
}

// startListeners starts a process with n subscribers.
func startListeners(addr, channel string, n int) (*listeners, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &listeners{ended: make(chan struct{})}
	l.cmd = testserver.Command(self, audienceCommand, addr, channel, strconv.Itoa(n))
	l.cmd.Stderr = os.Stderr
	if l.input, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(l.ended)
		l.read(output)
		l.err = l.cmd.Wait()
	}()
	return l, nil
}

// read takes lines of progress until the process ends.
func (l *listeners) read(output io.Reader) {
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 16<<20) // histograms are long
	for lines.Scan() {
		var p progress
		if json.Unmarshal(lines.Bytes(), &p) == nil {
			l.mu.Lock()
			l.now = p
			l.mu.Unlock()
		}
	}
}

func (l *listeners) latest() progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// failed says whether the process ended before it was told to.
func (l *listeners) failed() error {
	select {
	case <-l.ended:
		return fmt.Errorf("a process of the audience ended: %w", errors.Join(l.err, errors.New("see above")))
	default:
		return nil
	}
}

// finish tells the process the last offset: it ends when all its subscribers have seen that, or after a limit.
func (l *listeners) finish(head uint64) error {
	_, err := fmt.Fprintln(l.input, head)
	return err
}

// wait returns what the process found.
func (l *listeners) wait() (*findings, error) {
	select {
	case <-l.ended:
	case <-time.After(finishLimit + 30*time.Second):
		return nil, errors.New("a process of the audience does not end")
	}
	f := l.latest().Final
	if f == nil {
		return nil, fmt.Errorf("a process of the audience reported nothing: %w", l.err)
	}
	return f, nil
}

func (l *listeners) close() {
	l.cmd.Process.Kill()
	<-l.ended
}
