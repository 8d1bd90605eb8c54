package engine

import "net"

// Listen serves the connections of l: requests for o.Upgrader by the engine, all others come out of the listener that is
// returned. With portable, or when l is no TCP listener, the engine is Portable and the listener is l itself, or with TLS one of
// connections whose handshake is complete: net/http reads all requests, and passes those that it upgrades to Engine.Serve.
func Listen(l net.Listener, o LoopOptions, portable bool) (Engine, net.Listener, error) {
	tcp, ok := l.(*net.TCPListener)
	if portable || !ok {
		return NewPortable(o.Options), overTLS(l, o), nil
	}
	e, err := NewLoops(tcp, o)
	if err != nil {
		return nil, nil, err
	}
	return e, e.HTTP(), nil
}
