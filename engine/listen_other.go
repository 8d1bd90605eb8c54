//go:build !linux

package engine

import "net"

// Listen serves the connections of l by Portable: net/http reads all requests, and passes those that it upgrades to
// Engine.Serve. The listener that is returned is l itself.
func Listen(l net.Listener, o LoopOptions, _ bool) (Engine, net.Listener, error) {
	return NewPortable(o.Options), l, nil
}
