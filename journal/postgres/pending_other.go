//go:build !unix

package postgres

import "net"

// pending cannot look on this system without reading, so every connection is asked for a sign of life before use.
func pending(net.Conn) bool { return true }
