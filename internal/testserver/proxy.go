package testserver

import (
	"io"
	"net"
	"sync"
)

// Proxy passes TCP connections on to a target and can break them in the ways a network does. Its methods may be called
// from any goroutine and take effect at once.
type Proxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	refuse bool
	hole   bool
	moved  *sync.Cond // hole changed, or the proxy was closed
	closed bool
	conns  map[net.Conn]bool
}

// StartProxy listens on a free loopback port and passes connections on to target (host:port).
func StartProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listener: l, conns: map[net.Conn]bool{}}
	p.moved = sync.NewCond(&p.mu)
	p.running.Add(1)
	go p.accept()
	return p, nil
}

// Addr is the proxy's address, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections; new ones are served.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for c := range p.conns {
		c.Close()
	}
}

// Refuse makes new connections end at once while on is true. Connections that exist go on; see Cut.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Blackhole makes all connections, also new ones, silent in both directions while on is true: they stay open and no
// byte arrives, as after a lost peer or a firewall that forgot them. What was held back arrives when it ends.
func (p *Proxy) Blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hole = on
	p.moved.Broadcast()
}

// Close ends the listener and all connections and waits for the proxy's goroutines.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	err := p.listener.Close()
	p.cut()
	p.moved.Broadcast()
	p.mu.Unlock()
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	defer p.running.Done()
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Add(1)
		go p.serve(c)
	}
}

// add remembers c to be closed by Cut. It closes c and returns false when the proxy takes no connections.
func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) remove(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) serve(client net.Conn) {
	defer p.running.Done()
	if !p.add(client) {
		return
	}
	defer p.remove(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.add(server) {
		return
	}
	defer p.remove(server)
	p.running.Go(func() {
		p.pass(server, client)
	})
	p.pass(client, server)
}

// pass copies bytes from one side to the other until one of them ends, then closes both.
func (p *Proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	_, _ = io.Copy(gate{to, p}, onlyReader{from})
}

// gate is a connection that is written to only while there is no black hole.
type gate struct {
	to net.Conn
	p  *Proxy
}

func (g gate) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	for g.p.hole && !g.p.closed {
		g.p.moved.Wait()
	}
	g.p.mu.Unlock()
	return g.to.Write(b)
}

// onlyReader hides a connection's WriteTo, which would pass by the gate.
type onlyReader struct{ io.Reader }
