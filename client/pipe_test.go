package client

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
)

// inFakeTime runs a test whose pauses take no time: connections are pipes in memory, and the clock goes on by itself when everyone
// waits.
func inFakeTime(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// pipes are the fake servers that listen, by host.
var pipes struct {
	sync.Mutex
	made   int
	byHost map[string]*pipeListener
}

// pipeListener accepts connections in memory.
type pipeListener struct {
	host  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func listenPipe() *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	pipes.Lock()
	defer pipes.Unlock()
	if pipes.byHost == nil {
		pipes.byHost = map[string]*pipeListener{}
	}
	pipes.made++
	l.host = fmt.Sprintf("fake-%d:80", pipes.made)
	pipes.byHost[l.host] = l
	return l
}

// dialPipe connects to the fake server of a host; where none listens, connections are refused.
func dialPipe(ctx context.Context, _, host string) (net.Conn, error) {
	pipes.Lock()
	l := pipes.byHost[host]
	pipes.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		pipes.Lock()
		delete(pipes.byHost, l.host)
		pipes.Unlock()
	})
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.host) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }
