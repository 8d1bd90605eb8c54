//go:build !linux

package engine

import "net"

// Listen serves the connections of l by Portable: net/http reads all requests, and passes those that it upgrades to
// Engine.Serve. The listener that is returned is l itself, or with TLS one of connections whose handshake is complete.
func Listen(l net.Listener, o LoopOptions, _ bool) (Engine, net.Listener, error) {
	return NewPortable(o.Options), overTLS(l, o), nil
}
