// Package testserver starts real servers for tests and demonstrations: each on free loopback ports, with its files
// in a temporary folder, and gone when it is closed or when the process that started it dies.
package testserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// FreePort takes its ports from here: the system gives none of them away by itself, be it to a connection or to who asks for any.
const (
	firstPort = 10_000
	ports     = 20_000
)

// given are the ports that FreePort has returned.
var given sync.Map

// FreePort returns a TCP port of 127.0.0.1 that was free a moment ago. It returns none twice; another process has it only if it asks
// for the very same.
func FreePort() (int, error) {
	var err error
	for range 1000 {
		port := firstPort + rand.IntN(ports)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
			continue // somebody has it
		}
		l.Close()
		if _, again := given.LoadOrStore(port, true); !again {
			return port, nil
		}
	}
	return 0, errors.Join(errors.New("no free port was found"), err)
}

// Nobody returns an address of 127.0.0.1 at which connections are refused, and nobody else can listen, until release is called.
func Nobody() (addr string, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	release = sync.OnceFunc(func() { syscall.Close(fd) })
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		var bound syscall.Sockaddr
		if bound, err = syscall.Getsockname(fd); err == nil {
			return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port), release, nil
		}
	}
	release()
	return "", nil, err
}

// Command prepares a child process that dies with its parent and has a process group of its own.
func Command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c
}

// WaitPort waits until something accepts connections at addr.
func WaitPort(addr string, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing answers at %s after %s: %w", addr, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
