package engine

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged sends to a peer that takes nothing any more, as one that has vanished does.
func unacknowledged(t *testing.T, s Socket, closed <-chan error) {
	t.Helper()
	s.(Vigilant).CutUnacknowledged(300 * time.Millisecond)
	for b := make([]byte, 64<<10); ; {
		if n, err := s.TryWrite(b); err != nil || n < len(b) {
			break
		}
	}
	select {
	case err := <-closed:
		if !errors.Is(err, unix.ETIMEDOUT) {
			t.Errorf("a connection whose peer acknowledges nothing ends with a timeout of the kernel, not with %v", err)
		}
	case <-time.After(patience):
		t.Error("a connection whose peer acknowledges nothing ends")
	}
}

func TestALoopFindsOutThatAPeerHasVanished(t *testing.T) {
	h := build(t, LoopOptions{}, nil)
	_, p := h.enter("")
	unacknowledged(t, p.socket, p.closed)
}

func TestThePortableEngineFindsOutThatAPeerHasVanished(t *testing.T) {
	each := map[string]func(*testing.T) (net.Conn, net.Conn){"tcp": tcpPair, "tls": func(t *testing.T) (net.Conn, net.Conn) { return tlsPair(t, tcpPair) }}
	for name, pair := range each {
		t.Run(name, func(t *testing.T) {
			e := engine(t, Options{})
			server, peer := pair(t)
			defer peer.Close() // until then it is there: one that nobody holds would be closed by the collector
			r := newRecorder()
			c := e.serve(server, nil, r.with)
			if name == "tls" { // its writes wait in a queue
				c.CutUnacknowledged(300 * time.Millisecond)
				raw, err := lowest(server).(*net.TCPConn).SyscallConn()
				if err != nil {
					t.Fatal(err)
				}
				var set int
				_ = raw.Control(func(fd uintptr) { set, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
				if err != nil || set != 300 {
					t.Errorf("the kernel is told: %d, %v", set, err)
				}
				c.Abort(net.ErrClosed)
				_ = r.awaitClosed(t)
				return
			}
			unacknowledged(t, c, r.closed)
		})
	}
}
