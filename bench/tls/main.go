// Command tls measures what TLS costs a node: memory of the process per idle connection, and CPU of the server per
// handshake and per delivery, on both engines, beside the same without TLS. It starts the nodes itself, from a binary that is
// given, and is their client; run it on a machine that does nothing else.
//
//	go build -o bin/barrage ./cmd/barrage && go run ./bench/tls --barrage bin/barrage
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"barrage/internal/testcert"
	"barrage/ws"
)

// options are the flags.
type options struct {
	binary      string
	connections int
	rates       string
	size        int
	seconds     int
	variants    string
	storm       int
	against     string // a storm in a process of its own: the address
}

func main() {
	var o options
	flag.StringVar(&o.binary, "barrage", "bin/barrage", "the `FILE` to start as a node")
	flag.IntVar(&o.connections, "connections", 4000, "members of the room")
	flag.StringVar(&o.rates, "rates", "5,20,100", "messages a second")
	flag.IntVar(&o.size, "size", 128, "bytes of a message")
	flag.IntVar(&o.seconds, "seconds", 5, "time for each rate")
	flag.StringVar(&o.variants, "variants", "auto,auto+tls,portable,portable+tls", "engines, each with or without TLS")
	flag.IntVar(&o.storm, "storm", 3000, "connections that come at once while an echo is timed")
	flag.StringVar(&o.against, "against", "", "used by the program itself")
	flag.Parse()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/tls:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	if o.against != "" {
		n := &node{options: o, addr: o.against, tls: &tls.Config{InsecureSkipVerify: true}}
		return n.fill(o.storm, 256)
	}
	dir, err := os.MkdirTemp("", "barrage-tls-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pair := testcert.New(1)
	if _, _, err := pair.Write(dir); err != nil {
		return err
	}
	fmt.Printf("%d connections, messages of %d bytes\n", o.connections, o.size)
	for variant := range strings.SplitSeq(o.variants, ",") {
		engine, secure := strings.CutSuffix(variant, "+tls")
		n := &node{options: o, dir: dir, engine: engine}
		if secure {
			n.tls = testcert.Client(pair)
		}
		if err := n.idle(variant); err != nil {
			return fmt.Errorf("%s: %w", variant, err)
		}
		if err := n.busy(variant); err != nil {
			return fmt.Errorf("%s: %w", variant, err)
		}
		if n.tls == nil {
			continue
		}
		if err := n.stormed(variant); err != nil {
			return fmt.Errorf("%s: %w", variant, err)
		}
	}
	return nil
}

// node is a process that is measured.
type node struct {
	*options
	dir    string
	engine string
	tls    *tls.Config // nil without TLS
	cmd    *exec.Cmd
	addr   string
	room   []net.Conn
	got    atomic.Int64
	wg     sync.WaitGroup
}

func (n *node) start(env ...string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	n.addr = l.Addr().String()
	l.Close()
	args := []string{"serve", "--listen", n.addr, "--journal", "memory:", "--engine", n.engine, "--log-level", "error"}
	if n.tls != nil {
		args = append(args, "--tls-cert", filepath.Join(n.dir, "cert.pem"), "--tls-key", filepath.Join(n.dir, "key.pem"))
	}
	n.cmd = exec.Command(n.binary, args...)
	n.cmd.Env = append(os.Environ(), env...)
	n.cmd.Stderr = os.Stderr
	if err := n.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := n.join("warm")
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func (n *node) stop() {
	for _, c := range n.room {
		c.Close()
	}
	n.wg.Wait()
	n.room = nil
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

// join opens a connection to a channel.
func (n *node) join(channel string) (net.Conn, error) {
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		return nil, err
	}
	if n.tls != nil {
		config := n.tls.Clone()
		config.ServerName = "localhost"
		conn = tls.Client(conn, config)
	}
	fmt.Fprintf(conn, "GET /raw/%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", channel, n.addr)
	resp, err := http.ReadResponse(bufio.NewReaderSize(oneByte{conn}, 16), nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer resp.Body.Close() // it has none
	if resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, fmt.Errorf("%s", resp.Status)
	}
	return conn, nil
}

// oneByte reads a byte at a time, so that nothing behind a head is taken.
type oneByte struct{ io.Reader }

func (r oneByte) Read(b []byte) (int, error) { return r.Reader.Read(b[:1]) }

// fill opens the room's connections, some at a time.
func (n *node) fill(connections, together int) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	for i := range together {
		wg.Go(func() {
			for range (connections + together - 1 - i) / together {
				c, err := n.join("room")
				mu.Lock()
				if err != nil {
					failed = err
				} else {
					n.room = append(n.room, c)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

// idle measures memory, with a collector that leaves little garbage.
func (n *node) idle(variant string) error {
	if err := n.start("GOGC=10"); err != nil {
		return err
	}
	defer n.stop()
	time.Sleep(time.Second)
	before := n.resident()
	if err := n.fill(n.connections, 32); err != nil {
		return err
	}
	time.Sleep(4 * time.Second)
	fmt.Printf("%-14s %7.0f B of memory per idle connection\n", variant, float64(n.resident()-before)/float64(n.connections))
	return nil
}

// busy measures CPU.
func (n *node) busy(variant string) error {
	if err := n.start(); err != nil {
		return err
	}
	defer n.stop()
	before := n.cpu()
	if err := n.fill(n.connections, 32); err != nil {
		return err
	}
	fmt.Printf("%-14s %7.1f µs of CPU per connection made\n", variant, micros(n.cpu()-before)/float64(n.connections))
	for _, c := range n.room {
		n.wg.Go(func() { n.count(c) })
	}
	time.Sleep(time.Second)
	for text := range strings.SplitSeq(n.rates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		if err := n.deliver(variant, rate); err != nil {
			return err
		}
	}
	return nil
}

// deliver publishes at a rate and waits until everything has arrived.
func (n *node) deliver(variant string, rate int) error {
	c, err := n.join("room")
	if err != nil {
		return err
	}
	defer c.Close()
	go func() { _, _ = io.Copy(io.Discard, c) }()
	frame := ws.AppendHeader(nil, ws.Header{Fin: true, Op: ws.OpText, Masked: true, Length: uint64(n.size)})
	frame = append(frame, bytes.Repeat([]byte("x"), n.size)...)
	n.got.Store(0)
	before, began := n.cpu(), time.Now()
	messages := rate * n.seconds
	for i := range messages {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		if _, err := c.Write(frame); err != nil {
			return err
		}
	}
	want := int64(messages * n.connections)
	for deadline := time.Now().Add(20 * time.Second); n.got.Load() < want && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(began)
	fmt.Printf("%-14s %7.2f µs of CPU per delivery at %d messages/s; %d of %d arrived within %.1f s\n", variant, micros(n.cpu()-before)/float64(want), rate,
		n.got.Load(), want, took.Seconds())
	return nil
}

// stormed times echoes on one connection while many others come.
func (n *node) stormed(variant string) error {
	if err := n.start(); err != nil {
		return err
	}
	defer n.stop()
	c, err := n.join("echo")
	if err != nil {
		return err
	}
	defer c.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	storm := exec.Command(self, "--against", n.addr, "--storm", strconv.Itoa(n.storm))
	storm.Stderr = os.Stderr
	began := time.Now()
	if err := storm.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- storm.Wait() }()
	var times []time.Duration
	for {
		select {
		case err := <-ended:
			if err != nil || len(times) == 0 {
				return fmt.Errorf("the storm ended too soon: %w", err)
			}
			slices.Sort(times)
			at := func(q float64) float64 { return micros(times[int(q*float64(len(times)-1))]) / 1000 }
			fmt.Printf("%-14s %7.1f ms p50, %.1f ms p99, %.1f ms at most for an echo while %d connections came within %.1f s\n", variant, at(0.5), at(0.99), at(1), n.storm,
				time.Since(began).Seconds())
			return nil
		default:
		}
		took, err := echo(c)
		if err != nil {
			return err
		}
		times = append(times, took)
		time.Sleep(time.Millisecond)
	}
}

// echo sends a text and waits until it has come back.
func echo(c net.Conn) (time.Duration, error) {
	frame := ws.AppendHeader(nil, ws.Header{Fin: true, Op: ws.OpText, Masked: true, Length: 4})
	began := time.Now()
	if _, err := c.Write(append(frame, "echo"...)); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(c, make([]byte, 6))
	return time.Since(began), err
}

// count counts the messages that arrive on a connection.
func (n *node) count(c net.Conn) {
	asm := ws.NewAssembler(&ws.Rules{MaxMessage: 1 << 20, FromServer: true})
	buf := make([]byte, 8<<10)
	for {
		k, err := c.Read(buf)
		if k > 0 {
			_ = asm.Feed(buf[:k], func(ev ws.Event) error {
				if ev.Op == ws.OpText {
					n.got.Add(1)
				}
				return nil
			})
		}
		if err != nil {
			return
		}
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// resident is the process's memory in bytes.
func (n *node) resident() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", n.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.Atoi(strings.Fields(string(b))[1])
	return pages * os.Getpagesize()
}

// cpu is the time that the process has used, to the clock tick of 10 ms.
func (n *node) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
