//go:build !unix

package engine

// newWriter chooses how c is written to.
func newWriter(c *Conn) writer { return newQueueWriter(c) }
