package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"barrage/internal/machine"
	"barrage/internal/testserver"
	"barrage/test"
)

// stage is the cluster with its audience and the player. It is used by one goroutine.
type stage struct {
	settings
	interrupted <-chan os.Signal
	progress    io.Writer

	cluster  *testserver.NodeCluster
	audience []*listeners
	player   *exec.Cmd
	said     bytes.Buffer     // standard output of the player; read after it ended
	played   chan error       // how the player ended
	used     usage            // at the start of the replay
	busy     [2]machine.Times // of the machine, at start and end
}

// errInterrupted ends the demonstration early.
var errInterrupted = errors.New("interrupted")

func (st *stage) say(format string, args ...any) {
	fmt.Fprintf(st.progress, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// play is the story: start everything, replay with a kill half-way, wait until everybody has everything, report.
func (st *stage) play() (*report, error) {
	var err error
	st.say("starting PostgreSQL, Redis, %d nodes and nginx", st.Nodes)
	if st.cluster, err = testserver.StartClusterWith(testserver.ClusterOptions{Nodes: st.Nodes}); err != nil {
		return nil, err
	}
	if err := st.openAudience(); err != nil {
		return nil, err
	}
	r := &report{Machine: machine.Describe(), Trace: st.Trace, Subscribers: st.Subscribers, Nodes: st.Nodes, Speed: st.Speed}
	started := time.Now()
	if err := st.startPlayer(); err != nil {
		return nil, err
	}
	if err := st.follow(r, started); err != nil {
		return nil, err
	}
	r.Seconds = time.Since(started).Seconds()
	head, err := st.head()
	if err != nil {
		return nil, err
	}
	st.say("the replay has ended at offset %d; waiting until everybody has everything", head)
	r.Messages = head
	r.Expected = head * uint64(st.Subscribers)
	if err := json.Unmarshal(lastObject(st.said.Bytes()), &r.Replay); err != nil {
		st.say("the replay printed no JSON object: %v", err)
	}
	st.busy[1] = machine.Busy()
	r.MachineBusy = busyPart(st.busy[0], st.busy[1])
	r.CPU = st.cpu().minus(st.used)
	return r, st.collect(r, head)
}

// openAudience starts the processes with subscribers and waits until all of them are connected.
func (st *stage) openAudience() error {
	for i := range st.Processes {
		n := (st.Subscribers + i) / st.Processes // the sum is exact
		l, err := startListeners(st.cluster.Nginx.Addr(), st.Channel, n)
		if err != nil {
			return err
		}
		st.audience = append(st.audience, l)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		connected := 0
		for _, l := range st.audience {
			connected += l.latest().Connected
		}
		if connected == st.Subscribers {
			st.say("%d subscribers are connected", connected)
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d subscribers are connected after two minutes\n%s", connected, st.Subscribers, st.cluster.Logs())
		}
		if err := st.wait(200 * time.Millisecond); err != nil {
			return err
		}
	}
}

// wait pauses, or ends at once when the user interrupts or a process of the audience ended.
func (st *stage) wait(d time.Duration) error {
	select {
	case <-st.interrupted:
		return errInterrupted
	case <-time.After(d):
	}
	for _, l := range st.audience {
		if err := l.failed(); err != nil {
			return err
		}
	}
	return nil
}

func (st *stage) startPlayer() error {
	bin, err := testserver.Binary()
	if err != nil {
		return err
	}
	args := []string{
		"replay", "--trace", st.Trace, "--channel", st.Channel, "--speed", strconv.FormatFloat(st.Speed, 'g', -1, 64),
		"--url", "ws" + strings.TrimPrefix(st.cluster.URL(), "http"), "--json",
	}
	if st.Busiest > 0 {
		args = append(args, "--busiest", st.Busiest.String())
	}
	st.player = testserver.Command(bin, args...)
	st.player.Env = testserver.CleanEnv()
	st.player.Stdout, st.player.Stderr = &st.said, st.progress
	st.used, st.busy[0] = st.cpu(), machine.Busy()
	if err := st.player.Start(); err != nil {
		return err
	}
	st.played = make(chan error, 1)
	go func() { st.played <- st.player.Wait() }()
	return nil
}

// follow shows progress until the replay ends, and kills a node and starts it again on the way.
func (st *stage) follow(r *report, started time.Time) error {
	length := traceLength(st.Trace)
	if st.Busiest > 0 {
		length = min(length, st.Busiest)
	}
	length = time.Duration(float64(length) / st.Speed)
	killAt := time.Duration(float64(length) * st.KillAt)
	victim := st.cluster.Nodes[len(st.cluster.Nodes)/2]
	var killed, restarted bool
	for next := started.Add(10 * time.Second); ; {
		select {
		case err := <-st.played:
			if err != nil {
				return fmt.Errorf("the replay failed: %w", err)
			}
			return nil
		default:
		}
		if err := st.wait(100 * time.Millisecond); err != nil {
			return err
		}
		at := time.Since(started)
		if st.KillAt > 0 && !killed && at >= killAt {
			killed = true
			r.Killed = victim.Name()
			st.say("kill -9 of node %s", victim.Name())
			if err := victim.Kill(); err != nil {
				return err
			}
		}
		if killed && !restarted && st.RestartAfter > 0 && at >= killAt+st.RestartAfter {
			restarted = true
			st.say("node %s is started again", victim.Name())
			if err := victim.Restart(); err != nil {
				return err
			}
		}
		if time.Now().After(next) {
			next = next.Add(10 * time.Second)
			st.showProgress(at, length)
		}
	}
}

func (st *stage) showProgress(at, length time.Duration) {
	var sum progress
	for _, l := range st.audience {
		p := l.latest()
		sum.Connected += p.Connected
		sum.Deliveries += p.Deliveries
		sum.Reconnects += p.Reconnects
	}
	st.say("%s of %s: %d connected, %d deliveries, %d reconnects", at.Round(time.Second), length.Round(time.Second),
		sum.Connected, sum.Deliveries, sum.Reconnects)
}

// head asks the cluster for the channel's last offset.
func (st *stage) head() (uint64, error) {
	c, err := test.Dial(st.cluster.URL(), test.Channel("ws", st.Channel), http.Header{})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	l, err := c.Next(10 * time.Second)
	if err != nil {
		return 0, err
	}
	if l.Welcome == nil {
		return 0, fmt.Errorf("no welcome, but %s", l.Text)
	}
	return l.Welcome.Offset, nil
}

// collect tells the audience where the end is and adds up what it saw.
func (st *stage) collect(r *report, head uint64) error {
	for _, l := range st.audience {
		if err := l.finish(head); err != nil {
			return err
		}
	}
	for _, l := range st.audience {
		f, err := l.wait()
		if err != nil {
			return err
		}
		r.add(f)
	}
	r.summarise()
	return nil
}

// close ends every process.
func (st *stage) close() {
	if st.player != nil && st.player.Process != nil {
		st.player.Process.Kill()
	}
	for _, l := range st.audience {
		l.close()
	}
	if st.cluster != nil {
		st.cluster.Close()
	}
	testserver.RemoveBinary()
}

// lastObject is the last JSON object in text: the report of a command that may print lines before it.
func lastObject(text []byte) []byte {
	text = bytes.TrimSpace(text)
	if i := bytes.LastIndex(text, []byte("\n{")); i >= 0 {
		return text[i+1:]
	}
	return text
}

// traceLength is the time of the last line of a trace; 0 when it cannot be read.
func traceLength(path string) time.Duration {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	text = bytes.TrimSpace(text)
	line := text[bytes.LastIndexByte(text, '\n')+1:]
	ms, _ := strconv.Atoi(string(line[:max(0, bytes.IndexByte(line, ','))]))
	return time.Duration(ms) * time.Millisecond
}
